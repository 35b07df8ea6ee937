"""Folding a view anew beside the live one, while the log grows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from events.catalog import Fact, ProjectionParked
from events.event import Event, Position
from events.log import LogCorrupt
from projections.build import Progress
from projections.errors import RebuildRefused
from projections.projection import Projection, SubjectIndex
from projections.rebuild import drop_previous, rebuild
from tests.keeping import (
    Kept,
    append,
    documents_of,
    everything,
    kept,
    naive_documents,
    naive_subjects,
)
from tests.toy_views import ABOUT, CLOCK, STREAMS, TALLIES, Tallies, Tally, named, toy_group

pytestmark = pytest.mark.anyio


@pytest.fixture
async def it(dsn: str) -> AsyncIterator[Kept]:
    async with kept(dsn, toy_group()) as it:
        yield it


async def fill(it: Kept, count: int, first: int = 0) -> Position:
    events = [
        named([f"k{number % 37}", f"k{number % 11}"], commit=f"c{number % 5}", on=f"s{number % 7}")
        for number in range(first, first + count)
    ]
    last = await append(it.log, events)
    await it.views.reached(last)
    return last


async def assert_views_are_the_fold(it: Kept) -> None:
    head = await it.log.head()
    await it.views.reached(head)
    async with it.views.snapshot() as reader:
        assert reader.position >= head
        events = await everything(it.log, reader.position)
        for view in (TALLIES, STREAMS):
            assert await documents_of(reader, view) == naive_documents(view, events)[0]
        for subject, positions in naive_subjects(ABOUT, events).items():
            assert await reader.subjects(ABOUT, subject, limit=100_000) == positions


async def generations(it: Kept, view: str) -> list[tuple[int, bool]]:
    async with it.store.session() as session:
        return [(slot.generation, slot.live) for slot in await session.slots([view])]


@pytest.mark.parametrize("view", [TALLIES, STREAMS, ABOUT], ids=lambda view: view.name)
async def test_a_sound_view_is_rebuilt_to_the_same(
    it: Kept, view: Projection[Any] | SubjectIndex
) -> None:
    last = await fill(it, 900)
    reports: list[Progress] = []
    first = await rebuild(it.log, it.store, view, reports.append, clock=CLOCK)
    assert first.equal
    assert first.position == last
    assert (first.view, first.generation) == (view.name, 2)
    assert [report.position for report in reports] == sorted(report.position for report in reports)
    assert reports[-1].position == reports[-1].head == last
    assert reports[-1].rate > 0
    second = await rebuild(it.log, it.store, view, clock=CLOCK)
    assert (second.documents, second.digest) == (first.documents, first.digest)
    await fill(it, 50, 900)
    await assert_views_are_the_fold(it)


async def test_a_rebuild_names_what_the_view_had_otherwise_and_puts_it_right(it: Kept) -> None:
    await fill(it, 300)
    await it.pool.execute("UPDATE view_document SET document = '{}' WHERE key = 'k3'")
    await it.pool.execute("DELETE FROM view_document WHERE key = 'k5'")
    await it.pool.execute("UPDATE view_document SET key = 'x' WHERE key = 'k7'")
    await it.pool.execute("DELETE FROM view_subject WHERE subject = 'commit/c2' AND position > 99")
    rebuilt = await rebuild(it.log, it.store, TALLIES, clock=CLOCK)
    assert not rebuilt.equal
    assert rebuilt.differing == ("k3", "k5", "k7", "x")
    assert (await rebuild(it.log, it.store, ABOUT, clock=CLOCK)).differing == ("commit/c2",)
    assert (await rebuild(it.log, it.store, ABOUT, clock=CLOCK)).equal
    await assert_views_are_the_fold(it)


async def test_a_rebuild_keeps_up_with_a_log_that_grows(it: Kept) -> None:
    await fill(it, 500)
    stop = anyio.Event()

    async def grow() -> None:
        number = 500
        while not stop.is_set():
            await append(it.log, [named([f"k{number % 37}"], on=f"s{number % 7}")])
            number += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(grow)
        for view in (TALLIES, ABOUT, STREAMS, TALLIES):
            rebuilt = await rebuild(it.log, it.store, view, clock=CLOCK)
            assert rebuilt.equal
        stop.set()
    await assert_views_are_the_fold(it)
    assert [live for _, live in await generations(it, "tallies")] == [False, True]


async def test_readers_see_one_position_across_the_swap(it: Kept) -> None:
    await fill(it, 400)
    async with it.views.snapshot() as before:
        old = await documents_of(before, TALLIES)
        await rebuild(it.log, it.store, TALLIES, clock=CLOCK)
        await fill(it, 20, 400)
        await drop_previous(it.store, "tallies")
        assert await documents_of(before, TALLIES) == old
    await assert_views_are_the_fold(it)


async def test_the_generation_before_is_kept_until_it_is_dropped(it: Kept) -> None:
    await fill(it, 100)
    await rebuild(it.log, it.store, TALLIES, clock=CLOCK)
    assert await generations(it, "tallies") == [(1, False), (2, True)]
    assert await drop_previous(it.store, "tallies") == 1
    assert await drop_previous(it.store, "tallies") == 0
    assert await generations(it, "tallies") == [(2, True)]
    left = "SELECT count(*) FROM view_document WHERE view = 'tallies' AND generation = 1"
    assert await it.pool.fetchval(left) == 0
    await assert_views_are_the_fold(it)


async def test_the_live_generation_cannot_be_dropped(it: Kept) -> None:
    await fill(it, 10)
    async with it.store.session() as session:
        (slot,) = await session.slots(["tallies"])
        with pytest.raises(ValueError, match="generation 1 of the view tallies is live"):
            await session.drop(slot)
    await fill(it, 10, 10)
    await assert_views_are_the_fold(it)


async def test_of_two_rebuilds_of_one_view_the_later_takes_over(it: Kept) -> None:
    await fill(it, 1200)
    refused: list[RebuildRefused] = []
    begun = anyio.Event()
    go_on = anyio.Event()

    async def first() -> None:
        try:
            await rebuild(PausingLog(it.log, begun, go_on), it.store, TALLIES, clock=CLOCK)
        except RebuildRefused as error:
            refused.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first)
        await begun.wait()
        assert (await rebuild(it.log, it.store, TALLIES, clock=CLOCK)).equal
        go_on.set()
    assert "another rebuild of the view tallies took over" in str(refused[0])
    await assert_views_are_the_fold(it)
    assert [live for _, live in await generations(it, "tallies")].count(True) == 1


class PausingLog:
    """A log whose second read waits."""

    def __init__(self, log: Any, begun: anyio.Event, go_on: anyio.Event) -> None:
        self._log, self._begun, self._go_on, self._reads = log, begun, go_on, 0

    async def read(self, after: Position, limit: int = 1000) -> Any:
        self._reads += 1
        if self._reads == 2:
            self._begun.set()
            await self._go_on.wait()
        return await self._log.read(after, limit)


async def test_a_rebuild_that_was_cut_short_leaves_nothing_that_the_next_would_take_up(
    it: Kept,
) -> None:
    await fill(it, 1200)

    class Stopped(Exception):
        pass

    def stop(progress: Progress) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        await rebuild(it.log, it.store, TALLIES, stop, clock=CLOCK)
    await it.pool.execute("UPDATE view_document SET document = '{}' WHERE generation = 2")
    assert (await rebuild(it.log, it.store, TALLIES, clock=CLOCK)).equal
    assert await generations(it, "tallies") == [(1, False), (3, True)]
    await assert_views_are_the_fold(it)


async def test_a_view_that_is_not_live_is_not_rebuilt(it: Kept) -> None:
    other = Tallies()
    other.name = "others"
    with pytest.raises(RebuildRefused, match="others is not live: start an engine"):
        await rebuild(it.log, it.store, other, clock=CLOCK)


async def test_a_view_of_another_version_is_not_rebuilt(it: Kept) -> None:
    newer = Tallies()
    newer.version = 2
    with pytest.raises(RebuildRefused, match="built by version 1, this is version 2"):
        await rebuild(it.log, it.store, newer, clock=CLOCK)


class Mended(Tallies):
    """The view after the fault in its fold was found; without a new version, as faults go."""

    def apply(self, key: str, document: Tally | None, event: Event, fact: Fact) -> Tally | None:
        try:
            return super().apply(key, document, event, fact)
        except ValueError:
            return document


async def test_a_mended_fold_takes_what_was_parked_up_again(it: Kept) -> None:
    await append(it.log, [named(["a"]), named(["a", "b"], "boom"), named(["a", "b"])])
    await it.views.reached(Position(5))
    assert len(await it.views.parked()) == 2
    assert (await rebuild(it.log, it.store, TALLIES, clock=CLOCK)).equal  # parked again
    said = await it.log.read(Position(0), types=[ProjectionParked.__name__])
    assert len(said) == 2  # and not said again
    rebuilt = await rebuild(it.log, it.store, Mended(), clock=CLOCK)
    assert rebuilt.differing == ("a", "b")
    assert await it.views.parked() == []
    async with it.views.snapshot() as reader:
        found = await reader.get(TALLIES, "a")
    assert found is not None
    assert (found.position, found.document.count) == (3, 2)


async def test_views_of_another_log_are_told_apart_from_a_log_that_grows(it: Kept) -> None:
    await fill(it, 100)

    class ShortLog(PausingLog):
        async def read(self, after: Position, limit: int = 1000) -> Any:
            return [] if after >= 50 else await self._log.read(after, min(limit, 50 - after))

    short = ShortLog(it.log, anyio.Event(), anyio.Event())
    with pytest.raises(LogCorrupt, match="the log ends at 50"):
        await rebuild(short, it.store, TALLIES, clock=CLOCK)
