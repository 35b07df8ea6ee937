"""What the log in Postgres promises when processes die, connections break and others hold locks."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import anyio
import asyncpg
import pytest

from events import connection as connections
from events.blobs import SQL as BLOB_SQL
from events.event import START, Event, EventId, Position, StreamName, blob
from events.log import IdReused, LogCorrupt, LogError, LogUnavailable, WrongVersion
from events.postgres import PostgresLog, open_log
from events.writer import SQL
from tests.appending import event_id, failed, new, now

pytestmark = pytest.mark.anyio
A = StreamName("repo/default/a")


@pytest.fixture
async def log(dsn: str) -> AsyncIterator[PostgresLog]:
    async with open_log(dsn) as log:
        yield log


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(30):
        while not await condition():  # noqa: ASYNC110 - another process brings it about
            await anyio.sleep(0.01)


async def everything(log: PostgresLog) -> list[Event]:
    events: list[Event] = []
    while page := await log.read(events[-1].position if events else START, 5000):
        events += page
    return events


def whole(events: list[Event]) -> bool:
    """Positions dense, versions dense in each stream, no id twice, times in order."""
    streams = Counter[str]()
    for position, event in enumerate(events, start=1):
        streams[event.stream] += 1
        assert (event.position, event.version) == (position, streams[event.stream])
    assert len({event.event_id for event in events}) == len(events)
    times = [event.recorded_at for event in events]
    return times == sorted(times)


# Several writers.


async def test_two_writers_on_one_database_make_one_dense_log(dsn: str) -> None:
    async with open_log(dsn) as one, open_log(dsn) as other:
        assert one.log_id == other.log_id
        won = Counter[int]()

        async def append(number: int, log: PostgresLog) -> None:
            for turn in range(20):
                shared = [blob(b"%d" % (turn + index)) for index in range(5)]
                random.Random(number).shuffle(shared)
                await log.append([new(f"app/default/{turn % 3}"), new(A)], shared)
                try:
                    await log.append([new(f"race/default/{turn}", expected=0)])
                    won[turn] += 1
                except WrongVersion:
                    pass

        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(append, number, (one, other)[number % 2])
        assert won == Counter(range(20))
        events = await everything(one)
        assert whole(events)
        assert len(events) == 8 * 20 * 2 + 20


async def test_who_shares_the_log_appends_behind_the_others_in_one_statement(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_log(dsn, partition_size=8) as one, open_log(dsn, partition_size=8) as other:
        for log in (one, other, one):  # the last one finds that it is not alone
            await log.append([new(A)])
        assert one._writer._is_shared
        await other.append([new(A), new("app/default/b")])
        looked = one._writer._look_first
        monkeypatch.setattr(one._writer, "_look_first", None)
        events = [new(A), new("app/default/b", expected=1), new("app/default/c", expected=0)]
        appended = await one.append(events, [blob(b"kept")])
        assert (appended.positions, appended.versions) == ((6, 7, 8), (5, 2, 1))
        monkeypatch.setattr(one._writer, "_look_first", looked)
        for _ in range(10):  # over the ends of partitions that the others made
            await other.append([new(A)])
            await one.append([new("app/default/b"), new(A)])
        await other.append([new("app/default/c")])
        with pytest.raises(WrongVersion):
            await one.append([new(A), new("app/default/c", expected=1)])
        await other.append([new(A)])
        assert await one.append(events, [blob(b"kept")]) == appended
        assert whole(await everything(one))


async def test_all_callers_of_a_large_batch_are_told(
    dsn: str,
) -> None:
    async with open_log(dsn) as log, anyio.create_task_group() as tasks:
        told: list[int] = []

        async def append(number: int) -> None:
            for _ in range(5):
                appended = await log.append([new(f"app/default/{number % 3}")])
                told.append(appended.positions[0])

        for number in range(80):
            tasks.start_soon(append, number)
    assert sorted(told) == list(range(1, 401))


async def test_a_follower_hears_of_another_process_at_once(dsn: str) -> None:
    # The poll alone would never show it within the test's time.
    async with open_log(dsn, poll=1000) as one, open_log(dsn, poll=1000) as other:
        got: list[Position] = []

        async def follow() -> None:
            async with aclosing(one.follow(START)) as pages:
                async for page in pages:
                    got.extend(event.position for event in page)
                    if len(got) >= 40:
                        return

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(follow)
                for turn in range(40):
                    await (one, other)[turn % 2].append([new(A)])
        assert got == list(range(1, 41))


async def test_without_a_notification_the_poll_finds_it(dsn: str, log: PostgresLog) -> None:
    async with open_log(dsn, poll=0.05) as reader, connected(dsn) as admin:
        # Nobody tells anybody any more: every listening connection is gone.
        await kill_others(admin, "LISTEN")
        with anyio.fail_after(30):
            async with aclosing(reader.follow(START)) as pages:
                await log.append([new(A)])
                assert [event.position for event in await anext(pages)] == [1]


async def kill_others(admin: asyncpg.Connection, only: str = "") -> int:
    rows = await admin.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND starts_with(query, $1)",
        only,
    )
    return len(rows)


# Broken connections and killed processes.


async def test_backends_terminated_during_appends_lose_and_double_nothing(dsn: str) -> None:
    async with open_log(dsn) as log, connected(dsn) as admin:
        appended: dict[EventId, Position] = {}
        busy = 8

        async def append(number: int) -> None:
            nonlocal busy
            for turn in range(60):
                events = [new(f"app/default/{number}"), new(A)]
                while True:
                    try:
                        answer = await log.append(events, [blob(b"%d" % turn)])
                        break
                    except LogUnavailable:  # both tries were cut: the same ids again
                        continue
                for event, position in zip(events, answer.positions, strict=True):
                    appended[event.event_id] = position
            busy -= 1

        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(append, number)
            killed = 0
            while busy:
                killed += await kill_others(admin, "SELECT append_events")
                await anyio.sleep(0.01)
        assert killed > 3
        events = await everything(log)
        assert whole(events)
        assert {event.event_id: event.position for event in events} == appended


async def test_a_commit_whose_answer_was_lost_is_not_written_twice(
    dsn: str, log: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.append([new(A)])
    append = log._writer._append
    cut = []

    async def losing(*arguments: object, **options: object) -> int | None:
        recorded = await append(*arguments, **options)  # type: ignore[arg-type]
        if not cut:
            cut.append(recorded)
            raise ConnectionResetError("cut after the commit")
        return recorded

    monkeypatch.setattr(log._writer, "_append", losing)
    events = [new(A, expected=1), new(A)]
    assert (await log.append(events)).positions == (2, 3)
    assert cut
    assert whole(await everything(log))


WRITER = """
import sys, anyio
from events.postgres import open_log
from events.event import blob
from tests.appending import new
async def main():
    async with open_log(sys.argv[1]) as log, anyio.create_task_group() as tasks:
        async def append(number):
            for turn in range(100000):
                events = [new(f"app/default/{number}"), new("repo/default/a")]
                appended = await log.append(events, [blob(b"%d" % turn)])
                print(events[0].event_id, appended.positions[0], flush=True)
        for number in range(4):
            tasks.start_soon(append, number)
