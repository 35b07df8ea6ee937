"""The log in Postgres. Everything that happened goes through `PostgresLog.append`."""

from __future__ import annotations

import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, TypeVar

import anyio
import asyncpg
from anyio.abc import TaskGroup

from events import blobs as bodies
from events import following
from events.batching import prepare
from events.connection import HEARING, ConnectionLost, connect, discard, make_pool, translated
from events.event import (
    ABSENT,
    START,
    Blob,
    Digest,
    Event,
    EventId,
    NewEvent,
    Position,
    StreamName,
    Version,
)
from events.limits import (
    REMEMBERED,
    check_blobs,
    check_page,
    clamp,
    is_name,
    places,
)
from events.log import Appended, LogError
from events.migrate import AnyConnection, migrate
from events.queries import load
from events.writer import Measure, Writer

SQL = load("events", "log.sql")
PARTITION_SIZE = 10_000_000
"""Positions of one partition."""
OLDEST_SERVER = 14
_CHANNEL = "trueup_events"
_NOTIFY_EVERY = 0.02
"""Seconds: NOTIFY takes a lock of the whole server when it commits."""
_FORGET_EVERY = 600.0
"""Seconds between looks for event ids that need no longer be remembered."""
_FORGET_CHUNK = 5000
_RETRY = 2.0
"""Seconds before a background task tries again after the database failed it."""
_log = logging.getLogger(__name__)
T = TypeVar("T")


