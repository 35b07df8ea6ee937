"""Why a target is, or is not, as it should be: every guard on the way, in its order. Pure.

Each guard says whether it lets the target pass. The first that does not is what is waited for;
those after it are told all the same, because they will be next.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from engine.decide import permission, stages
from engine.decide.compare import FOREIGN_FIELDS, NOT_GONE_YET, Findings
from engine.decide.decision import ON_THE_WAY
from engine.decide.situation import Situation
from engine.decide.state import SyncState, TargetStatus, status
from engine.resources.windows import closed
from events.event import Micros
from events.vocabulary import DifferenceKind, Health, Outcome, Presence

_DIFFERS = (NOT_GONE_YET, FOREIGN_FIELDS, "prune-off", "protected", "copy")
"""Soft holds of what is there and nobody declared."""
_SPARED = (DifferenceKind.IGNORED, DifferenceKind.ACCEPTED)


class Guard(Struct, frozen=True):
    """One thing that has to be so. `at` is since when, `until` when it changes by itself.

    Times are UTC microseconds, 0 for not known; `position` is that of the event that tells it.
    """

    name: str
    passes: bool
    message: str
    position: int = 0
    at: int = 0
    until: int = 0


class Why(Struct, frozen=True):
    """How a target stands, and each guard."""

    status: TargetStatus
    guards: tuple[Guard, ...]

    @property
    def stands_at(self) -> Guard | None:
        """The first guard that does not let the target pass; None where all do."""
        return next((guard for guard in self.guards if not guard.passes), None)


def why(situation: Situation, found: Findings | None) -> Why:
    """Evaluate every guard of a target; `found` is what a comparison says, where there is one."""
    shown = status(situation)
    return Why(shown, tuple(_guards(situation, found, shown)))


def _guards(situation: Situation, found: Findings | None, shown: TargetStatus) -> Iterator[Guard]:
    yield _assigned(situation)
    if not situation.target.assigned:
        # There is nothing left that it should be; at most, something is still to be deleted.
        yield from (_cluster(situation), _suspended(situation), _under_way(situation))
        yield from (_retry(situation), _synced(situation, shown))
        return
    yield _source(situation)
    yield _render(situation)
    yield _cluster(situation)
    yield from _objects(found)
    yield _suspended(situation)
    yield _window(situation)
    yield _under_way(situation)
    yield _retry(situation)
    if found is not None:
        yield _permission(situation, found)
        yield _order(situation, found)
        yield _difference(situation, found)
    yield _synced(situation, shown)
    yield _health(situation)


def _assigned(situation: Situation) -> Guard:
    target = situation.target
    if target.assigned:
        return Guard("assigned", True, f"to {target.cluster}, namespace {target.namespace}")
    message = target.unassigned or "no application goes there"
    hold = target.hold
    if hold:
        message = f"{message}; {hold.message} ({hold.code})"
    return Guard("assigned", False, message, at=hold.at if hold else 0)


def _source(situation: Situation) -> Guard:
    source = situation.source
    failure = source.failure
    if failure:
        message = f"the repository cannot be read: {failure.message} ({failure.code})"
        # What was read before stays in force, so only a target that never had any waits for it.
        return Guard("source", bool(source.commit), message, failure.position, failure.at)
    if not source.commit:
        return Guard("source", False, "the repository has not been read yet")
    message = f"{source.ref} is at {source.commit[:12]}"
    return Guard("source", True, message, source.moved, source.moved_at)


def _render(situation: Situation) -> Guard:
    target, desired = situation.target, situation.desired
    failure = desired.failure
    if target.pin:
        pin = target.pin
        message = f"rolled back to {pin.commit[:12]} by {pin.actor}: {pin.reason}"
        return Guard("render", True, message, pin.position, pin.at)
    if failure:
        place = f" in {failure.file}" if failure.file else ""
        message = f"commit {failure.commit[:12]} does not render{place}: {failure.message}"
        return Guard("render", False, f"{message} ({failure.code})", failure.position, failure.at)
    if not desired.position or not situation.is_current:
        return Guard("render", False, "the newest commit is not rendered yet")
    message = f"{desired.count} objects at {desired.commit[:12]}"
    return Guard("render", True, message, desired.position, desired.at)


def _cluster(situation: Situation) -> Guard:
    cluster = situation.cluster
    if cluster.connected:
        return Guard("cluster", True, f"answers, {cluster.server_version}", at=cluster.since)
    lost = cluster.lost
    if lost is None:
        return Guard("cluster", False, "it was never reached")
    message = f"lost: {lost.message} ({lost.code})"
    return Guard("cluster", False, message, lost.position, lost.at)


def _objects(found: Findings | None) -> Iterator[Guard]:
    for item in found.held if found else ():
        message = f"{item.ref}: {item.message} ({item.code})"
        yield Guard("object", item.soft, message, until=item.until)


def _suspended(situation: Situation) -> Guard:
    held = situation.suspension
    if held is None:
        return Guard("suspended", True, "no")
    message = f"by {held.actor}: {held.reason}"
    return Guard("suspended", False, message, held.position, held.at, held.until)


def _window(situation: Situation) -> Guard:
    spec = situation.spec
    shut = closed(spec.sync.windows, Micros(situation.now)) if spec else None
    if shut is None:
        return Guard("window", True, "open" if spec and spec.sync.windows else "none is set")
    request = permission.granted_request(situation)
    if request and request.override:
        return Guard("window", True, f"overridden by {request.actor}: {request.reason}")
    return Guard("window", False, shut.message, until=shut.until)


def _under_way(situation: Situation) -> Guard:
    plan = situation.corrections.plan
    if plan is None:
        return Guard("correction", True, "none is under way")
    message = f"{len(plan.actions)} actions are under way ({plan.cause})"
    return Guard("correction", False, message, plan.position, plan.at)


def _retry(situation: Situation) -> Guard:
    last = situation.corrections.last
    if last is None or last.code in ("", "abandoned"):
        return Guard("last-attempt", True, "went well" if last else "there was none")
    until = permission.back_off(situation)
    message = f"attempt {situation.corrections.failures} failed: {last.message} ({last.code})"
    return Guard("last-attempt", False, message, last.position, last.at, until)


def _permission(situation: Situation, found: Findings) -> Guard:
    left, actions, approval = permission.permitted(situation, found)
    step = stages.step(situation, left, actions)
    hold = permission.hold(situation, left, approval, hooks=step.hooks)
    if hold:
        return Guard("permission", False, f"{hold.message} ({hold.code})", until=hold.until)
    if approval:
        message = f"the plan is approved by {approval.actor}: {approval.reason}"
        return Guard("permission", True, message, approval.position, approval.at)
    request = situation.open_request
    if request:
        message = f"a sync was asked for by {request.actor}: {request.reason}"
        return Guard("permission", True, message, request.position, request.at)
    mode = situation.spec.sync.mode if situation.spec else "auto"
    return Guard("permission", True, f"nothing is held (sync.mode {mode})")


def _order(situation: Situation, found: Findings) -> Guard:
    left, actions, _ = permission.permitted(situation, found)
    step = stages.step(situation, left, actions)
    if step.hold:
        message = f"{step.hold.message} ({step.hold.code})"
        return Guard("order", False, message, until=step.hold.until)
    if step.stage and step.actions:
        return Guard("order", True, f"next is {step.stage}")
    return Guard("order", True, "nothing waits for another wave, hook or application")


def _difference(situation: Situation, found: Findings) -> Guard:
    number = len(found.changes) + len(found.repairs) + len(found.prunes)
    if not number:
        return Guard("difference", True, _left(situation, found))
    parts = [
        f"{len(items)} {what}"
        for items, what in (
            (found.changes, "changed in Git"),
            (found.repairs, "drifted"),
            (found.prunes, "no longer desired"),
        )
        if items
    ]
    case, desired = situation.drift.open, situation.desired
    if case and found.repairs:
        place, since = case.opened, case.opened_at
    else:
        if found.drift:
            parts.append(f"{len(found.drift)} drifted fields go with it")
        place, since = desired.position, desired.at
    return Guard("difference", False, ", ".join(parts), place, since)


def _left(situation: Situation, found: Findings) -> str:
    """Say what differs all the same where nothing is to be put right, and why it is left."""
    held = sum(1 for item in found.held if not item.soft or item.code in _DIFFERS)
    applied = [
        (each.kind, each.ref.identity, each.path)
        for observed in situation.observed.values()
        for each in (observed.applied.mutated if observed.applied else ())
        if observed.presence is Presence.PRESENT
    ]
    mutated = sum(1 for kind, *_ in applied if kind is DifferenceKind.MUTATED)
    # What was spared by the last apply, and what is since: ignored, accepted or adopted.
    spared = {(identity, path) for kind, identity, path in applied if kind in _SPARED}
    spared |= {(each.ref.identity, each.path) for each in found.ignored}
    parts = [
        told
        for number, told in (
            (held, f"{held} objects wait (above)"),
            (
                len(spared),
                f"{len(spared)} fields are as they are live (ignored, accepted, adopted)",
            ),
            (mutated, f"{mutated} fields are as admission made them"),
        )
        if number
    ]
    return f"nothing is to be put right; {', '.join(parts)}" if parts else "nothing differs"


def _synced(situation: Situation, shown: TargetStatus) -> Guard:
    if shown.sync is SyncState.SYNCED:
        return Guard("synced", True, f"at {shown.revision[:12]}", at=shown.synced_at)
    hold, last = situation.target.hold, situation.corrections.last
    # The one that it is because of tells since when it is; of other states no event tells.
    by = next((each for each in (hold, last) if each and each.code == shown.code), None)
    return Guard("synced", False, f"{shown.sync}: {shown.reason}", at=by.at if by else 0)


def _health(situation: Situation) -> Guard:
    target, last = situation.target, situation.corrections.last
    message, told = f"{target.health}", target.health_message
    if told:
        # On its way the message counts on and nothing is recorded: it is that of the beginning.
        message += f" (at first: {told})" if target.health in ON_THE_WAY else f": {told}"
    if target.health is Health.MISSING and last and last.code == Outcome.CONFLICT:
        message = f"{target.health}: what is in conflict is there, and does not count as ours"
    is_well = target.health in ("healthy", "suspended")
    return Guard("health", is_well, message, at=target.health_since)
