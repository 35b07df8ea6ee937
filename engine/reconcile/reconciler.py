"""Works where desired and actual state differ: views -> decide -> act -> append.

One pass at a time for a target. Intent before deed: the plan is in the log before the first
request, its outcome after the last, and the next decision waits until the views have both.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import anyio
import anyio.abc
from msgspec import Struct

from engine.decide.decision import Decision, decide, findings, stamped
from engine.decide.outcome import Backoff, backoff_of, conclude
from engine.decide.situation import Situation
from engine.ports import Clock, ClusterPort
from engine.process.supervise import AWAY
from engine.reconcile.act import Bodies, carry_out
from engine.reconcile.gather import Situations
from engine.reconcile.places import Places
from engine.reconcile.queue import MICROS, TargetQueue
from engine.telemetry import spans
from engine.telemetry.attempt import Attempt, attempt
from engine.telemetry.instruments import FAULTS
from events.catalog import (
    CorrectionAbandoned,
    CorrectionPlanned,
    DriftDetected,
    DriftResolved,
    Fact,
)
from events.event import Actor, Blob, Micros, NewEvent, Position, Version
from events.log import Appended, EventLog, LogUnavailable, WrongVersion
from events.vocabulary import Desired
from projections.fold import TargetId
from projections.views import Views

logger = logging.getLogger(__name__)

ACTOR = Actor("engine:reconciler")
_PASSES = 20
"""How often one turn decides about a target before others have theirs."""
_LOG_DOWN_RETRY = 2
"""Seconds before a target is looked at again after the log could not be reached."""
_FAULT_RETRY = 30
"""Seconds before a target is looked at again after a fault of ours."""


class Limits(Struct, frozen=True):
    """How much is done at once: targets and requests in total, targets per cluster and per
    application, requests per target."""

    targets: int = 256
    requests: int = 64
    targets_per_cluster: int = 32
    targets_per_application: int = 16
    requests_per_target: int = 8


class ViewsBehind(Exception):
    """A decision could not be appended however often it was made: a fault of ours, in the views."""

    def __init__(self, target: TargetId) -> None:
        super().__init__(f"the views do not show what the log has of {target.label}")


class Clusters(Protocol):
    """The clusters that are declared now."""

    def port(self, cluster_stream: str) -> ClusterPort | None:
        """Return the way to a cluster; None where it is not declared."""
        ...


class Reconciler:
    """Looks at targets, one pass at a time each, many at once."""

    def __init__(
        self,
        log: EventLog,
        views: Views,
        clusters: Clusters,
        bodies: Bodies,
        clock: Clock,
        *,
        limits: Limits,
        backoff: Backoff,
        check_lease: Callable[[], None],
    ) -> None:
        self._log, self._views, self._clusters = log, views, clusters
        self._bodies, self._clock = bodies, clock
        self._limits, self._backoff, self._check_lease = limits, backoff, check_lease
        self._situations = Situations(views, log, clock)
        self._unready: dict[str, set[TargetId]] = {}
        self._group: anyio.abc.TaskGroup
        self._places = Places(limits.requests, clock)
        self.queue = TargetQueue(
            clock,
            total=limits.targets,
            per_cluster=limits.targets_per_cluster,
            per_application=limits.targets_per_application,
        )

    @property
    def inventories_weight(self) -> int:
        """The bytes of lists of desired objects that are at hand."""
        return self._situations.inventories_weight

    async def run(self) -> None:
        """Work for ever; cancelled, it leaves plans that a later start finds by fold."""
        async with anyio.create_task_group() as self._group:
            self._group.start_soon(self.queue.run_timers)
            self._group.start_soon(self._situations.run)
            self._group.start_soon(self._places.run)
            while True:
                target = await self.queue.take()
                self._group.start_soon(self._turn, target)

    async def _turn(self, target: TargetId) -> None:
        try:
            with attempt(target, self.queue.call(target), self._clock) as seen:
                until = await self.reconcile(target, seen)
            if until:
                self.queue.add_at(target, until)
        except AWAY as error:
            logger.warning(
                "target is left for now", extra={"target": target.label, "error": str(error)}
            )
            self.queue.add_at(target, self._clock.now() + _LOG_DOWN_RETRY * MICROS)
        except Exception:
            # A fault in one target's turn must not stop the others.
            logger.exception("target failed", extra={"target": target.label})
            FAULTS.add(1, {"trueup.part": "reconcile"})
            self.queue.add_at(target, self._clock.now() + _FAULT_RETRY * MICROS)
        finally:
            self.queue.done(target)

    async def reconcile(self, target: TargetId, seen: Attempt) -> int:
        """Decide and act until there is nothing to do now; return when to look again, or 0."""
        overtaken = 0
        for _ in range(_PASSES):
            situation = await self._situation(target)
            if situation is None:
                return 0
            if situation.corrections.plan:
                await self._abandon(situation, seen)
                continue
            port = self._clusters.port(target.cluster_stream)
            if port is None:
                return 0
            await port.want(_application(target), _kinds(situation))
            if not port.ready and situation.cluster.connected:
                self._look_when_ready(target, port)
                return 0
            decision = self._decide(situation, seen)
            if not decision.facts:
                return decision.until
            appended = await self._append(situation, decision, seen)
            if appended is None:
                overtaken += 1
                continue
            if decision.plan is None:
                # Decided once more, nothing would be: whatever else happens calls us again.
                await self._views.reached(appended)
                return decision.until
            fact = await self._carry_out(situation, decision.plan, appended, port)
            seen.ended(situation, decision.plan, fact, self._clock.now())
        if overtaken == _PASSES:
            # Never because of others: the views do not show the stream as it is.
            raise ViewsBehind(target)
        return self._clock.now()

    async def _situation(self, target: TargetId) -> Situation | None:
        with spans.span("observe"):
            situation, said = await self._situations.of(target)
        spans.annotate(said)
        return situation

    @staticmethod
    def _decide(situation: Situation, seen: Attempt) -> Decision:
        with spans.span("diff"):
            found = findings(situation)
        with spans.span("decide"):
            decision = decide(situation, found)
            seen.decided(situation, decision)
        return decision

    def _look_when_ready(self, target: TargetId, port: ClusterPort) -> None:
        """Look at a target again once its cluster has been listed: that need not be an event."""
        waiting = self._unready.get(target.cluster_stream)
        if waiting is None:
            waiting = self._unready[target.cluster_stream] = set()
            self._group.start_soon(self._when_ready, target.cluster_stream, port)
        waiting.add(target)

    async def _when_ready(self, cluster: str, port: ClusterPort) -> None:
        await port.until_ready()
        for target in self._unready.pop(cluster):
            self.queue.add(target)

    async def _append(
        self, situation: Situation, decision: Decision, seen: Attempt
    ) -> Position | None:
        """Append a decision's facts; None where the target moved on since it was read."""
        target = situation.target
        events = [
            NewEvent(
                event_id=self._clock.event_id(),
                stream=situation.id.stream,
                fact=fact,
                actor=ACTOR,
                occurred_at=Micros(situation.now),
                expected=Version(target.version + index),
                causation=_cause(situation, fact),
                correlation=_story(situation, fact),
            )
            for index, fact in enumerate(stamped(decision.facts, situation.seen))
        ]
        await seen.goes_back_to(self._log, [event.causation for event in events], "cause")
        last = situation.corrections.last
        await seen.goes_back_to(self._log, [last.position if last else None], "correction")
        try:
            with seen.health(situation, decision):
                appended = await self._log.append(events)
        except WrongVersion:
            await self._views.reached(await self._log.head())
            return None
        seen.recorded(situation, decision, self._clock.now())
        return appended.last

    async def _carry_out(
        self,
        situation: Situation,
        plan: CorrectionPlanned,
        position: Position,
        port: ClusterPort,
    ) -> Fact:
        target = situation.id
        said: spans.Attributes = {
            "cicd.pipeline.run.id": f"{target.stream}#{position}",
            "trueup.plan": position,
            "trueup.attempt": plan.attempt,
            "trueup.cause": plan.cause,
        }
        with spans.span("correct", said):
            done = await carry_out(
                plan,
                _application(target),
                port,
                self._bodies,
                places=self._places,
                width=self._limits.requests_per_target,
                check_lease=self._check_lease,
                dry_run=situation.spec is not None and situation.spec.sync.dry_run,
            )
        fact = conclude(
            position,
            plan.attempt,
            done.results,
            now=self._clock.now(),
            chance=self._clock.random(),
            backoff=backoff_of(situation.spec, self._backoff),
            retry_after=done.retry_after,
        )
        await self._record(situation, _story(situation, plan), fact, position, done.blobs)
        return fact

    async def _abandon(self, situation: Situation, seen: Attempt) -> None:
        plan = situation.corrections.plan
        assert plan is not None
        await seen.goes_back_to(self._log, [plan.position], "correction")
        fact = CorrectionAbandoned(
            plan.position, "the engine stopped before the outcome was recorded; looking again"
        )
        story = _story(situation, fact)
        await self._record(situation, story, fact, Position(plan.position), ())

    async def _record(
        self,
        situation: Situation,
        story: str,
        fact: Fact,
        cause: Position,
        blobs: Sequence[Blob],
    ) -> None:
        """Append what became of a plan, whatever else happened to the target meanwhile."""
        event = NewEvent(
            event_id=self._clock.event_id(),
            stream=situation.id.stream,
            fact=fact,
            actor=ACTOR,
            occurred_at=self._clock.now(),
            causation=cause,
            correlation=story,
        )
        appended = await self._append_at_last(event, blobs)
        await self._views.reached(appended.last)

    async def _append_at_last(self, event: NewEvent, blobs: Sequence[Blob]) -> Appended:
        """Append for as long as it takes, under our lease.

        The reader of a cluster takes what was answered to us for recorded: were an outcome given
        up, its objects would count as changed behind our back for ever.
        """
        while True:
            try:
                return await self._log.append([event], blobs)
            except LogUnavailable as error:
                self._check_lease()
                logger.warning("an outcome waits", extra={"error": str(error)})
                await self._clock.sleep(_LOG_DOWN_RETRY)


