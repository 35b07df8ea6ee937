"""How drift is met: what counts as drift, and whether it is put right now. Pure.

What an application ignores, and what a person accepted, is shown and does not count. The rest is
corrected, reported or adopted, by kind; and who keeps overwriting us is met ever more slowly.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
from msgspec import Struct
from msgspec.structs import replace

from engine.decide.situation import Situation
from engine.objects.compare import Found, limited
from engine.objects.foreign import ALLOWED, foreign_found
from engine.objects.kept import Kept, drift
from engine.objects.left import SCALED_BY_CLUSTER, covers, pointer_of
from engine.objects.managed import Managed, entries_of
from engine.objects.takeover import TOOLS
from engine.resources.duration import seconds
from engine.resources.model import Allowed, ApplicationSpec, Ignored, ObjectSelector
from events.vocabulary import Difference, DifferenceKind, FieldRule, ObjectRef, Presence
from projections.drift import WAR_ROUNDS, Acceptance, Fight, wait_after
from projections.observed import ObservedDocument

REDACTED = "unknown: a body that tells was redacted"
"""What is found of an object whose recorded body a person erased."""
_MICROS = 1_000_000


class Judged(NamedTuple):
    """A difference as it stands in the log: of kind IGNORED or ACCEPTED where it is no drift.

    `was` is its kind as such.
    """

    difference: Difference
    was: DifferenceKind
    accepted: Acceptance | None = None

    @property
    def counts(self) -> bool:
        """Whether it is drift."""
        return self.difference.kind is self.was


class Delay(Struct, frozen=True):
    """Why drift is not put right yet, and until when (UTC microseconds)."""

    code: str
    message: str
    until: int


def selects(selector: ObjectSelector, ref: ObjectRef) -> bool:
    """Whether a selector is about an object."""
    return (
        selector.group in (None, ref.group)
        and selector.kind in (None, ref.kind)
        and selector.namespace in (None, ref.namespace)
        and selector.name in (None, ref.name)
    )


def rules_of(spec: ApplicationSpec | None, ref: ObjectRef) -> tuple[FieldRule, ...]:
    """Return which fields of an object its application ignores."""
    return _rules(spec.ignore_differences, ref) if spec is not None else ()


def _rules(declared: Sequence[Ignored | Allowed], ref: ObjectRef) -> tuple[FieldRule, ...]:
    return tuple(
        FieldRule(path, manager)
        for rule in declared
        if selects(rule, ref)
        for path in rule.paths or ("",)
        for manager in rule.managers or ("",)
    )


def policy_of(spec: ApplicationSpec | None, ref: ObjectRef) -> tuple[str, int]:
    """Return how drift of an object is met, and after how long (microseconds) it is corrected."""
    if spec is None:
        return "correct", 0
    rule = next((rule for rule in spec.drift.rules if selects(rule, ref)), spec.drift)
    return rule.policy, int(seconds(rule.after) * _MICROS)


def accepted_fields(situation: Situation, ref: ObjectRef) -> dict[FieldRule, Acceptance]:
    """Return which fields of an object a person has accepted as they are, and who that was."""
    return {
        FieldRule(each.path): acceptance
        for acceptance in situation.drift.accepted
        if acceptance.holds(situation.now)
        for each in acceptance.differences
        if each.path
        and each.ref.identity == ref.identity
        and each.kind is not DifferenceKind.RECREATED
    }


def is_spared_no_longer(observed: ObservedDocument, rules: Collection[FieldRule]) -> bool:
    """Whether the last apply kept live values because of a rule that no longer is."""
    applied = observed.applied
    if applied is None or not set(applied.left) - set(rules):
        return False
    return any(each.kind is DifferenceKind.IGNORED for each in applied.mutated)


def judged(situation: Situation, ref: ObjectRef, observed: ObservedDocument) -> list[Judged]:
    """Return how an object differs from what was applied, and whether that is drift."""
    applied = observed.applied
    if applied is None:
        return []
    if observed.presence is Presence.ABSENT:
        return _accepted(situation, [Difference(DifferenceKind.MISSING, ref)])
    whole: list[Difference] = []
    if observed.uid != applied.uid:
        whole.append(
            Difference(DifferenceKind.RECREATED, ref, ".metadata.uid", applied.uid, observed.uid)
        )
    found: list[Judged] = []
    if observed.digest != applied.digest and observed.body is not None:
        values, ignored = fields(situation, applied.kept, observed.body, ref)
        whole += values
        found += [Judged(item, item.kind) for item in ignored]
        found = [Judged(replace(each, kind=DifferenceKind.IGNORED), was) for each, was, _ in found]
    whole += unwelcome(situation, ref, observed)
    return [*_accepted(situation, whole), *found]


def fields(
    situation: Situation, kept: str, live: str, ref: ObjectRef
) -> tuple[list[Difference], list[Difference]]:
    """Return how a live body differs from a kept form, by their digests: drift, and ignored.

    Where one of them was redacted that cannot be told, and counts as a change: one more apply
    makes it known again.
    """
    kept_body, live_body = situation.bodies.get(kept), situation.bodies.get(live)
    if kept_body is None or live_body is None:
        return [Difference(DifferenceKind.CHANGED, ref, after=REDACTED)], []
    form, body = Kept.decode(kept_body), orjson.loads(live_body)
    rules = (*rules_of(situation.spec, ref), SCALED_BY_CLUSTER)
    counted: list[Found] = []
    ignored: list[Found] = []
    for found in drift(form, body, ref):
        is_ignored = _is_covered(rules, found, body, form.values)
        (ignored if is_ignored else counted).append(found)
    return (
        [found.difference for found in limited(counted, ref)],
        [found.difference for found in limited(ignored, ref)],
    )


def _is_covered(rules: Sequence[FieldRule], found: Found, live: Any, kept: Any = None) -> bool:
    path, by = found.path, found.difference
    pointer = pointer_of(path, live, kept)
    return bool(path) and any(
        covers(rule, path, pointer, by.manager, by.subresource) for rule in rules
    )


def unwelcome(situation: Situation, ref: ObjectRef, observed: ObservedDocument) -> list[Difference]:
    """Return the fields of others that the application does not allow; [] where it allows all."""
    spec, applied = situation.spec, observed.applied
    if spec is None or applied is None or spec.foreign_fields.policy == "allow":
        return []
    kept, live = situation.bodies.get(applied.kept), situation.bodies.get(observed.body or "")
    if kept is None or live is None:
        return []
    body = orjson.loads(live)
    allowed = (*rules_of(spec, ref), *_rules(spec.foreign_fields.allow, ref))
    found = foreign_found(Kept.decode(kept), body, ref, ALLOWED)
    left = [item for item in found if not _is_covered(allowed, item, body)]
    return [item.difference for item in limited(left, ref)]


def _accepted(situation: Situation, found: list[Difference]) -> list[Judged]:
    holding = [each for each in situation.drift.accepted if each.holds(situation.now)]
    return [_judge(difference, holding) for difference in found]


def _judge(difference: Difference, holding: Sequence[Acceptance]) -> Judged:
    for acceptance in holding:
        if any(_is_same(difference, each) for each in acceptance.differences):
            marked = replace(difference, kind=DifferenceKind.ACCEPTED)
            return Judged(marked, difference.kind, acceptance)
    return Judged(difference, difference.kind)


def _is_same(now: Difference, accepted: Difference) -> bool:
    """Whether a difference is the one that was accepted: the same field with the same value."""
    return (now.kind, now.ref.identity, now.path, now.after) == (
        accepted.kind,
        accepted.ref.identity,
        accepted.path,
        accepted.after,
    )


def delay(
    situation: Situation, ref: ObjectRef, found: Sequence[Difference], after: int
) -> Delay | None:
    """Return why drift of an object is not put right yet: its time of grace, or a war.

    A sync that a person asked for waits for neither.
    """
    if situation.is_fetched:
        return None
    case = situation.drift.open
    since = case.began.get(ref.identity, situation.now) if case else situation.now
    if after and since + after > situation.now:
        when = f"{datetime.fromtimestamp((since + after) / _MICROS, UTC):%Y-%m-%d %H:%M:%S} UTC"
        return Delay("drift-grace", f"{ref} drifted; it is put right at {when}", since + after)
    fights = [fight for each in found for fight in _fights(situation, each)]
    worst = max(fights, key=lambda fight: fight.rounds, default=None)
    if worst is None:
        return None
    until = worst.last_at + wait_after(worst.rounds)
    return Delay("war", _told(ref, worst), until) if until > situation.now else None


def _fights(situation: Situation, difference: Difference) -> Iterator[Fight]:
    key = (difference.ref.identity, difference.path, difference.manager)
    for fight in situation.drift.fights:
        if (
            (fight.identity, fight.path, fight.manager) == key
            and fight.rounds >= WAR_ROUNDS
            and not fight.is_over(situation.now)
        ):
            yield fight


def _told(ref: ObjectRef, fight: Fight) -> str:
    who = fight.manager or "somebody (no field manager is on record)"
    where = f"{fight.path} of {ref}" if fight.path else str(ref)
    return (
        f"{who} keeps overwriting {where}: it was put right {fight.rounds} times, and is now at "
        f"longer intervals. Stop the other side, or say in ignoreDifferences that it may"
    )


def is_managed_elsewhere(
    situation: Situation, ref: ObjectRef, observed: ObservedDocument, managers: Sequence[str]
) -> bool:
    """Whether another tool has fields in an object of ours that `adopt` would take over.

    Or had: where a take-over was broken off in the middle, its fields are ours already, and what
    of them Git does not declare is still there.
    """
    body = situation.bodies.get(observed.body or "")
    if body is None:
        return False
    live = orjson.loads(body)
    is_elsewhere = any(
        (entry.manager in TOOLS or entry.manager in managers)
        and not entry.subresource
        and entry.api_version == ref.api_version
        for entry in entries_of(live)
    )
    return is_elsewhere or _has_more_than_applied(situation, observed, live)


def _has_more_than_applied(
    situation: Situation, observed: ObservedDocument, live: Mapping[str, Any]
) -> bool:
    """Whether fields are booked to us that no apply of ours named."""
    kept = situation.bodies.get(observed.applied.kept) if observed.applied else None
    own = Managed(live).own
    return kept is not None and own is not None and bool(own.fields - Kept.decode(kept).fields)
