"""Whether and how a live object differs from what was kept of it, decoding excluded; one core."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import orjson

from benchmarks.frame import Figure, alternate
from benchmarks.support.watched import EYES, Known, Object, known, updates
from engine.clusters.look import look
from engine.objects.kept import differences
from events.vocabulary import ObjectRef

T = TypeVar("T")
_ONE_IN = 100
"""How many updates there are for one that changes something of ours."""


async def figures(
    objects: int = 1000, updates_of_each: int = 10, rounds: int = 3
) -> AsyncIterator[Figure]:
    """Yield the figures, all in objects a second of CPU.

    `diff.unchanged` compares updates of which 99 in 100 differ in status and managed fields alone;
    its ceiling is `==` of two equal objects with their status and managed fields left out.
    `diff.changed` compares updates that all change a field of ours; `diff.look` is what an update
    costs once it is decoded and before it is compared: redacted, hashed, its health read. Its
    ceiling is a bare hash of the body.
    """
    found = known("bench", objects)
    count = objects * updates_of_each
    params = {"objects": objects, "rounds": rounds, "one_in": _ONE_IN}
    some = list(updates(found, count, _ONE_IN))
    lean = [(_lean(of.live), _lean(of.live)) for of, _ in some]
    value, ceiling = await alternate(
        lambda: _compared(some, count // _ONE_IN), lambda: _rate(lean, _is_same), rounds
    )
    yield Figure("diff.unchanged", value, "objects/s", ceiling, params)
    every = list(updates(found, objects, 1))
    value, ceiling = await alternate(
        lambda: _compared(every, objects), lambda: _rate(lean, _is_same), rounds
    )
    yield Figure("diff.changed", value, "objects/s", ceiling, params | {"one_in": 1})
    bodies = [(of.ref, live) for of, live in some]
    value, ceiling = await alternate(
        lambda: _rate(bodies, _looked), lambda: _rate(bodies, _hashed), rounds
    )
    yield Figure("diff.look", value, "objects/s", ceiling, params)


async def _compared(some: list[tuple[Known, Object]], expected: int) -> float:
    began = time.process_time()
    changed = 0
    for of, live in some:
        if differences(of.kept, live, of.ref):
            changed += 1
    seconds = time.process_time() - began
    if changed != expected:
        raise AssertionError(f"{changed} of {expected} changes were found")
    return len(some) / seconds


async def _rate(items: list[T], work: Callable[[T], object]) -> float:
    began = time.process_time()
    for item in items:
        work(item)
    return len(items) / (time.process_time() - began)


def _is_same(pair: tuple[Object, Object]) -> bool:
    return pair[0] == pair[1]


def _looked(item: tuple[ObjectRef, Object]) -> object:
    return look(*item, EYES)


def _hashed(item: tuple[ObjectRef, Object]) -> bytes:
    return hashlib.sha256(orjson.dumps(item[1])).digest()


def _lean(live: Object) -> Object:
    """Return a copy of an object without status and bookkeeping; equal parts are not shared."""
    lean: Object = orjson.loads(orjson.dumps(live))
    lean.pop("status", None)
    del lean["metadata"]["managedFields"], lean["metadata"]["resourceVersion"]
    return lean
