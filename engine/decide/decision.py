"""What to do about a target, and whether now. Pure.

`decide` turns a situation into the facts that are appended to the target's stream; a plan among
them is carried out afterwards. The same situation always gives the same facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from engine.decide import permission, stages
from engine.decide.aftermath import aftermath
from engine.decide.compare import (
    ADOPTED,
    FOREIGN_FIELDS,
    NOT_GONE_YET,
    NOT_LISTED,
    REPAIRS,
    WITHDRAWN,
    Findings,
    Held,
    compare,
    delete,
    extras,
    is_applied,
)
from engine.decide.order import in_order, is_protected
from engine.decide.situation import Situation
from engine.decide.stages import Step
from events.catalog import (
    CorrectionPlanned,
    DriftDetected,
    DriftResolved,
    Fact,
    Facts,
    HealthChanged,
    HoldLifted,
    ReconcileHeld,
    TargetSynced,
)
from events.vocabulary import Action, Difference, DifferenceKind, Health, Outcome, Presence
from projections.drift import DriftCase
from projections.targets import Approval

PLAN_CAUSES = ("commit", "drift", "adoption", "request", "withdrawal", "recovery")
"""What a correction can be for."""
DRIFT_LISTED = 100
"""How many differences of one case are written out; the others are counted."""
PLAN_ACTIONS = 250
"""How many actions one plan holds, so that its outcome fits into one event; the others follow."""
ON_THE_WAY = (Health.PROGRESSING, Health.MISSING)
"""Healths whose message is recorded when they begin, and not each time that it changes."""
HOLD_LISTED = 20
"""How many objects a hold names."""
STALE = str(Outcome.STALE)


class Decision(Struct, frozen=True):
    """What is appended, in this order; and when to look again though nothing has happened."""

    facts: tuple[Fact, ...]
    until: int = 0
    waiting: str = ""
    """Why nothing is decided yet, where that is not worth an event."""

    @property
    def plan(self) -> CorrectionPlanned | None:
        """The plan among the facts."""
        return next((fact for fact in self.facts if isinstance(fact, CorrectionPlanned)), None)


def findings(situation: Situation) -> Findings | None:
    """Compare what is desired with what is there; None where nothing is to be compared."""
    is_desired = situation.target.assigned and situation.spec and situation.desired.position
    return compare(situation) if is_desired else None


def decide(situation: Situation, found: Findings | None = None) -> Decision:
    """Decide about one target. The caller sees to it that no correction is under way.

    `found` is what `findings` said of the situation, where that was asked before.
    """
    target = situation.target
    if not target.assigned:
        return _withdraw(situation)
    if situation.spec is None:
        return Decision((), waiting="the application was withdrawn")
    if not situation.desired.position:
        return _without_render(situation)
    found = compare(situation) if found is None else found
    if any(item.code == NOT_LISTED for item in found.held):
        return Decision((), waiting="the cluster has not listed every kind yet")
    facts: list[Fact] = [*_drift_facts(situation, found), *_health_facts(situation, found)]
    found, actions, approval = permission.permitted(situation, found)
    step = stages.step(situation, found, actions)
    facts += step.ended
    hold = permission.hold(situation, found, approval, hooks=step.hooks)
    if step.actions and hold is None:
        wait = permission.back_off(situation)
        if wait:
            return _meanwhile(situation, facts, step.actions, wait)
        facts += [
            *_lift(situation),
            _plan(situation, step, actions, (found, approval) if approval else None),
        ]
        return Decision(tuple(facts))
    after = aftermath(situation, found, step)
    facts += after.facts
    until = min(filter(None, (hold.until if hold else step.until, after.until)), default=0)
    hold = hold or step.hold or _unanswered(situation)
    is_synced = hold is None and _is_synced(found)
    facts += _hold_facts(situation, hold or _left_over(found))
    if is_synced and not _answers_later(situation) and _is_news(situation):
        desired = situation.desired
        facts.append(
            TargetSynced(desired.commit, desired.position, desired.objects, count=desired.count)
        )
    ends = (until, found.until)
    return Decision(tuple(facts), until=min((end for end in ends if end), default=0))


def stamped(facts: Iterable[Fact], seen: int) -> list[Fact]:
    """Note in facts at which position the views were read that they were decided on."""
    return [replace(fact, seen=seen) if hasattr(fact, "seen") else fact for fact in facts]


def _meanwhile(
    situation: Situation, facts: list[Fact], actions: tuple[Action, ...], wait: int
) -> Decision:
    """Wait with what failed; put right what drifted beside it: one bad object holds up itself."""
    last = situation.corrections.last
    failed = set(last.failed) if last else set()
    repairs = tuple(
        action
        for action in actions
        if action.reason in REPAIRS and action.ref.identity not in failed
    )
    if not repairs:
        return Decision(tuple(facts), until=wait, waiting="retrying later")
    beside = situation.corrections.beside
    if beside and beside.code == STALE and (until := beside.waits_until(situation.now)):
        until = min(wait, until)
        return Decision(tuple(facts), until=until, waiting="retrying later")
    plan = _plan(situation, Step(repairs), repairs)
    return Decision((*facts, replace(plan, cause="drift", attempt=0)))


def _without_render(situation: Situation) -> Decision:
    failure = situation.desired.failure
    if failure is None:
        return Decision((), waiting="nothing was rendered yet")
    hold = ReconcileHeld("render-failed", f"commit {failure.commit[:12]}: {failure.message}")
    return Decision(tuple(_hold_facts(situation, hold)))


def _withdraw(situation: Situation) -> Decision:
    """Leave what was made where it is, or delete it where that was asked for."""
    case = situation.drift.open
    facts: list[Fact] = [DriftResolved(case.case, "unassigned")] if case else []
    actions = [
        delete(observed, WITHDRAWN)
        for observed in extras(situation, frozenset())
        if not is_protected(observed.ref) and is_applied(situation, observed)
    ]
    if not situation.target.cascade or not actions:
        left = _still_there(situation) if situation.target.cascade else None
        return Decision((*facts, *_hold_facts(situation, left)))
    hold = permission.paused(situation)
    if hold:
        return Decision((*facts, *_hold_facts(situation, hold)), until=hold.until)
    wait = permission.back_off(situation)
    if wait:
        return Decision(tuple(facts), until=wait, waiting="retrying later")
    every = in_order(actions)
    return Decision((*facts, *_lift(situation), _plan(situation, Step(every), every)))


def _still_there(situation: Situation) -> ReconcileHeld | None:
    """Say what of a withdrawn application was deleted and is not gone yet."""
    ending = extras(situation, frozenset(), Presence.TERMINATING)
    refs = [each.ref for each in ending if is_applied(situation, each)]
    if not refs:
        return None
    more = f" (and {len(refs) - 1} more objects)" if len(refs) > 1 else ""
    message = f"{refs[0]} is being deleted and not gone yet{more}"
    return ReconcileHeld(NOT_GONE_YET, message, objects=tuple(refs[:HOLD_LISTED]))


def _left_over(found: Findings) -> ReconcileHeld | None:
    """Return why some objects are left although nothing can be done about them now."""
    for soft in (False, True):
        held = [item for item in found.held if item.soft is soft]
        if held:
            return _held(held)
    return None


def _unanswered(situation: Situation) -> ReconcileHeld | None:
    """Return why a person's request cannot be answered, after the look that it asked for."""
    request, source = situation.open_request, situation.source
    if request is None or source.requested < request.position:
        return None
    failure = situation.desired.failure
    if source.requested_failed and source.failure:
        message = f"the repository cannot be read: {source.failure.message}"
        return ReconcileHeld("source-failed", message)
    if failure and situation.is_current:
        message = f"commit {failure.commit[:12]} does not render: {failure.message}"
        return ReconcileHeld("render-failed", message)
    return None