class PostgresLog:
    """An `EventLog` on a pool of connections to a migrated database. Use `open_log`.

    `poll` is how many seconds a follower that was not notified waits before it looks.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        log_id: str,
        partition_size: int = PARTITION_SIZE,
        poll: float = 2.0,
        measure: Measure | None = None,
    ) -> None:
        self._pool = pool
        self._log_id = log_id
        self._poll = poll
        self._changed = following.Signal()
        self._tell = anyio.Event()
        self._writer = Writer(pool, partition_size, self._wrote, measure)
        self._known = START

    @property
    def log_id(self) -> str:
        """Which log this is: a UUID made with it, never changed."""
        return self._log_id

    async def run(self) -> None:
        """Write, tell and hear of changes, forget old ids: until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._writer.run)
            tasks.start_soon(self._keep_doing, self._listen)
            tasks.start_soon(self._keep_doing, self._forget_ids)

    async def append(self, events: Sequence[NewEvent], blobs: Collection[Blob] = ()) -> Appended:
        """Append all of `events`, in order, or none; see `EventLog.append`."""
        return await self._writer.append(prepare(events, blobs))

    async def read(
        self,
        after: Position,
        limit: int = 1000,
        *,
        stream: StreamName | None = None,
        types: Collection[str] | None = None,
    ) -> Sequence[Event]:
        """Read at most `limit` events after a position; see `EventLog.read`.

        Raises `LogCorrupt` where a read without a filter finds a hole.
        """
        check_page(after, limit)
        if stream is not None and not is_name(stream):
            return []
        if types is not None:
            wanted = sorted({name for name in types if is_name(name)})
            if not wanted:
                return []
            if stream is None:
                return await self._events("read_types", after, limit, wanted)
            return await self._events("read_stream_types", after, limit, stream, wanted)
        if stream is not None:
            return await self._events("read_stream", after, limit, stream)
        page = await self._events("read", after, limit)
        following.check_dense(page, after)
        return page

    async def read_at(self, positions: Collection[Position]) -> Sequence[Event]:
        """Read the events at these positions, in order."""
        return await self._events("read_at", places(positions))

    async def find(self, event_id: EventId) -> Position | None:
        """Return where the event with this id is; None where no such id is remembered."""
        rows = await self._ask(lambda connection: connection.fetch(SQL["known_ids"], [event_id]))
        return Position(rows[0][1]) if rows else None

    async def head(self) -> Position:
        """Return the last position, `START` for an empty log."""
        known = self._known
        head = await self._value("head", known)
        if head is None and known > START:
            head = await self._value("head", START)  # an older copy of the database came back
        self._known = Position(head or START)
        return self._known

    async def version(self, stream: StreamName) -> Version:
        """Return a stream's version, `ABSENT` for one without events."""
        if not is_name(stream):
            return ABSENT
        return Version(await self._value("version", stream) or ABSENT)

    async def position_at(self, micros: int) -> Position:
        """Return the last position recorded not after a time (UTC microseconds)."""
        return Position(await self._value("position_at", clamp(micros)))

    async def follow(
        self, after: Position, limit: int = 1000
    ) -> AsyncGenerator[Sequence[Event], None]:
        """Yield batches of what comes after a position; see `EventLog.follow`.

        A database that cannot be reached is waited for.
        """
        check_page(after, limit)
        async for page in following.follow(self, after, limit, self._changed, self._poll):
            yield page

    async def put(self, blobs: Collection[Blob]) -> None:
        """Keep bodies ahead of the events that will name them."""
        check_blobs(blobs)
        await self._ask(lambda connection: bodies.put(connection, blobs))

    async def blobs(self, digests: Collection[Digest]) -> Mapping[Digest, bytes]:
        """Return the bodies under these digests; those that are not there are left out."""
        return await self._ask(lambda connection: bodies.get(connection, digests))

    async def erase(self, digests: Collection[Digest]) -> None:
        """Erase bodies, for good; see `EventLog.erase`."""
        await self._ask(lambda connection: bodies.erase(connection, digests))

    async def erased(self, digests: Collection[Digest]) -> frozenset[Digest]:
        """Return those of these digests whose bodies were erased."""
        return await self._ask(lambda connection: bodies.erased(connection, digests))

    # Reading.

    async def _ask(self, question: Callable[[AnyConnection], Awaitable[T]]) -> T:
        """Ask the database what may be asked twice: a second time where the connection broke."""
        try:
            with translated():
                async with self._pool.acquire() as connection:
                    return await question(connection)
        except ConnectionLost:
            await anyio.sleep(HEARING)
            with translated():
                async with self._pool.acquire() as connection:
                    return await question(connection)

    async def _events(self, query: str, *arguments: Any) -> list[Event]:
        rows = await self._ask(lambda connection: connection.fetch(SQL[query], *arguments))
        return [_event(row) for row in rows]

    async def _value(self, query: str, *arguments: Any) -> Any:
        return await self._ask(lambda connection: connection.fetchval(SQL[query], *arguments))

    # Tasks.

    def _wrote(self) -> None:
        """Wake our own followers at once, and have the other processes told soon."""
        self._changed.give()
        self._tell.set()

    async def _keep_doing(self, job: Any) -> None:
        """Run a job again whenever the database fails it: followers poll, and ids can wait."""
        while True:
            try:
                with translated():
                    await job()
            except LogError as error:
                _log.warning("%s; trying again in %g s", error, _RETRY)
            await anyio.sleep(_RETRY)

    async def _listen(self) -> None:
        """Hear of what other processes append, and tell them of ours, at most once in a while."""
        connection = await self._pool.acquire()
        try:
            ours = connection.get_server_pid()
            # A hint need not survive a crash, and must not flush the log beside an append's flush.
            await connection.execute(SQL["hints_only"])

            def heard(_: Any, pid: int, *__: Any) -> None:
                if pid != ours:
                    self._changed.give()

            def lost(_: Any) -> None:
                self._tell.set()

            connection.add_termination_listener(lost)
            await connection.add_listener(_CHANNEL, heard)
            self._changed.give()  # what came while nobody listened
            while True:
                await self._tell.wait()
                self._tell = anyio.Event()
                await connection.execute(SQL["notify"])
                await anyio.sleep(_NOTIFY_EVERY)
        finally:
            await discard(self._pool, connection)

    async def _forget_ids(self) -> None:
        """Drop the ids that are too old to be accepted again, a few at a time."""
        while True:
            oldest = await self._value("clock", 0) // 1000 - REMEMBERED
            before = f"{max(oldest, 0):012x}".ljust(32, "0")
            forgotten = _FORGET_CHUNK
            while forgotten == _FORGET_CHUNK:
                status = await self._pool.execute(SQL["forget_ids"], before, _FORGET_CHUNK)
                forgotten = int(status.rpartition(" ")[2])
            await anyio.sleep(_FORGET_EVERY)


