"""Comparing a target with another commit, or with how it was at another time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from engine.decide.situation import Situation
from engine.http.api import Api
from engine.http.moment import Moment, reading
from engine.http.steer import commit_named, desired_at
from engine.http.targets import no_target
from engine.objects.values import MISSING, changes
from engine.situations import Inventories, read_kept_bodies, read_situation
from events.vocabulary import Desired, Difference, DifferenceKind, ObjectRef, Presence
from projections.fold import TargetId

COMMIT = re.compile(r"[0-9a-f]{7,40}")
_BOOKKEEPING = ("managedFields", "resourceVersion", "generation")


async def against_commit(
    api: Api, target: TargetId, situation: Situation, moment: Moment, revision: str
) -> list[Difference]:
    """Return what Git says now of each object that it did not say at a commit."""
    commit = await commit_named(moment.reader, target.project, revision)
    then = await desired_at(api, target, commit)
    objects = await Inventories(api.log).of(then.objects)
    before = {each.ref.identity: each for each in objects}
    after = {each.ref.identity: each for each in situation.inventory}
    changed = [
        key for key in before.keys() | after.keys() if _digest(before, key) != _digest(after, key)
    ]
    digests = {_digest(side, key) for key in changed for side in (before, after)} - {""}
    bodies = await read_kept_bodies(api.log, digests)
    found: list[Difference] = []
    for key in sorted(changed):
        ref = (after.get(key) or before[key]).ref
        old, new = (bodies.get(_digest(side, key)) for side in (before, after))
        found += _differences(ref, old, new, "git")
    return found


async def against_time(
    api: Api, target: TargetId, situation: Situation, when: str
) -> list[Difference]:
    """Return what is on the cluster now that was not at another time, and the other way round."""
    async with reading(api, when) as moment:
        then = await read_situation(moment.reader, api.log, target, moment.now, every_body=True)
        if then is None:
            raise await no_target(moment.reader, target)
    found: list[Difference] = []
    before, after = _live(then), _live(situation)
    for key in sorted(before.keys() | after.keys()):
        ref = (situation if key in after else then).observed[key].ref
        found += _differences(ref, before.get(key), after.get(key), "")
    return found


def _digest(side: Mapping[str, Desired], key: str) -> str:
    return side[key].digest if key in side else ""


def _live(situation: Situation) -> dict[str, bytes]:
    return {
        key: situation.bodies[document.body]
        for key, document in situation.observed.items()
        if document.presence is Presence.PRESENT
        and document.body
        and document.body in situation.bodies
    }


def _differences(
    ref: ObjectRef, old: bytes | None, new: bytes | None, manager: str
) -> Iterator[Difference]:
    if old is None or new is None:
        kind = DifferenceKind.EXTRA if old is None else DifferenceKind.MISSING
        if old is not new:
            yield Difference(kind, ref, manager=manager)
        return
    for path, was, now in changes(_bare(old), _bare(new)):
        kind = DifferenceKind.REMOVED if now is MISSING else DifferenceKind.CHANGED
        before, after = (None if value is MISSING else value for value in (was, now))
        yield Difference(kind, ref, path, before, after, manager)


def _bare(body: bytes) -> Any:
    value = orjson.loads(body)
    metadata = value.get("metadata")
    if isinstance(metadata, dict):
        value["metadata"] = {k: v for k, v in metadata.items() if k not in _BOOKKEEPING}
    return value
