"""Runners on a real database: killed, doubled, cut off, and brought to another version."""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import AsyncIterator, Sequence

import anyio
import asyncpg
import pytest

from engine.process.clock import SystemClock
from events.catalog import CommitSeen, Fact, ProjectionParked
from events.codec import fact_of
from events.event import Event, EventId, Position
from events.log import LogCorrupt
from events.postgres import PostgresLog, open_log
from projections.batch import Group
from projections.build import Progress, prepare
from projections.errors import FencedOut, ViewsNotReady
from projections.keeper import Keeper
from projections.postgres import PostgresViews
from projections.runner import Runner
from projections.store import TOLD_LIMIT, Store
from tests.appending import event_id, new
from tests.keeping import (
    append,
    documents_of,
    everything,
    naive_documents,
    naive_subjects,
    pool_of,
    running,
)
from tests.toy_views import (
    ABOUT,
    CLOCK,
    STREAMS,
    TALLIES,
    Heads,
    Streams,
    Tallies,
    Tally,
    moved,
    named,
    toy_group,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def log(dsn: str) -> AsyncIterator[PostgresLog]:
    async with open_log(dsn) as log:
        yield log


async def assert_views_are_the_fold(views: PostgresViews, log: PostgresLog, at: Position) -> None:
    await views.reached(at)
    async with views.snapshot() as reader:
        assert reader.position >= at
        events = await everything(log, reader.position)
        for view in (TALLIES, STREAMS):
            assert await documents_of(reader, view) == naive_documents(view, events)[0]
        for subject, positions in naive_subjects(ABOUT, events).items():
            assert await reader.subjects(ABOUT, subject, limit=1_000_000) == positions


async def fill(log: PostgresLog, count: int, seed: int = 0) -> Position:
    chance = random.Random(seed)
    last = Position(0)
    for begun in range(0, count, 500):
        batch = []
        for _ in range(min(count - begun, 500)):
            keys = [f"k{chance.randrange(200)}" for _ in range(chance.randrange(4))]
            what = "remove" if chance.random() < 0.05 else "add"
            batch.append(named(keys, what, f"c{chance.randrange(50)}", f"s{chance.randrange(30)}"))
        last = await append(log, batch)
    return last


# Crashes.


async def test_killed_again_and_again_the_views_are_those_of_a_fresh_fold(
    dsn: str, log: PostgresLog
) -> None:
    last = await fill(log, 15_000)
    chance, epoch, position = random.Random(7), 1, 0
    async with pool_of(dsn) as pool:
        while position < last:
            command = [sys.executable, "-m", "tests.runner_process", dsn, str(epoch)]
            async with await anyio.open_process(command, stdout=None, stderr=None) as process:
                with anyio.fail_after(30):
                    position = await _moved(pool, min(last, position + chance.randrange(1, 2500)))
                process.send_signal(signal.SIGKILL)
                await process.wait()
            epoch += 1
            last = await append(log, [named(["k1"])]) if epoch == 3 else last
        assert epoch > 4
        async with running(log, pool, toy_group(), epoch) as it:
            await assert_views_are_the_fold(it.views, log, last)


async def _moved(pool: asyncpg.Pool[asyncpg.Record], until: int) -> int:
    """Wait until the views are at a position, and return where they are."""
    while True:
        position = await pool.fetchval("SELECT max(position) FROM view_checkpoint WHERE live")
        if position is not None and position >= until:
            return int(position)


async def test_a_runner_whose_connections_are_cut_goes_on(dsn: str, log: PostgresLog) -> None:
    async with pool_of(dsn) as pool, running(log, pool, toy_group()) as it:
        async with it.runner.subscribe() as batches:
            last = Position(0)
            for number in range(5):
                last = await fill(log, 500, number)
                await _cut(dsn)
            await it.views.reached(last)
            heard: set[int] = set()
            async for batch in batches:
                if batch.missed:
                    heard.update(range(1, batch.position + 1))
                heard.update(event.position for event in batch.events)
                if batch.position == last:
                    break
            assert heard >= set(range(1, last + 1))
        await assert_views_are_the_fold(it.views, log, last)


async def _cut(dsn: str) -> None:
    """End every connection of the views' pool."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'trueup'"
    )
    await connection.close()


async def test_a_hole_in_the_log_stops_the_fold_before_anything_is_stored(
    dsn: str, log: PostgresLog
) -> None:
    last = await fill(log, 20)
    async with pool_of(dsn) as pool, running(log, pool, toy_group()) as it:
        await it.views.reached(last)
        await append(log, [named(["k1"]), named(["k2"])])
        await it.views.reached(Position(last + 2))
        events = await log.read(last)
        async with it.store.session() as session:
            slots = {slot.view: slot for slot in await session.slots(toy_group().views)}
            keeper = await Keeper.open(session, toy_group(), slots, CLOCK)
            with pytest.raises(LogCorrupt, match=f"after position {last + 2} .* at {last + 1}"):
                await keeper.advance(events)


# Two of them.


async def until_fenced(runner: Runner, ended: dict[int, FencedOut], number: int) -> None:
    try:
        await runner.run()
    except FencedOut as error:
        ended[number] = error


async def test_a_runner_of_an_earlier_epoch_does_not_start(dsn: str, log: PostgresLog) -> None:
    async with pool_of(dsn) as pool, running(log, pool, toy_group(), epoch=2):
        with pytest.raises(FencedOut, match="epoch 2 keeps the view"):
            await Runner(log, Store(pool), toy_group(), CLOCK, epoch=1).run()


async def test_a_runner_of_a_later_epoch_fences_the_one_that_runs(
    dsn: str, log: PostgresLog
) -> None:
    await fill(log, 200)
    ended: dict[int, FencedOut] = {}
    async with pool_of(dsn) as pool, anyio.create_task_group() as tasks:
        first = Runner(log, Store(pool), toy_group(), CLOCK, epoch=1)
        tasks.start_soon(until_fenced, first, ended, 1)
        await first.watermark.reach(await fill(log, 200, 1))
        async with running(log, pool, toy_group(), epoch=2) as second, first.subscribe() as heard:
            last = await fill(log, 500, 2)
            with anyio.fail_after(20):
                assert [batch async for batch in heard] == []  # nothing more, and it ends
            assert "epoch 2 took over" in str(ended[1])
            await assert_views_are_the_fold(second.views, log, last)


async def test_of_two_runners_of_one_epoch_exactly_one_goes_on(dsn: str, log: PostgresLog) -> None:
    ended: dict[int, FencedOut] = {}
    async with pool_of(dsn) as pool, anyio.create_task_group() as tasks:
        runners = [Runner(log, Store(pool), toy_group(), CLOCK, epoch=1) for _ in range(2)]
        for number, runner in enumerate(runners):
            tasks.start_soon(until_fenced, runner, ended, number)
        last = Position(0)
        with anyio.fail_after(20):
            while not ended:
                last = await fill(log, 100, last)
        await assert_views_are_the_fold(PostgresViews(pool, toy_group()), log, last)
        (fenced,) = ended
        await runners[1 - fenced].watermark.reach(last)
        tasks.cancel_scope.cancel()


# Versions.


class ShoutedStreams(Streams):
    """The second version of a view: the same documents, told otherwise."""

    version = 2

    def apply(self, key: str, document: Heads | None, event: Event, fact: Fact) -> Heads | None:
        after = super().apply(key, document, event, fact)
        return after and Heads(after.commit.upper(), after.trail)


async def test_a_view_of_another_version_is_rebuilt_before_the_views_go_live(
    dsn: str, log: PostgresLog
) -> None:
    last = await fill(log, 1500)
    second = Group([TALLIES, ShoutedStreams()], [ABOUT])
    async with pool_of(dsn) as pool:
        async with running(log, pool, toy_group(), epoch=1) as it:
            await it.views.reached(last)
            with pytest.raises(ViewsNotReady, match="built by version 1, this is version 2"):
                async with PostgresViews(pool, second).snapshot():
                    pass
        reports: list[Progress] = []
        store = Store(pool)
        runner = Runner(log, store, second, CLOCK, epoch=2, report=reports.append)
        async with anyio.create_task_group() as tasks:
            assert await tasks.start(runner.run) == last
            async with PostgresViews(pool, second).snapshot() as reader:
                assert reader.position == last
                events = await everything(log, last)
                for view in (TALLIES, second.documents["streams"]):
                    assert await documents_of(reader, view) == naive_documents(view, events)[0]
            tasks.cancel_scope.cancel()
        built = [report for report in reports if report.views == ("streams",)]
        assert [report.position for report in built] == sorted(report.position for report in built)
        assert built[-1].position == built[-1].head == last
        assert built[-1].rate > 0
        assert built[-1].seconds_left == 0
        # And back: what the first release left is taken up where it stood.
        later = await fill(log, 300, 1)
        reports.clear()
        runner = Runner(log, store, toy_group(), CLOCK, epoch=3, report=reports.append)
        async with anyio.create_task_group() as tasks:
            await tasks.start(runner.run)
            assert not [each for each in reports if each.views == ("streams",)]
            await assert_views_are_the_fold(PostgresViews(pool, toy_group()), log, later)
            tasks.cancel_scope.cancel()


async def test_a_new_view_joins_the_others_where_they_are(dsn: str, log: PostgresLog) -> None:
    last = await fill(log, 1200)
    some = Group([TALLIES], [])
    async with pool_of(dsn) as pool:
        async with running(log, pool, some, epoch=1) as it:
            await it.views.reached(last)
            with pytest.raises(ViewsNotReady, match="streams cannot be read: it is not built yet"):
                async with PostgresViews(pool, toy_group()).snapshot():
                    pass
        async with running(log, pool, toy_group(), epoch=2) as it:
            assert it.runner.watermark.position >= last
            await assert_views_are_the_fold(it.views, log, last)


async def test_a_view_that_an_older_release_left_behind_catches_up_unseen(
    dsn: str, log: PostgresLog
) -> None:
    last = await fill(log, 600)
    async with pool_of(dsn) as pool:
        async with running(log, pool, toy_group(), epoch=1) as it:
            await it.views.reached(last)
        last = await fill(log, 700, 1)
        async with running(log, pool, Group([TALLIES]), epoch=2) as it:
            await it.views.reached(last)
            with pytest.raises(ViewsNotReady, match="is behind the others, at 600"):
                async with PostgresViews(pool, toy_group()).snapshot():
                    pass
        async with running(log, pool, toy_group(), epoch=3) as it:
            await assert_views_are_the_fold(it.views, log, last)


async def test_a_build_that_was_cut_short_goes_on_where_it_was(
    dsn: str, log: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.keeper.BUFFER", 1)  # every batch is stored
    last = await fill(log, 3000)
    second = Group([TALLIES, ShoutedStreams()], [ABOUT])
    positions: list[int] = []

    class Stopped(Exception):
        pass

    def stop(progress: Progress) -> None:
        positions.append(progress.position)
        if progress.views == ("streams",):
            raise Stopped

    async with pool_of(dsn) as pool:
        async with running(log, pool, toy_group(), epoch=1) as it:
            await it.views.reached(last)
        for epoch in (2, 3):
            with pytest.raises(Stopped):
                await Runner(log, Store(pool), second, CLOCK, epoch=epoch, report=stop).run()
        assert 0 < positions[0] < positions[1] < last
        async with running(log, pool, second, epoch=4) as it:
            await it.views.reached(last)
            events = await everything(log, last)
            async with it.views.snapshot() as reader:
                view = second.documents["streams"]
                assert await documents_of(reader, view) == naive_documents(view, events)[0]


# What cannot be folded.


async def parked_events(log: PostgresLog) -> Sequence[Event]:
    return await log.read(Position(0), 10_000, types=[ProjectionParked.__name__])


async def test_what_is_parked_is_said_in_the_log_once(dsn: str, log: PostgresLog) -> None:
    async with pool_of(dsn) as pool:
        async with running(log, pool, toy_group(), epoch=1) as it:
            await append(log, [named(["a"], "boom"), named(["a"]), named(["b"], "unknowable")])
            await it.views.reached(Position(5))
        last = await append(log, [named(["a"], "boom"), named(["c"])])
        async with running(log, pool, toy_group(), epoch=2) as it:
            await it.views.reached(last)
        said = await parked_events(log)
    facts = [fact_of(event) for event in said]
    assert [event.stream for event in said] == ["view/default/tallies"] * 2
    assert [event.causation for event in said] == [1, 3]
    assert [
        (fact.view, fact.key, fact.position) for fact in facts if isinstance(fact, ProjectionParked)
    ] == [("tallies", "a", 1), ("tallies", "repo/default/a", 3)]


async def test_a_crash_before_the_log_says_so_is_made_good_at_the_next_start(
    dsn: str, log: PostgresLog
) -> None:
    last = await append(log, [named(["a"], "boom")])
    group = toy_group()
    async with pool_of(dsn) as pool:
        store = Store(pool)
        async with store.session() as session:
            slots = await prepare(log, session, group, CLOCK, epoch=1)
            keeper = await Keeper.open(session, group, slots, CLOCK)
            await keeper.advance(await log.read(Position(0)))
        assert await parked_events(log) == []
        async with running(log, pool, group, epoch=2) as it:
            await it.views.reached(Position(last + 1))
        (said,) = await parked_events(log)
        assert said.causation == last


class SlowClock(SystemClock):
    """A clock by which what is parked is parked long before the log hears of it."""

    def event_id(self) -> EventId:
        return event_id(self.now() - 8 * 24 * 3600 * 1_000_000)


@pytest.mark.parametrize("said_before", [False, True])
async def test_what_waited_for_too_long_to_be_said_is_said_once_all_the_same(
    dsn: str, log: PostgresLog, said_before: bool
) -> None:
    last = await append(log, [named(["a"], "boom"), named(["b"], "boom")])
    group = toy_group()
    async with pool_of(dsn) as pool:
        async with Store(pool).session() as session:
            slots = await prepare(log, session, group, CLOCK, epoch=1)
            keeper = await Keeper.open(session, group, slots, SlowClock())
            await keeper.advance(await log.read(Position(0)))
            parked = await session.parked(list(slots.values()), 10)
        if said_before:
            for each in parked:
                fact = ProjectionParked(each.view, each.name, each.position, each.message)
                said = new("view/default/tallies", fact, causation=each.position)
                last = await append(log, [said])
        async with running(log, pool, group, epoch=2) as it:
            await it.views.reached(Position(4))
            last = await append(log, [moved("m")])
            await it.views.reached(last)
        assert [event.causation for event in await parked_events(log)] == [1, 2]


class Deaf(Tallies):
    """A view that cannot fold even the news that it cannot fold."""

    name = "deaf"
    types = frozenset({CommitSeen.__name__, ProjectionParked.__name__})

    def keys(self, event: Event, fact: Fact) -> list[str]:
        return [f"key-{event.position}"]

    def apply(self, key: str, document: Tally | None, event: Event, fact: Fact) -> Tally | None:
        raise ValueError("never")


async def test_news_of_a_failed_fold_that_fail_to_fold_do_not_go_round_for_ever(
    dsn: str, log: PostgresLog
) -> None:
    async with pool_of(dsn) as pool, running(log, pool, Group([Deaf()])) as it:
        await append(log, [named(["a"])])
        await it.views.reached(Position(2))
        last = await append(log, [moved("m")])
        await it.views.reached(last)
        assert [each.position for each in await it.views.parked()] == [1, 2]
        assert len(await parked_events(log)) == 1


async def test_a_fold_that_always_fails_does_not_fill_the_log(dsn: str, log: PostgresLog) -> None:
    async with pool_of(dsn) as pool, running(log, pool, Group([Deaf()])) as it:
        last = await append(log, [named(["a"]) for _ in range(TOLD_LIMIT + 60)])
        await it.views.reached(Position(last + 1))
        last = await append(log, [named(["a"]) for _ in range(10)])
        await it.views.reached(last)
        assert len(await it.views.parked()) >= TOLD_LIMIT + 70
        assert len(await parked_events(log)) == TOLD_LIMIT
