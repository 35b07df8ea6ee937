"""Kept forms at hand: shared between clusters, bounded by bytes, read again when needed."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.bounded import ITEM, Bounded
from engine.clusters.kept import _READY_TIMES, KeptForms
from engine.clusters.settings import ClusterSettings
from engine.objects.canonical import canonical
from engine.objects.kept import Kept, freeze
from events.event import Blob, blob
from events.memory import MemoryLog
from tests.fakes import ManualClock

DATA = Path(__file__).parents[1] / "objects" / "data"


class CountingLog(MemoryLog):
    """A log that counts how many bodies it is asked for."""

    asked = 0

    async def blobs(self, digests):  # type: ignore[no-untyped-def]
        self.asked += len(digests)
        return await super().blobs(digests)


def form(name: str) -> Kept:
    return Kept("v1", {"f:data": {f"f:{name}": {}}}, {"data": {name: "x"}}, {})


def forms_of(kept_bytes: int) -> tuple[KeptForms, CountingLog]:
    clock = ManualClock()
    log = CountingLog(clock.now)
    return KeptForms(log, clock, ClusterSettings(kept_bytes=kept_bytes)), log


@pytest.mark.anyio
async def test_the_same_form_is_held_once_and_a_dropped_one_is_read_again() -> None:
    forms, log = forms_of(3 * 2 * (ITEM + 150))
    stored: list[Blob] = [forms.put(form(name)) for name in ("a", "a", "b", "c")]
    await log.put(stored)
    assert stored[0] is stored[1]
    assert len(forms._packed) == 2
    digests = [blob.digest for blob in stored]
    del stored
    gc.collect()
    assert await forms.get(digests[3]) == form("c")
    assert log.asked == 0
    assert await forms.get(digests[0]) == form("a")
    assert log.asked == 1
    assert len(forms._packed) == 2


@pytest.mark.anyio
async def test_where_there_is_room_for_none_each_look_reads_and_finds() -> None:
    forms, log = forms_of(0)
    stored = [forms.put(form(name)) for name in ("a", "b")]
    await log.put(stored)
    digests = [blob.digest for blob in stored]
    del stored
    gc.collect()
    await forms.load(digests)
    for digest, name in zip(digests, ("a", "b"), strict=True):
        assert await forms.get(digest) == form(name)
    assert (log.asked, forms.weight) == (4, 0)


@pytest.mark.anyio
async def test_a_form_that_is_yet_to_be_appended_is_found_whatever_there_is_room_for() -> None:
    forms, log = forms_of(0)
    stored = forms.put(form("a"))
    await forms.load([stored.digest])
    assert await forms.get(stored.digest) == form("a")
    assert log.asked == 0


@pytest.mark.anyio
async def test_a_superseded_form_takes_no_room_and_is_read_again_where_it_is_still_in_use() -> None:
    forms, log = forms_of(30_000)
    digests = []
    for turn in range(50):
        stored = forms.put(form(f"turn-{turn}"))
        await log.put([stored])
        assert await forms.get(stored.digest) is not None
        forms.supersede(digests[-1] if digests else None, stored.digest)
        forms.supersede(stored.digest, stored.digest)
        digests.append(stored.digest)
        assert (len(forms._packed), len(forms._ready)) == (1, 1)
    del stored
    gc.collect()
    assert await forms.get(digests[0]) == form("turn-0")


@pytest.mark.anyio
async def test_what_the_log_does_not_have_is_none_and_what_is_no_form_is_none() -> None:
    forms, log = forms_of(10_000)
    lost = forms.put(form("a")).digest
    forms._packed.drop(lost)
    gc.collect()
    assert await forms.get(lost) is None
    assert await forms.get(None) is None
    broken = blob(b"[]")
    await log.put([broken])
    assert await forms.get(broken.digest) is None


def recorded() -> list[Kept]:
    """Return forms of what a real API server answered, decoded as they are when read."""
    found = []
    for path in sorted(DATA.glob("*.json")):
        answer: Any = orjson.loads(path.read_bytes())
        kept = freeze(answer["answer"])
        assert kept is not None, path
        found.append(kept)
    return found


def taken(make: Callable[[], object]) -> int:
    """Count what the objects take that this makes, in bytes."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = make()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        del kept


def test_what_is_kept_takes_no_more_room_than_it_has_bytes() -> None:
    for kept in recorded():
        for write in (kept.encode, partial(canonical, kept.values)):
            # Written once before: what the first time takes is kept for all others.
            size = len(write())
            assert taken(partial(several, write)) / 50 < size + 100


def several(write: Callable[[], bytes]) -> list[bytes]:
    return [write() for _ in range(50)]


def test_a_ready_form_weighs_no_less_than_it_takes() -> None:
    for kept in recorded():
        body = kept.encode()

        def ready(body: bytes = body) -> list[Kept]:
            forms = [Kept.decode(body) for _ in range(20)]
            for each in forms:
                assert each.fields
                assert each.quick
            return forms

        ready()
        assert taken(ready) / 20 <= ITEM + _READY_TIMES * len(body), kept.values.get("kind")


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 900), st.booleans())), st.integers(0))
def test_a_cache_never_weighs_more_than_it_may(
    steps: list[tuple[int, int, bool]], limit: int
) -> None:
    limit %= 4000
    cache: Bounded[int, int] = Bounded(limit)
    last: dict[int, int] = {}
    for key, weight, is_put in steps:
        if is_put:
            cache.put(key, weight, weight)
            last[key] = weight
            assert (key in cache) == (weight + ITEM <= limit)
        else:
            assert cache.get(key) in (None, last.get(key))
        kept = {key: cache.get(key) for key in list(last) if key in cache}
        assert cache.weight == sum(last[key] + ITEM for key in kept) <= limit
        assert kept == {key: last[key] for key in kept}
        assert len(cache) == len(kept)
