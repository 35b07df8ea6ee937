"""What differs between a target's desired and observed objects, and what would mend it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set

import orjson
from msgspec import Struct, field

from engine.decide.drift import (
    Judged,
    accepted_fields,
    delay,
    is_managed_elsewhere,
    is_spared_no_longer,
    judged,
    policy_of,
    rules_of,
)
from engine.decide.order import is_protected, runs_to_completion, wave_of
from engine.decide.situation import Situation
from engine.objects.health import worst
from engine.objects.managed import Managed
from engine.objects.ownership import MANAGER
from engine.objects.staging import SKIP
from engine.objects.typed import MAX_PATH
from events.vocabulary import (
    Action,
    Desired,
    Difference,
    DifferenceKind,
    FieldRule,
    Health,
    ObjectRef,
    Presence,
    Verb,
)
from projections.clusters import KindState
from projections.drift import Acceptance
from projections.observed import ObservedDocument
from projections.targets import SOFT_HOLDS

NEW, CHANGED, DRIFTED, ADOPTED, SPARED, UNDECLARED, TAKEN_OVER, UNRECORDED, EXTRA, WITHDRAWN = (
    "new",
    "changed in Git",
    "drift",
    "live value adopted",
    "no longer ignored",
    "nobody declared it",
    "taken over",
    "no record of an apply",
    "no longer desired",
    "application withdrawn",
)
"""The reasons that an action can have."""
REPAIRS = frozenset({DRIFTED, ADOPTED, UNDECLARED})
"""Those of actions that answer drift."""
ACCEPTED = "accepted"
"""The code of drift that a person accepted."""
FOREIGN_FIELDS = "foreign-fields"
"""The code of others' fields that are only reported."""
NOT_LISTED = "not-listed-yet"
"""The code of an object whose kind the cluster has not been asked for: wait, it will be."""
NOT_GONE_YET = "not-gone-yet"
"""The code of an object that is not to be there and is being deleted."""
NO_SUCH_KIND = "no-such-kind"
"""The code of a kind that the cluster does not have, so that it has no object of it either."""


class Held(Struct, frozen=True):
    """An object that is left for now."""

    ref: ObjectRef
    code: str
    message: str
    until: int = 0

    @property
    def soft(self) -> bool:
        """Whether the target counts as synced all the same."""
        return self.code in SOFT_HOLDS


class Findings(Struct):
    """What a comparison found: `changes` come from Git, `repairs` mend drift, `prunes` delete.

    `waves` has the waves other than 0, by identity; `unwell` what is there and not healthy yet;
    `hooks` the hooks among what is desired, each with its place on the cluster.
    """

    changes: list[Action]
    repairs: list[Action]
    prunes: list[Action]
    drift: list[Difference]
    held: list[Held]
    ignored: list[Difference]
    """What would be drift, and is ignored or accepted."""
    health: Health
    health_message: str
    waves: dict[str, int] = field(default_factory=dict)
    unwell: list[Unwell] = field(default_factory=list)
    hooks: list[tuple[Desired, ObjectRef]] = field(default_factory=list)

    @property
    def until(self) -> int:
        """When to look again though nothing has happened (UTC microseconds); 0 for never."""
        return min((held.until for held in self.held if held.until), default=0)


class Unwell(Struct, frozen=True):
    """An object that later waves wait for."""

    wave: int
    ref: ObjectRef
    health: Health


def compare(situation: Situation) -> Findings:
    """Compare every desired and every observed object of a target that is assigned."""
    found = Findings([], [], [], [], [], [], Health.HEALTHY, "")
    healths: list[tuple[Health, str]] = []
    seen: set[str] = set()
    expected = {hook.ref.identity for hook in situation.corrections.hooks}
    for desired in situation.inventory:
        if SKIP in desired.hooks:
            continue
        kind = situation.kind(desired.ref)
        if kind is None or kind.code:
            found.held.append(held := _unknown(desired.ref, kind))
            healths.append((Health.UNKNOWN, f"{desired.ref}: {held.message}"))
            found.unwell.append(Unwell(desired.wave, desired.ref, Health.UNKNOWN))
            expected |= situation.places(desired.ref)
            continue
        ref = situation.placed(desired.ref, kind)
        if desired.hooks:
            found.hooks.append((desired, ref))
            if not runs_to_completion(ref):
                expected.add(ref.identity)
            continue
        if ref.identity in seen:
            message = f"{ref} is in the desired state twice once its namespace is filled in"
            found.held.append(Held(ref, "duplicate-object", message))
            continue
        seen.add(ref.identity)
        expected.add(ref.identity)
        if desired.wave:
            found.waves[ref.identity] = desired.wave
        observed = situation.observed.get(ref.identity)
        _compare_object(situation, found, desired, ref, observed)
        healths.append(health := _health(ref, observed))
        if health[0] not in (Health.HEALTHY, Health.SUSPENDED):
            found.unwell.append(Unwell(desired.wave, ref, health[0]))
    for observed in extras(situation, expected):
        _compare_extra(situation, found, observed)
    for observed in extras(situation, expected, Presence.TERMINATING):
        message = f"{observed.ref} is no longer desired; it is being deleted and not gone yet"
        found.held.append(Held(observed.ref, NOT_GONE_YET, message))
    found.health = worst(health for health, _ in healths)
    found.health_message = next((text for health, text in healths if health is found.health), "")
    return found


