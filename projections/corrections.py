"""What is being done about each target, and what the last attempt came to.

Pure. A plan without an outcome after a restart is work that was cut off.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from events.catalog import (
    CorrectionAbandoned,
    CorrectionApplied,
    CorrectionFailed,
    CorrectionPlanned,
    Fact,
    Facts,
    HookEnded,
)
from events.event import Event
from events.vocabulary import Action, ObjectRef, Outcome, Result, Verb
from projections.fold import StreamFold, names


class Plan(Struct, frozen=True, omit_defaults=True):
    """A correction that was planned. `position` is that of its event."""

    position: int
    at: int
    commit: str
    cause: str
    attempt: int
    facts: Facts
    actions: tuple[Action, ...]
    drift_case: str = ""
    approval: int = 0
    remaining: int = 0
    rest: str = ""
    run: int = 0
    stage: str = ""


class Hook(Struct, frozen=True, omit_defaults=True):
    """A run of a hook, from when it was planned: `run` is the sync's, `phase` its place there.

    `applied`: the server has taken it. `gone`: we have deleted it again.
    """

    ref: ObjectRef
    phase: str
    run: int
    applied: bool = False
    ended: bool = False
    succeeded: bool = False
    message: str = ""
    gone: bool = False


class Ended(Struct, frozen=True, omit_defaults=True):
    """How a correction ended: `code` is "" where it was applied, `abandoned`, or what failed.

    `failed` has the identities of the objects whose action did not come to its end (where another
    failed, without those that had moved on since they were observed), `unsure` those to which an
    apply was sent, or may have been, whose answer is not known.
    `rest` is the digest of what its approval covers and it did not hold.
    `retry_at` is by the engine's clock, as is `said_at`, when the end was written.
    """

    plan: int
    position: int
    at: int
    commit: str
    cause: str
    actions: int
    facts: Facts
    code: str = ""
    message: str = ""
    retry_at: int = 0
    drift_case: str = ""
    failed: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()
    approval: int = 0
    rest: str = ""
    said_at: int = 0

    def waits_until(self, now: int) -> int:
        """Return until when another try has to wait; 0 where it need not.

        Where the clock was set back to before the end, `retry_at` says nothing any more.
        """
        return self.retry_at if self.said_at <= now < self.retry_at else 0


class CorrectionDocument(Struct, frozen=True, omit_defaults=True):
    """The corrections of one target. `failures` counts those in a row that failed.

    `run` is the last sync that was begun, `stepped_at` when its last step began or ended, `hooks`
    what it and earlier ones ran and left.
    `beside` is the last repair (attempt 0) that was made while `last`, which failed, waits.
    """

    plan: Plan | None = None
    last: Ended | None = None
    failures: int = 0
    beside: Ended | None = None
    run: int = 0
    stepped_at: int = 0
    hooks: tuple[Hook, ...] = ()

    @property
    def is_beside(self) -> bool:
        """Whether what is under way is a repair beside a failed correction that waits."""
        return self.plan is not None and not self.plan.attempt and self.last is not None


class CorrectionsView(StreamFold[CorrectionDocument]):
    """Corrections by target stream; indexed by whether one is under way ("planned")."""

    name = "corrections"
    version = 7
    document = CorrectionDocument
    types = names(
        (CorrectionPlanned, CorrectionApplied, CorrectionFailed, CorrectionAbandoned, HookEnded)
    )
    kinds = ("target",)
    indexes: tuple[str, ...] = ("state",)

    def apply(
        self, key: str, document: CorrectionDocument | None, event: Event, fact: Fact
    ) -> CorrectionDocument | None:
        """Fold one event."""
        known = stepped(document or CorrectionDocument(), event, fact)
        match fact:
            case CorrectionPlanned():
                plan = Plan(
                    position=event.position,
                    at=event.recorded_at,
                    commit=fact.commit,
                    cause=fact.cause,
                    attempt=fact.attempt,
                    facts=fact.facts,
                    actions=fact.actions,
                    drift_case=fact.drift_case,
                    approval=fact.approval,
                    remaining=fact.remaining,
                    rest=fact.rest,
                    run=fact.run,
                    stage=fact.stage,
                )
                return replace(known, plan=plan)
            case HookEnded():
                return known
            case CorrectionApplied() | CorrectionFailed() | CorrectionAbandoned() if (
                known.is_beside
            ):
                return _beside(known, event, fact)
            case CorrectionApplied():
                last = _ended(known, event, fact.plan)
                return replace(known, plan=None, last=last, failures=0, beside=None)
            case CorrectionFailed():
                last = _ended(known, event, fact.plan)
                if last:
                    last = replace(
                        last,
                        code=fact.code,
                        message=fact.message,
                        retry_at=fact.retry_at,
                        failed=_failed(fact),
                        unsure=_unsure(fact, known.last),
                    )
                return replace(known, plan=None, last=last, failures=fact.attempt, beside=None)
            case CorrectionAbandoned():
                last = _ended(known, event, fact.plan)
                if last and known.plan:
                    applies = [a.ref for a in known.plan.actions if a.verb is Verb.APPLY]
                    unsure = _joined(known.last, [ref.identity for ref in applies])
                    last = replace(last, code="abandoned", message=fact.reason, unsure=unsure)
                return replace(known, plan=None, last=last, beside=None)
        return document

    def index(self, document: CorrectionDocument) -> tuple[str | None, ...]:
        """Whether a correction is under way."""
        return ("planned" if document.plan else None,)


def _beside(
    known: CorrectionDocument,
    event: Event,
    fact: CorrectionApplied | CorrectionFailed | CorrectionAbandoned,
) -> CorrectionDocument:
    """Note a repair that was made while a failed correction waits, which goes on waiting."""
    ended, last = _ended(known, event, fact.plan), known.last
    if isinstance(fact, CorrectionFailed) and ended and last:
        ended = replace(ended, code=fact.code, message=fact.message, retry_at=fact.retry_at)
        if fact.code != Outcome.STALE:
            last = replace(last, failed=(*last.failed, *_failed(fact)))
    if isinstance(fact, CorrectionAbandoned):
        ended = known.beside
    return replace(known, plan=None, last=last, beside=ended)


HOOKS_KEPT = 300
"""How many runs of hooks are remembered, the newest; what is older is deleted as any object."""


def stepped(known: CorrectionDocument, event: Event, fact: Fact) -> CorrectionDocument:
    """Note what a fact says of the sync that is under way, and of its hooks."""
    match fact:
        case CorrectionPlanned() if fact.run:
            known = replace(known, run=fact.run, hooks=_begun(known.hooks, fact))
            is_of_failure = fact.stage == "sync-fail"
            return known if is_of_failure else replace(known, stepped_at=event.recorded_at)
        case CorrectionApplied() | CorrectionFailed() if known.plan and known.plan.run:
            known = replace(known, hooks=_resulted(known.hooks, known.plan.run, fact.results))
            is_of_failure = known.plan is not None and known.plan.stage == "sync-fail"
            return known if is_of_failure else replace(known, stepped_at=event.recorded_at)
        case HookEnded():
            ended = (
                replace(hook, ended=True, succeeded=fact.succeeded, message=fact.message)
                if (hook.ref, hook.phase, hook.run) == (fact.ref, fact.hook, fact.run)
                else hook
                for hook in known.hooks
            )
            return replace(known, hooks=tuple(ended), stepped_at=event.recorded_at)
    return known


def _begun(hooks: tuple[Hook, ...], fact: CorrectionPlanned) -> tuple[Hook, ...]:
    known = {(hook.ref, hook.phase, hook.run) for hook in hooks}
    new = tuple(
        Hook(action.ref, action.hook, fact.run)
        for action in fact.actions
        if action.hook
        and action.verb is Verb.APPLY
        and (action.ref, action.hook, fact.run) not in known
    )
    again = {(hook.ref, hook.phase) for hook in new}
    left = tuple(
        hook
        for hook in hooks
        if hook.run == fact.run or not (hook.gone or (hook.ref, hook.phase) in again)
    )
    return (*left, *new)[-HOOKS_KEPT:]


def _resulted(hooks: tuple[Hook, ...], run: int, results: tuple[Result, ...]) -> tuple[Hook, ...]:
    applied = {r.ref.identity for r in results if r.outcome.is_success and r.verb is Verb.APPLY}
    deleted = {r.ref.identity for r in results if r.outcome.is_success and r.verb is Verb.DELETE}
    return tuple(
        replace(
            hook,
            applied=hook.applied or (hook.run == run and hook.ref.identity in applied),
            gone=hook.gone or hook.ref.identity in deleted,
        )
        for hook in hooks
    )


def _failed(fact: CorrectionFailed) -> tuple[str, ...]:
    """Return what waits. What had merely moved on does not, beside what failed in earnest."""
    is_stale = fact.code == Outcome.STALE
    return tuple(
        result.ref.identity
        for result in fact.results
        if not result.outcome.is_success and (is_stale or result.outcome is not Outcome.STALE)
    )


def _joined(before: Ended | None, more: Iterable[str]) -> tuple[str, ...]:
    """Return what was unsure already, and more, each once."""
    return tuple(dict.fromkeys((*(before.unsure if before else ()), *more)))


def _unsure(fact: CorrectionFailed, before: Ended | None) -> tuple[str, ...]:
    """Return what is unsure after a failure: an answer to a later apply makes an object sure.

    One that says that the object had moved on does not: that may have been the earlier apply.
    """
    # Also those that the server says have failed: it may have been its own time-out.
    outcomes = (Outcome.UNREACHABLE, Outcome.FAILED)
    applies = [result for result in fact.results if result.verb is Verb.APPLY]
    sure = {result.ref.identity for result in applies if result.outcome.is_success}
    lost = [result.ref.identity for result in applies if result.outcome in outcomes]
    return tuple(each for each in _joined(before, lost) if each not in sure)


def _ended(document: CorrectionDocument, event: Event, position: int) -> Ended | None:
    plan = document.plan
    if plan is None or plan.position != position:
        return document.last
    return Ended(
        plan=position,
        position=event.position,
        at=event.recorded_at,
        commit=plan.commit,
        cause=plan.cause,
        actions=len(plan.actions),
        facts=plan.facts,
        drift_case=plan.drift_case,
        approval=plan.approval,
        rest=plan.rest,
        said_at=event.occurred_at,
    )


CORRECTIONS = CorrectionsView()
