"""Every difference of a target, whether it is corrected or only shown. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from msgspec.structs import replace

from engine.decide.compare import extras, is_applied
from engine.decide.drift import judged
from engine.decide.order import is_protected, runs_to_completion
from engine.decide.situation import Situation
from engine.objects.foreign import ALLOWED, foreign
from engine.objects.kept import Kept, differences
from engine.objects.values import MISSING, changes
from events.vocabulary import Desired, Difference, DifferenceKind, ObjectRef, Presence
from projections.observed import ObservedDocument

SHOWN_ONLY = frozenset(
    {
        DifferenceKind.FOREIGN,
        DifferenceKind.MUTATED,
        DifferenceKind.OWNERSHIP_LOST,
        DifferenceKind.IGNORED,
        DifferenceKind.ACCEPTED,
    }
)
"""Kinds that do not make a target different from what is desired."""


def all_differences(situation: Situation) -> Iterator[Difference]:
    """Yield what differs between desired and live, object by object.

    `situation.bodies` must have the kept form and the live body of every object, and the desired
    bodies, old and new, of those that a commit changes.
    """
    # What hooks leave is no difference, and neither is what they have not run yet.
    expected = {hook.ref.identity for hook in situation.corrections.hooks}
    for desired in situation.inventory:
        kind = situation.kind(desired.ref)
        if desired.hooks:
            if kind is not None and not runs_to_completion(desired.ref):
                expected.add(situation.placed(desired.ref, kind).identity)
            continue
        if kind is None or kind.code:
            expected |= situation.places(desired.ref)
            continue
        ref = situation.placed(desired.ref, kind)
        expected.add(ref.identity)
        observed = situation.observed.get(ref.identity)
        if observed is None or observed.presence is Presence.ABSENT:
            yield Difference(DifferenceKind.MISSING, ref)
        else:
            yield from _of_object(situation, desired, ref, observed)
    for observed in extras(situation, expected):
        if not is_protected(observed.ref) and is_applied(situation, observed):
            yield Difference(DifferenceKind.EXTRA, observed.ref)


def _of_object(
    situation: Situation, desired: Desired, ref: ObjectRef, observed: ObservedDocument
) -> Iterator[Difference]:
    applied = observed.applied
    if applied is None:
        yield Difference(DifferenceKind.CHANGED, ref, after="not applied by us yet")
        return
    every = judged(situation, ref, observed)
    found = [each.difference for each in every]
    # Of an ignored field the apply told what Git says, and a later look what is there now.
    declared = {each.path: each for each in applied.mutated if each.kind is DifferenceKind.IGNORED}
    now = {each.path for each in found}
    yield from (each for each in applied.mutated if each.path not in declared.keys() & now)
    for each in found:
        if each.kind is DifferenceKind.IGNORED and each.path in declared:
            each = replace(each, before=declared[each.path].before)
        yield each
    kept, live = situation.bodies.get(applied.kept), situation.bodies.get(observed.body or "")
    if kept is not None and live is not None:
        form, body = Kept.decode(kept), orjson.loads(live)
        if observed.digest != applied.digest:
            lost = (d for d in differences(form, body, ref) if not d.kind.is_drift)
            yield from lost
        foreigns = {each.difference.path for each in every if each.was is DifferenceKind.FOREIGN}
        yield from (d for d in foreign(form, body, ref, ALLOWED) if d.path not in foreigns)
    if applied.desired != desired.digest:
        yield from _from_git(situation, ref, applied.desired, desired.digest)


def _from_git(situation: Situation, ref: ObjectRef, old: str, new: str) -> Iterator[Difference]:
    bodies = situation.bodies
    if old not in bodies or new not in bodies:
        yield Difference(DifferenceKind.CHANGED, ref, manager="git")
        return
    for path, was, now in changes(orjson.loads(bodies[old]), orjson.loads(bodies[new])):
        kind = DifferenceKind.REMOVED if was is MISSING else DifferenceKind.CHANGED
        yield Difference(kind, ref, path, before=_plain(now), after=_plain(was), manager="git")


def _plain(value: Any) -> Any:
    return None if value is MISSING else value