def _unknown(ref: ObjectRef, kind: KindState | None) -> Held:
    """Hold an object of a kind that could not be listed: what there is of it is not known."""
    if kind is None:
        return Held(ref, NOT_LISTED, "the cluster has not been asked for this kind yet")
    return Held(ref, kind.code, kind.message)


def extras(
    situation: Situation, expected: Set[str], presence: Presence = Presence.PRESENT
) -> Iterator[ObservedDocument]:
    """Yield what is there of a target and is not among the `expected` identities, in order."""
    for identity, observed in sorted(situation.observed.items()):
        if identity in expected or observed.presence is not presence:
            continue
        kind = situation.kind_of_extra(observed.ref)
        if kind is None or kind.code != NO_SUCH_KIND:
            yield observed


def _compare_object(
    situation: Situation,
    found: Findings,
    desired: Desired,
    ref: ObjectRef,
    observed: ObservedDocument | None,
) -> None:
    if observed is None:
        found.changes.append(_apply(situation, desired, ref, NEW, None))
        return
    if observed.presence is Presence.TERMINATING:
        message = f"{ref} is being deleted, and waits for its finalizers"
        found.held.append(Held(ref, "terminating", message))
        return
    every = judged(situation, ref, observed)
    drift = [each.difference for each in every if each.counts]
    if observed.applied is not None and observed.applied.desired != desired.digest:
        drift = [item for item in drift if not _is_our_own(situation, item)]
    found.drift.extend(drift)
    found.ignored.extend(each.difference for each in every if not each.counts)
    accepted = accepted_fields(situation, ref)
    # What was accepted and has changed again is put right like anything else.
    changed = {each.path for each in drift}
    left = tuple(rule for rule in accepted if rule.path not in changed)
    _note_accepted(found, ref, every, [accepted[each] for each in _used(observed, accepted)])
    applied = observed.applied
    if applied is None:
        found.changes.append(_apply(situation, desired, ref, UNRECORDED, observed, left))
    elif any(each.accepted and each.was is DifferenceKind.MISSING for each in every):
        return
    elif applied.desired != desired.digest:
        found.changes.append(_apply(situation, desired, ref, CHANGED, observed, left))
    elif is_spared_no_longer(observed, {*rules_of(situation.spec, ref), *accepted}):
        found.changes.append(_apply(situation, desired, ref, SPARED, observed, left))
    elif drift:
        _meet(situation, found, desired, observed, drift, left)
    elif situation.adoption and is_managed_elsewhere(
        situation, ref, observed, situation.adoption.managers
    ):
        found.changes.append(_apply(situation, desired, ref, TAKEN_OVER, observed, left))


def _used(
    observed: ObservedDocument, accepted: Mapping[FieldRule, Acceptance]
) -> Iterator[FieldRule]:
    """Yield the accepted fields whose live value the last apply kept."""
    applied = observed.applied
    if applied is not None and any(d.kind is DifferenceKind.IGNORED for d in applied.mutated):
        yield from (rule for rule in applied.left if rule in accepted)


def _note_accepted(
    found: Findings, ref: ObjectRef, every: list[Judged], kept: list[Acceptance]
) -> None:
    by = [*(each.accepted for each in every if each.accepted), *kept]
    if by:
        until = min((each.until for each in by if each.until), default=0)
        message = f"drift of {ref} is accepted by {by[0].actor}: {by[0].reason}"
        found.held.append(Held(ref, ACCEPTED, message, until))


def _meet(
    situation: Situation,
    found: Findings,
    desired: Desired,
    observed: ObservedDocument,
    drift: list[Difference],
    left: tuple[FieldRule, ...],
) -> None:
    """Decide what is done about the drift of one object that Git has nothing new to say of."""
    ref = drift[0].ref
    values = [each for each in drift if each.kind is not DifferenceKind.FOREIGN]
    if not values:
        _meet_foreign(situation, found, observed, drift)
        return
    policy, after = policy_of(situation.spec, ref)
    if policy == "adopt" and all(map(_is_adoptable, values)):
        taken = (*left, *(FieldRule(each.path, adopted=True) for each in values))
        found.repairs.append(_apply(situation, desired, ref, ADOPTED, observed, taken))
        return
    if policy == "report" and not situation.is_fetched:
        message = f"{ref} drifted; drift.policy is report"
        found.held.append(Held(ref, "drift-reported", message))
        return
    wait = delay(situation, ref, values, after)
    if wait:
        found.held.append(Held(ref, wait.code, wait.message, wait.until))
    else:
        found.repairs.append(_apply(situation, desired, ref, DRIFTED, observed, left))