anyio.run(main)
"""


async def test_a_writer_killed_at_any_moment_leaves_a_whole_log(dsn: str) -> None:
    chance = random.Random(1)
    told: dict[str, int] = {}
    for _ in range(6):
        async with await anyio.open_process(
            [sys.executable, "-c", WRITER, dsn], stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdout is not None
            said = await process.stdout.receive()
            await anyio.sleep(chance.random() * 0.1)
            process.kill()
            async for chunk in process.stdout:
                said += chunk
        for line in said.decode().splitlines(keepends=True):
            if line.endswith("\n"):
                name, position = line.split()
                told[name] = int(position)
    async with open_log(dsn) as log:
        events = await everything(log)
        assert whole(events)
        assert len(events) % 2 == 0
        places = {event.event_id: event.position for event in events}
        assert {name: places.get(EventId(name)) for name in told} == told
        # What the killed ones held is free again.
        await log.append([new(A)])


async def test_a_database_that_is_gone_is_said_and_waited_for(dsn: str) -> None:
    async with AsyncExitStack() as stack, connected(dsn) as admin:
        log = await stack.enter_async_context(open_log(dsn, poll=0.05))
        await log.append([new(A)])
        name = await admin.fetchval("SELECT current_database()")
        async with aclosing(log.follow(START)) as pages:
            assert len(await anext(pages)) == 1
            log._pool.set_connect_args(dsn=dsn.replace(f"/{name}?", "/nowhere?"))
            await kill_others(admin)
            event = new(A)
            with pytest.raises(LogUnavailable, match="nowhere"):
                await log.append([event])
            with pytest.raises(LogUnavailable):
                await log.head()
            log._pool.set_connect_args(dsn=dsn)
            assert (await log.append([event])).positions == (2,)
            with anyio.fail_after(30):
                assert [event.position for event in await anext(pages)] == [2]


# Others' locks and transactions.


async def test_another_process_open_transaction_stalls_nobody(dsn: str, log: PostgresLog) -> None:
    await log.append([new(A)])
    async with connected(dsn) as other, other.transaction(isolation="repeatable_read"):
        await other.fetch("SELECT count(*) FROM events")
        await other.execute("CREATE TABLE mine (n int)")
        with anyio.fail_after(10):
            async with aclosing(log.follow(START)) as pages:
                for _ in range(28):
                    await log.append([new(A)])
                got: list[Event] = []
                async for page in pages:
                    got += page
                    if len(got) == 29:
                        break
        assert whole(got)
        assert await other.fetchval("SELECT count(*) FROM events") == 1


async def test_who_waits_too_long_for_the_lock_is_told(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LOCK_TIMEOUT", 200)
    async with open_log(dsn) as log, connected(dsn) as other:
        await log.append([new(A)])
        event = new(A)
        async with other.transaction():
            await other.execute(SQL["lock"])
            with pytest.raises(LogUnavailable, match="55P03"):
                await log.append([event])
        assert (await log.append([event])).positions == (2,)


async def test_a_connection_of_ours_that_stops_in_the_middle_is_thrown_out(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LOCK_TIMEOUT", 1000)
    async with open_log(dsn) as log, open_log(dsn) as stuck:
        holder = await stuck._pool.acquire()
        transaction = holder.transaction()
        await transaction.start()
        await holder.fetch(SQL["lock"])
        # It holds the lock for half of the time that others wait for it, and then no more.
        assert (await log.append([new(A)])).positions == (1,)


# Damage.


async def test_a_hole_halts_readers_and_followers(dsn: str, log: PostgresLog) -> None:
    for _ in range(3):
        await log.append([new(A), new(A)])
    async with connected(dsn) as admin:
        await admin.execute("DELETE FROM events WHERE position = 3")
    with pytest.raises(LogCorrupt, match="position 3 is missing"):
        await log.read(START)
    with pytest.raises(LogCorrupt, match="position 3 is missing"):
        await log.read(Position(2))
    assert len(await log.read(START, types=["SourceFailed"])) == 5
    async with aclosing(log.follow(START, limit=2)) as pages:
        assert len(await anext(pages)) == 2
        with pytest.raises(LogCorrupt, match="position 3 is missing"):
            await anext(pages)


async def test_an_event_that_only_looks_committed_is_refused_by_the_lock(
    dsn: str, log: PostgresLog
) -> None:
    """An older copy of the database is put under a running engine: it notices, and goes on."""
    await log.append([new(A), new(A), new(A)])
    async with connected(dsn) as admin:
        await admin.execute("DELETE FROM events WHERE position > 1")
        await admin.execute("UPDATE stream_head SET version = 1, position = 1")
        await admin.execute("DELETE FROM event_id WHERE position > 1")
    assert (await log.append([new(A)])).positions == (2,)
    assert await log.head() == 2


async def test_time_never_runs_backwards_though_the_clock_does(dsn: str, log: PostgresLog) -> None:
    await log.append([new(A)])
    tomorrow = now() + 24 * 3600 * 1_000_000
    async with connected(dsn) as admin:
        await admin.execute("UPDATE events SET recorded_at = $1", tomorrow)
    await log.append([new(A), new(A)])
    assert [event.recorded_at for event in await log.read(START)] == [tomorrow] * 3
    assert await log.position_at(tomorrow - 1) == START


# Partitions.


async def test_the_log_rolls_over_into_new_partitions(empty_dsn: str) -> None:
    async with open_log(empty_dsn, partition_size=10) as one:
        async with open_log(empty_dsn, partition_size=10) as other:
            async with anyio.create_task_group() as tasks:
                for number in range(40):
                    tasks.start_soon(
                        (one, other)[number % 2].append, [new(A), new(f"b/c/{number}")]
                    )
            await one.append([new(A) for _ in range(55)])  # over several at once
        events = await everything(one)
        assert whole(events)
        assert len(events) == 135
        assert len(await one.read(START, 1000, stream=A)) == 95
        assert [event.position for event in await one.read(Position(8), 4)] == [9, 10, 11, 12]
        assert await one.position_at(2**62) == 135
    async with connected(empty_dsn) as admin:
        ends = await admin.fetch("SELECT * FROM event_partition ORDER BY 1")
        assert [tuple(end) for end in ends][:2] == [(1, 11), (11, 21)]
        assert ends[-1]["to_position"] > 135 + 10
        indexes = await admin.fetch(
            "SELECT indrelid::regclass::text AS t, count(*) FROM pg_index "
            "WHERE indrelid::regclass::text LIKE 'events_0%' GROUP BY 1"
        )
        assert {row["count"] for row in indexes} == {3}


async def test_a_partition_is_added_while_others_read_and_write(empty_dsn: str) -> None:
    async with open_log(empty_dsn, partition_size=10) as log, connected(empty_dsn) as other:
        await log.append([new(A)])
        async with other.transaction():
            await other.fetch("SELECT * FROM events")
            with anyio.fail_after(5):
                for _ in range(30):
                    await log.append([new(A)])


async def test_partitions_of_another_size_go_on_where_the_last_ended(empty_dsn: str) -> None:
    for size in (7, 100, 3):
        async with open_log(empty_dsn, partition_size=size) as log:
            await log.append([new(A) for _ in range(60)])
    async with open_log(empty_dsn) as log:
        assert whole(await everything(log))


# Housekeeping and limits.


async def test_ids_are_forgotten_after_seven_days_and_then_refused(dsn: str) -> None:
    day = 24 * 3600 * 1_000_000
    async with open_log(dsn) as log:
        young = new(A, event_id=event_id(now() - 6 * day))
        await log.append([young, new(A)])
    old = event_id(now() - 8 * day)
    async with connected(dsn) as admin:
        await admin.execute("INSERT INTO event_id VALUES ($1, 1)", old)

        async def forgotten() -> bool:
            return await admin.fetchval("SELECT count(*) FROM event_id") == 2

        async with open_log(dsn) as log:
            await until(forgotten)
            assert (await log.append([young])).positions == (1,)
            with pytest.raises(IdReused, match="seven days"):
                await log.append([new(A, event_id=old)])


async def test_one_bad_command_does_not_fail_its_batch(dsn: str, log: PostgresLog) -> None:
    async with connected(dsn) as admin:
        await admin.execute("ALTER TABLE events ADD CHECK (actor <> 'user:bad')")
    outcomes: list[str] = []

    async def append(actor: str) -> None:
        try:
            await log.append([new(A, actor=actor)])
            outcomes.append("in")
        except LogError as error:
            outcomes.append(str(error).rpartition(" ")[2])

    async with anyio.create_task_group() as tasks:
        for actor in ("user:a", "user:bad", "user:b", "user:c"):
            tasks.start_soon(append, actor)
    assert sorted(outcomes) == ["23514)", "in", "in", "in"]
    assert whole(await everything(log))


async def test_after_closing_nothing_is_accepted(dsn: str) -> None:
    async with open_log(dsn) as log:
        pass
    with pytest.raises(LogUnavailable, match="closed"):
        await log.append([new(A)])
    with pytest.raises(LogUnavailable):
        await log.head()


async def test_what_the_body_raises_comes_out_unwrapped(dsn: str) -> None:
    with pytest.raises(KeyError):
        async with open_log(dsn):
            raise KeyError("mine")
    with anyio.move_on_after(0.1) as scope:
        async with open_log(dsn):
            await anyio.sleep_forever()
    assert scope.cancelled_caught


# Queries.


@pytest.mark.parametrize(
    "query",
    [*SQL.values(), *BLOB_SQL.values()],
    ids=[*SQL, *(f"blobs.{name}" for name in BLOB_SQL)],
)
async def test_every_query_is_one_that_postgres_takes(dsn: str, query: str) -> None:
    async with connected(dsn) as connection:
        await connection.prepare(query)


async def test_hot_queries_use_their_index(populated: str) -> None:
    hot: list[tuple[str, tuple[object, ...], str]] = [
        ("read", (15_000, 100), "_pkey"),
        ("read_stream", (10, 100, "app/default/7"), "_stream_position_idx"),
        ("read_types", (10, 100, ["SourceRecovered"]), "_type_position_idx"),
        ("read_at", ([5, 500, 15_000],), "_pkey"),
        ("head", (15_000,), "_pkey"),
        ("version", ("app/default/7",), "stream_head_pkey"),
    ]
    async with connected(populated) as connection:
        for name, arguments, index in hot:
            rows = await connection.fetch(f"EXPLAIN (ANALYZE) {SQL[name]}", *arguments)
            plan = "\n".join(row[0] for row in rows)
            assert index in plan, name
            assert "Seq Scan on events_0000000000000001" not in plan, name


@pytest.fixture
async def populated(dsn: str) -> str:
    async with open_log(dsn) as log:
        for start in range(0, 20_000, 2000):
            await log.append(
                [new(f"app/default/{number % 500}", failed("x" * 50)) for number in range(2000)],
                [blob(b"%d" % start)],
            )
    async with connected(dsn) as connection:
        await connection.execute("ANALYZE")
    return dsn