def _held(held: list[Held]) -> ReconcileHeld:
    first = held[0]
    same = [item for item in held if item.code == first.code]
    more = f" (and {len(same) - 1} more objects)" if len(same) > 1 else ""
    refs = tuple(item.ref for item in same[:HOLD_LISTED])
    until = min((item.until for item in same if item.until), default=0)
    return ReconcileHeld(first.code, first.message + more, until=until, objects=refs)


def _plan(
    situation: Situation,
    step: Step,
    every: tuple[Action, ...],
    approved: tuple[Findings, Approval] | None = None,
) -> CorrectionPlanned:
    """Plan a step; `every` has all that is to be done, hooks left out."""
    approval = approved[1] if approved else None
    actions = step.actions
    last, synced = situation.corrections.last, situation.target.synced
    attempt = permission.attempt(situation)
    part = _part(actions, attempt)
    taken = {action.ref.identity for action in part}
    rest = tuple(action for action in every if action.ref.identity not in taken)
    repairs = [action.reason in REPAIRS for action in actions]
    drift_only = all(repairs)
    if last and last.code == "abandoned":
        cause = "recovery"
    elif approval:
        cause = "approval"
    elif drift_only:
        is_adoption = all(action.reason == ADOPTED for action in actions)
        cause = "adoption" if is_adoption else "drift"
    elif situation.open_request:
        cause = "request"
    elif not situation.target.assigned:
        cause = "withdrawal"
    elif situation.target.pin:
        cause = "rollback"
    else:
        cause = "commit"
    return CorrectionPlanned(
        commit=situation.desired.commit or (synced.commit if synced else ""),
        facts=Facts(
            seen=situation.seen,
            desired=situation.desired.position,
            observed=max((doc.seen for doc in situation.observed.values()), default=0),
            target=situation.target.position,
        ),
        actions=part,
        cause=cause,
        attempt=attempt,
        drift_case=_case(situation) if any(repairs) else "",
        approval=approval.position if approval else 0,
        remaining=len(rest),
        rest=permission.plan_digest(situation, approved[0], rest) if approved and rest else "",
        run=0 if drift_only or not situation.target.assigned else situation.run,
        stage=step.stage,
    )