def _is_adoptable(difference: Difference) -> bool:
    """Whether an apply can take the live value: not of what is gone, cut off, or not known."""
    return (
        difference.kind
        in (DifferenceKind.CHANGED, DifferenceKind.REMOVED, DifferenceKind.REORDERED)
        and difference.path != ""
        and len(difference.path) < MAX_PATH
    )


def _meet_foreign(
    situation: Situation, found: Findings, observed: ObservedDocument, drift: list[Difference]
) -> None:
    spec, ref = situation.spec, drift[0].ref
    paths = tuple(sorted({each.path for each in drift if each.path and each.manager}))
    if spec is None or spec.foreign_fields.policy != "remove" or not paths:
        others = ", ".join(sorted({each.manager or "unknown" for each in drift}))
        message = f"{ref} has fields that nobody declared, by {others}"
        found.held.append(Held(ref, FOREIGN_FIELDS, message))
        return
    wait = delay(situation, ref, drift, 0)
    if wait:
        found.held.append(Held(ref, wait.code, wait.message, wait.until))
        return
    found.repairs.append(
        Action(
            verb=Verb.REMOVE,
            ref=ref,
            reason=UNDECLARED,
            uid=observed.uid,
            resource_version=observed.resource_version,
            observed=observed.digest,
            wave=wave_of(ref, Verb.APPLY),
            paths=paths,
        )
    )


def _is_our_own(situation: Situation, difference: Difference) -> bool:
    """Whether a difference may come from an apply of ours whose answer never came.

    The commit that was applied explains it then, and the next apply makes it known.
    """
    last = situation.corrections.last
    nobody_else = difference.manager in ("", MANAGER)
    is_edit = difference.kind not in (DifferenceKind.MISSING, DifferenceKind.RECREATED)
    return last is not None and nobody_else and is_edit and difference.ref.identity in last.unsure


def _compare_extra(situation: Situation, found: Findings, observed: ObservedDocument) -> None:
    ref = observed.ref
    spec = situation.spec
    kind = situation.kind_of_extra(ref)
    if kind is None or kind.code:
        found.held.append(_unknown(ref, kind))
    elif is_protected(ref):
        message = f"{ref} is no longer desired; objects of its kind are never pruned"
        found.held.append(Held(ref, "protected", message))
    elif not is_applied(situation, observed):
        message = f"{ref} says that it is of this application, which never applied it: a copy?"
        found.held.append(Held(ref, "copy", message))
    elif spec is None or not spec.sync.prune:
        message = f"{ref} is no longer desired; sync.prune is off"
        found.held.append(Held(ref, "prune-off", message))
    else:
        found.prunes.append(delete(observed, EXTRA))


def is_applied(situation: Situation, observed: ObservedDocument) -> bool:
    """Whether we made an object what it is: else it is somebody's copy, with our annotation.

    Where an engine was killed before it could record an apply, the object itself tells.
    """
    if observed.applied is not None:
        return True
    body = situation.bodies.get(observed.body or "")
    return body is not None and Managed(orjson.loads(body)).own is not None


def _health(ref: ObjectRef, observed: ObservedDocument | None) -> tuple[Health, str]:
    if observed is None or observed.presence is Presence.ABSENT:
        return Health.MISSING, f"{ref} is not there"
    if observed.presence is Presence.TERMINATING:
        return Health.PROGRESSING, f"{ref} is being deleted"
    message = f"{ref}: {observed.message}" if observed.message else ""
    return observed.health, message


def _apply(
    situation: Situation,
    desired: Desired,
    ref: ObjectRef,
    reason: str,
    observed: ObservedDocument | None,
    left: tuple[FieldRule, ...] = (),
) -> Action:
    takes = situation.adoption if reason in (NEW, UNRECORDED, TAKEN_OVER) else None
    present = observed is not None and observed.presence is Presence.PRESENT
    # Who makes anew what was ours (`kubectl replace --force`) has made a drift, not a claim.
    was_ours = observed is not None and observed.applied is not None
    return Action(
        verb=Verb.APPLY,
        ref=ref,
        reason=reason,
        desired=desired.digest,
        secret=desired.secret,
        uid=observed.uid if observed and present else "",
        resource_version=observed.resource_version if observed and present else "",
        observed=observed.digest if observed and present else "",
        force=present or was_ours,
        wave=wave_of(ref, Verb.APPLY),
        leave=(*rules_of(situation.spec, ref), *left),
        adopt=takes is not None,
        managers=takes.managers if takes else (),
        owners=takes.owners if takes else (),
    )


def delete(observed: ObservedDocument, reason: str) -> Action:
    """Return the action that deletes an object just as it was observed."""
    return Action(
        verb=Verb.DELETE,
        ref=observed.ref,
        reason=reason,
        uid=observed.uid,
        resource_version=observed.resource_version,
        observed=observed.digest,
        wave=wave_of(observed.ref, Verb.DELETE),
    )
