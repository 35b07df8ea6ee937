"""What is seen of one attempt at a target: its trace, and what it came to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from engine.decide.decision import Decision
from engine.decide.situation import Situation
from engine.ports import Clock
from engine.reconcile.queue import MICROS, Call
from engine.telemetry import spans
from engine.telemetry.instruments import (
    APPLIED_TO_HEALTHY,
    COMMIT_TO_SYNCED,
    CORRECTION_LATENCY,
    CORRECTIONS,
    QUEUE_WAIT,
    RECONCILE_DURATION,
    broken_down,
)
from engine.telemetry.log import link_to
from events.catalog import CorrectionApplied, CorrectionPlanned, Fact, HealthChanged, TargetSynced
from events.catalog import ReconcileHeld as Held
from events.log import EventLog
from events.vocabulary import Health
from projections.declared import DECLARED
from projections.fold import TargetId
from projections.projection import Reader

ENVIRONMENT_LABELS = ("environment", "env", "stage")
"""The first of these labels that a cluster has names its environment."""
_RESULTS = {"applied": "success", "synced": "success", "failed": "failure", "error": "error"}
_SOON = 60 * MICROS
_RANK = ("nothing", "waiting", "changed", "synced", "held", "applied", "failed", "error")
"""What an attempt can come to; of several, the last in this list is the one that is told."""


class Attempt:
    """One turn of a target: what happens in it is told here as it happens."""

    def __init__(self, target: TargetId) -> None:
        self.labels = broken_down(target.cluster, f"{target.project}/{target.application}")
        self._linked: set[int] = set()
        self.outcome = "nothing"

    def came_to(self, outcome: str) -> None:
        """Note an outcome, unless something weightier was noted."""
        if _RANK.index(outcome) > _RANK.index(self.outcome):
            self.outcome = outcome

    def decided(self, situation: Situation, decision: Decision) -> None:
        """Note what was decided."""
        if decision.waiting:
            self.came_to("waiting")
        for fact in decision.facts:
            match fact:
                case Held():
                    self.came_to("held")
                case TargetSynced():
                    self.came_to("synced")
                case _:
                    self.came_to("changed")
        spans.annotate(
            {
                "trueup.seen": situation.seen,
                "trueup.waiting": decision.waiting,
                "trueup.facts": tuple(type(fact).__name__ for fact in decision.facts),
            }
        )

    async def goes_back_to(self, log: EventLog, positions: Iterable[int | None], how: str) -> None:
        """Link the attempt to the traces in which these events were written."""
        new = {position for position in positions if position} - self._linked
        self._linked |= new
        await link_to(log, new, how)

    @contextmanager
    def health(self, situation: Situation, decision: Decision) -> Iterator[None]:
        """Show the recording of a change of health as a span of its own."""
        changed = next((fact for fact in decision.facts if isinstance(fact, HealthChanged)), None)
        if changed is None:
            yield
            return
        said = {
            "trueup.health": changed.health.value,
            "trueup.health.previous": situation.target.health.value,
        }
        with spans.span("health", said):
            yield

    def ended(self, situation: Situation, plan: CorrectionPlanned, fact: Fact, now: int) -> None:
        """Note how a correction ended."""
        outcome = "applied" if isinstance(fact, CorrectionApplied) else "failed"
        self.came_to(outcome)
        labels = {"trueup.outcome": outcome, "trueup.cause": plan.cause, **self.labels}
        CORRECTIONS.add(1, labels)
        if outcome == "applied" and plan.drift_case:
            case = situation.drift.open
            opened = case.opened_at if case else situation.now
            CORRECTION_LATENCY.record((now - opened) / MICROS, self.labels)

    def recorded(self, situation: Situation, decision: Decision, now: int) -> None:
        """Note that what was decided is in the log."""
        for fact in decision.facts:
            match fact:
                case TargetSynced() if _is_news(situation):
                    moved = situation.source.moved_at
                    COMMIT_TO_SYNCED.record((now - moved) / MICROS, self.labels)
                case HealthChanged(health=Health.HEALTHY):
                    applied = _unsettled_by(situation)
                    if applied:
                        APPLIED_TO_HEALTHY.record((now - applied) / MICROS, self.labels)


def _is_news(situation: Situation) -> bool:
    """Whether a target is synced to a commit that came while it was there, for the first time."""
    synced, source, application = situation.target.synced, situation.source, situation.application
    return (
        source.commit == situation.desired.commit
        and (synced is None or synced.commit != source.commit)
        and application is not None
        and application.position < source.moved
    )


def _unsettled_by(situation: Situation) -> int:
    """Return when the correction was applied that a target recovers from; 0 where it is none.

    What began to fail long after a correction does not fail because of it.
    """
    last = situation.corrections.last
    if last is None or last.code or situation.target.health_since > last.at + _SOON:
        return 0
    return last.at


@contextmanager
def attempt(target: TargetId, call: Call, clock: Clock) -> Iterator[Attempt]:
    """Trace and time the turn of a target that waited since `call.since`."""
    made = Attempt(target)
    now, began = clock.now(), clock.monotonic()
    QUEUE_WAIT.record((now - call.since) / MICROS, made.labels)
    said = {
        "cicd.pipeline.action.name": "SYNC",
        "cicd.pipeline.name": f"{target.project}/{target.application}",
        "k8s.cluster.name": target.cluster,
        "trueup.project": target.project,
        "trueup.application": target.application,
        "trueup.target": target.label,
    }
    with spans.span("reconcile", said, causes=call.causes, began=call.since, root=True) as span:
        spans.past("wait", call.since, now)
        try:
            yield made
        except Exception:
            made.came_to("error")
            raise
        finally:
            labels = {"trueup.outcome": made.outcome, **made.labels}
            RECONCILE_DURATION.record(clock.monotonic() - began, labels)
            spans.annotate(
                {
                    "trueup.outcome": made.outcome,
                    "cicd.pipeline.result": _RESULTS.get(made.outcome, "skip"),
                }
            )
            if made.outcome == "failed":
                spans.failed(span, "correction-failed")


async def description(reader: Reader, situation: Situation) -> spans.Attributes:
    """Return what is to be said of a situation in a span that is recorded."""
    cluster = await reader.get(DECLARED, situation.id.cluster_stream)
    labels = cluster.document.labels if cluster else {}
    environment = next((labels[name] for name in ENVIRONMENT_LABELS if name in labels), "")
    return {
        "deployment.environment.name": environment,
        "k8s.namespace.name": situation.target.namespace,
        "vcs.ref.head.revision": situation.desired.commit,
        "trueup.objects": len(situation.inventory),
    }