def _part(actions: tuple[Action, ...], attempt: int) -> tuple[Action, ...]:
    """Return the actions of this plan; those that are left are for the next ones.

    The first ones, but each attempt after a failure begins further on, so that actions that fail
    again and again do not keep the others from being tried.
    """
    parts = -(-len(actions) // PLAN_ACTIONS)
    start = (attempt - 1) % max(parts, 1) * PLAN_ACTIONS
    return actions[start : start + PLAN_ACTIONS]


def _case(situation: Situation) -> str:
    open_case = situation.drift.open
    if open_case:
        return open_case.case
    return f"{situation.id.project}/{situation.id.label}#{situation.drift.cases + 1}"


def _drift_facts(situation: Situation, found: Findings) -> Iterator[Fact]:
    open_case, drift = situation.drift.open, found.drift
    if drift:
        listed = tuple(drift[:DRIFT_LISTED])
        omitted = len(drift) - len(listed)
        if open_case is None or (open_case.differences, open_case.omitted) != (listed, omitted):
            yield DriftDetected(_case(situation), listed, omitted)
    elif open_case:
        yield _resolved(situation, open_case, found.ignored)


def _resolved(
    situation: Situation, case: DriftCase, ignored: Sequence[Difference]
) -> DriftResolved:
    """Say how a case ended of which nothing is left that counts."""
    corrections = situation.corrections
    known = {(each.ref.identity, each.path) for each in case.differences}
    for kind, how in ((DifferenceKind.ACCEPTED, "accepted"), (DifferenceKind.IGNORED, "ignored")):
        if any(each.kind is kind and (each.ref.identity, each.path) in known for each in ignored):
            return DriftResolved(case.case, how)
    beside = corrections.beside
    is_besides = beside is not None and beside.drift_case == case.case and not beside.code
    last = beside if is_besides else corrections.last
    if last and last.drift_case == case.case and not last.code:
        how = "adopted" if last.cause == "adoption" else "corrected"
        return DriftResolved(case.case, how, last.position)
    if last and last.position > case.opened and not last.code:
        return DriftResolved(case.case, "superseded", last.position)
    return DriftResolved(case.case, "reverted")


def _health_facts(situation: Situation, found: Findings) -> Iterator[Fact]:
    """Say how the target fares where that changed.

    On the way to healthy the message counts pods and rises with each, or names the first of those
    that are still missing: it is no news by itself.
    """
    target = situation.target
    is_news = found.health_message != target.health_message
    if found.health is not target.health or (is_news and found.health not in ON_THE_WAY):
        yield HealthChanged(found.health, found.health_message)


def _hold_facts(situation: Situation, hold: ReconcileHeld | None) -> Iterator[Fact]:
    known = situation.target.hold
    if hold is None:
        yield from _lift(situation)
    elif known is None or (known.code, known.message) != (hold.code, hold.message):
        yield replace(hold, again=known is not None and known.code == hold.code)


def _lift(situation: Situation) -> Iterator[Fact]:
    if situation.target.hold:
        yield HoldLifted(situation.target.hold.code)


def _is_synced(found: Findings) -> bool:
    hard = any(not item.soft for item in found.held)
    # Others' fields that are only reported are no part of what was declared.
    reported = {item.ref.identity for item in found.held if item.code == FOREIGN_FIELDS}
    drift = any(
        each.kind is not DifferenceKind.FOREIGN or each.ref.identity not in reported
        for each in found.drift
    )
    return not (hard or found.changes or found.repairs or found.prunes or drift)


def _answers_later(situation: Situation) -> bool:
    """Whether a person's request is open whose look at the repository is still to come."""
    return situation.open_request is not None and not situation.is_fetched


def _is_news(situation: Situation) -> bool:
    synced, last = situation.target.synced, situation.corrections.last
    if synced is None or synced.desired != situation.desired.position:
        return True
    if last and last.code and last.position > synced.position:
        # What a correction failed at was put right by somebody else.
        return True
    is_asked = situation.open_request is not None or situation.adoption is not None
    return is_asked or situation.in_run