class open_log:  # noqa: N801 - reads as the function that it stands for
    """Open the log in a database, migrating it first: `async with open_log(dsn) as log`.

    `packages` names those whose migrations are applied. `connections` is the most that the log
    will hold, three of them all the time. `measure` is told of each batch that was tried: its
    events, and the seconds that it took. Raises `LogError` where the database cannot be used and
    `SchemaRefused` where its schema is not this release's.
    """

    def __init__(
        self,
        dsn: str,
        *,
        packages: Sequence[str] = ("events",),
        connections: int = 10,
        partition_size: int = PARTITION_SIZE,
        poll: float = 2.0,
        measure: Measure | None = None,
    ) -> None:
        self._dsn = dsn
        self._packages = packages
        self._connections = max(connections, 4)
        self._partition_size = partition_size
        self._poll, self._measure = poll, measure
        self._tasks: TaskGroup | None = None
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def __aenter__(self) -> PostgresLog:
        log_id = await prepare_database(self._dsn, self._packages, self._partition_size)
        self._pool = await make_pool(self._dsn, self._connections, "trueup log")
        log = PostgresLog(self._pool, log_id, self._partition_size, self._poll, self._measure)
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(log.run)
        return log

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        assert self._tasks is not None
        assert self._pool is not None
        cancelled = isinstance(error, anyio.get_cancelled_exc_class())
        self._tasks.cancel_scope.cancel()
        try:
            # What the body raised goes on as it is, not wrapped into a group; a cancellation is
            # the task group's to judge.
            if cancelled:
                return await self._tasks.__aexit__(kind, error, traceback)
            await self._tasks.__aexit__(None, None, None)
            return None
        finally:
            self._pool.terminate()


@asynccontextmanager
async def reading(dsn: str) -> AsyncIterator[tuple[asyncpg.Pool[asyncpg.Record], PostgresLog]]:
    """Open a log to read from alone: nothing is migrated and nothing written. Raises `LogError`."""
    pool = await make_pool(dsn, 4, "trueup reader")
    try:
        with translated():
            log_id = str(await pool.fetchval(SQL["log_id"]))
        yield pool, PostgresLog(pool, log_id)
    finally:
        pool.terminate()


async def prepare_database(
    dsn: str, packages: Sequence[str] = ("events",), partition_size: int = PARTITION_SIZE
) -> str:
    """Migrate a database and make its first partitions; return the log's id.

    Raises `LogError` and `SchemaRefused`.
    """
    connection = await connect(dsn)
    try:
        with translated():
            await _check_server(connection)
            await migrate(connection, *packages)
            head = await connection.fetchval(SQL["head"], START) or START
            await connection.fetchval(SQL["add_partitions"], head + partition_size, partition_size)
            return str(await connection.fetchval(SQL["log_id"]))
    finally:
        await connection.close()


async def _check_server(connection: AnyConnection) -> None:
    version = connection.get_server_version()
    if version.major < OLDEST_SERVER:
        raise LogError(f"Postgres {version.major} is too old: use {OLDEST_SERVER} or newer")
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise LogError(f"the database's encoding is {encoding}: make one with ENCODING 'UTF8'")
    if await connection.fetchval("SHOW synchronous_commit") == "off":
        raise LogError(
            "synchronous_commit is off: what was acknowledged and signed could be lost; set it on"
        )


def _event(row: asyncpg.Record) -> Event:
    return Event(
        position=row[0],
        stream=row[1],
        version=row[2],
        event_id=row[3],
        type=row[4],
        schema=row[5],
        recorded_at=row[6],
        occurred_at=row[7],
        actor=row[8],
        causation=row[9],
        correlation=row[10],
        traceparent=row[11],
        payload=row[12],
    )
