"""Every difference of a target, whether it is corrected or only shown. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from engine.decide.compare import compared, extras, is_applied
from engine.decide.order import is_protected
from engine.decide.situation import Situation
from engine.objects.foreign import ALLOWED, foreign
from engine.objects.kept import Kept
from engine.objects.values import MISSING, changes
from events.vocabulary import Desired, Difference, DifferenceKind, ObjectRef, Presence
from projections.observed import ObservedDocument

SHOWN_ONLY = frozenset(
    {DifferenceKind.FOREIGN, DifferenceKind.MUTATED, DifferenceKind.OWNERSHIP_LOST}
)
"""Kinds that do not make a target different from what is desired."""


def all_differences(situation: Situation) -> Iterator[Difference]:
    """Yield what differs between desired and live, object by object.

    `situation.bodies` must have the kept form and the live body of every object, and the desired
    bodies, old and new, of those that a commit changes.
    """
    expected: set[str] = set()
    for desired in situation.inventory:
        kind = situation.kind(desired.ref)
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
    yield from applied.mutated
    if observed.uid != applied.uid:
        yield Difference(DifferenceKind.RECREATED, ref, ".metadata.uid", applied.uid, observed.uid)
    if observed.body is not None:
        if observed.digest != applied.digest:
            yield from compared(situation, applied.kept, observed.body, ref)
        kept, live = situation.bodies.get(applied.kept), situation.bodies.get(observed.body)
        if kept is not None and live is not None:
            yield from foreign(Kept.decode(kept), orjson.loads(live), ref, ALLOWED)
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