def _application(target: TargetId) -> str:
    return f"{target.project}/{target.application}"


def _kinds(situation: Situation) -> set[tuple[str, str]]:
    """Name the kinds that a target uses: those desired, and those of what is still there."""
    target = situation.target
    if not target.assigned and not target.cascade:
        return set()
    wanted = {_kind(desired) for desired in situation.inventory}
    present = {
        (document.ref.api_version, document.ref.kind)
        for document in situation.observed.values()
        if document.applied or document.body
    }
    groups = {(api_version.rpartition("/")[0], kind) for api_version, kind in wanted}
    return wanted | {
        (api_version, kind)
        for api_version, kind in present
        if (api_version.rpartition("/")[0], kind) not in groups
    }


def _kind(desired: Desired) -> tuple[str, str]:
    return desired.ref.api_version, desired.ref.kind


def _cause(situation: Situation, fact: Fact) -> Position | None:
    """Name the event that a decision's fact goes back to."""
    request, case = situation.target.request, situation.drift.open
    last = situation.corrections.last
    seen = max((document.seen for document in situation.observed.values()), default=0)
    if isinstance(fact, DriftDetected):
        return Position(seen) if seen else None
    if isinstance(fact, DriftResolved):
        return Position(fact.correction) if fact.correction else None
    if isinstance(fact, CorrectionPlanned):
        if fact.cause == "drift":
            return Position(case.opened if case else seen)
        if fact.cause == "request" and request:
            return Position(request.position)
        if fact.cause == "withdrawal" and situation.application:
            return Position(situation.application.position)
        if fact.cause == "recovery" and last:
            return Position(last.position)
    return Position(situation.desired.position) if situation.desired.position else None


def _story(situation: Situation, fact: Fact) -> str:
    """Return the id of the whole story that a fact belongs to: a drift case, or a render."""
    match fact:
        case DriftDetected() | DriftResolved():
            return fact.case
        case CorrectionPlanned() if fact.drift_case:
            return fact.drift_case
    plan = situation.corrections.plan
    if plan and plan.drift_case:
        return plan.drift_case
    return f"{situation.id.project}/{situation.id.application}@{situation.desired.commit[:12]}"
