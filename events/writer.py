"""Group commit: whatever queued up while one batch committed is the next batch. No timer.

The next batch is sent before those of the last one are told, so that the server works on the one
while they go on and queue what they have next.

What is known of the log from the last batch serves to work out the next one, and one statement
checks it under the log's lock and writes: one round trip. Where it does not hold (another engine
appended, a retry, a refusal to be sure of), the lock is taken first and everything looked up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import anyio
import asyncpg
from anyio.lowlevel import checkpoint
from asyncpg.pool import PoolConnectionProxy

from events import blobs as bodies
from events.batching import Command, Decision, Known, State, decide, needed
from events.connection import HEARING, ConnectionLost, Stale, discard, translated
from events.event import START, EventId, Position, StreamName, Version
from events.limits import digest_bytes, made_at
from events.log import Appended, LogError, LogUnavailable
from events.queries import load
from events.writing import LARGE, write, write_behind

SQL = load("events", "log.sql")
_BATCH_EVENTS = 2000
_BATCH_BYTES = 16 * 2**20
"""A batch takes no further command beyond these."""
_REMEMBER, _REMEMBER_BODIES = 100_000, 20_000
"""Streams, and digests of bodies, that are remembered, so that they need not be asked for."""
_log = logging.getLogger(__name__)
Outcome = Appended | LogError
Measure = Callable[[int, float], None]


class _Pending:
    """A command in the queue, and whoever waits for it."""

    __slots__ = ("command", "future")

    def __init__(self, command: Command, future: asyncio.Future[Appended]) -> None:
        self.command, self.future = command, future

    def settle(self, outcome: Outcome) -> None:
        if self.future.done():  # whoever waited was cancelled
            return
        if isinstance(outcome, Appended):
            self.future.set_result(outcome)
        else:
            self.future.set_exception(outcome)


class Writer:
    """The one writer of a process. `run` is its task; `append` may be called by anybody.

    `partition_size` is in positions. `committed` is told after each batch that wrote something,
    `measure` after each that was tried: its events, and the seconds that it took.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        partition_size: int,
        committed: Callable[[], None],
        measure: Measure | None = None,
    ) -> None:
        self._pool = pool
        self._partition_size = partition_size
        self._committed, self._measure = committed, measure
        self._connection: PoolConnectionProxy[asyncpg.Record] | None = None
        self._queue: list[_Pending] = []
        self._owed: list[tuple[_Pending, Outcome]] = []
        """What was decided, and not told yet."""
        self._due = asyncio.Event()
        self._closed = False
        self._room = Position(0)
        self._stored: set[bytes] = set()
        self._versions: dict[StreamName, Version] = {}
        self._seen: Position | None = None
        """The position that `_versions` holds at; None where nothing is known."""
        self._now = 0
        self._last = START
        """Where the log ended after our last batch."""
        self._is_shared = False
        """Whether others append too, so that what is known from our last batch is out of date."""

    async def append(self, command: Command) -> Appended:
        """Queue a command and wait until it is committed; raises its `LogError`.

        Cancelled while it is queued, it is not written; later, it is.
        """
        if self._closed:
            raise LogUnavailable("the log was closed: the engine is stopping")
        pending = _Pending(command, asyncio.get_running_loop().create_future())
        self._queue.append(pending)
        self._due.set()
        return await pending.future

    async def run(self) -> None:
        """Commit batches until cancelled; a batch under way is finished first."""
        try:
            while True:
                await self._due.wait()
                batch = self._take()
                if batch:
                    began = anyio.current_time()
                    with anyio.CancelScope(shield=True):
                        await self._commit(batch)
                    if self._measure is not None:
                        events = sum(len(pending.command.events) for pending in batch)
                        self._measure(events, anyio.current_time() - began)
                await self._answer()
        finally:
            self._closed = True
            self._tell()
            for pending in self._queue:
                pending.settle(LogUnavailable("the log was closed: the engine is stopping"))
            self._queue.clear()
            with anyio.CancelScope(shield=True):
                await self._disconnect()

    async def _answer(self) -> None:
        """Have those whose commands are decided told: once the next batch is on its way.

        Where nobody waits they are told first, as where others append too, for the log's lock is
        what is scarce then: what they queue is the next batch.
        """
        if self._is_shared or not self._queue:
            self._tell()
            await checkpoint()
        else:
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        """Tell those who are owed an answer."""
        owed, self._owed = self._owed, []
        for pending, outcome in owed:
            pending.settle(outcome)

    def _take(self) -> list[_Pending]:
        taken: list[_Pending] = []
        events = size = number = 0
        for pending in self._queue:
            if events >= _BATCH_EVENTS or size >= _BATCH_BYTES:
                break
            number += 1
            if not pending.future.done():
                taken.append(pending)
                events += len(pending.command.events)
                size += pending.command.size
        del self._queue[:number]
        if not self._queue:
            self._due.clear()
        return taken

    async def _commit(self, batch: Sequence[_Pending]) -> None:
        try:
            outcomes = await self._write([pending.command for pending in batch])
        except LogUnavailable as error:
            for pending in batch:
                self._owed.append((pending, LogUnavailable(str(error))))
        except LogError as error:
            # Something in it that the database does not take: find out whose it is.
            if len(batch) == 1:
                self._owed.append((batch[0], error))
            else:
                for pending in batch:
                    await self._commit([pending])
        else:
            self._owed += zip(batch, outcomes, strict=True)

    async def _write(self, commands: Sequence[Command]) -> list[Outcome]:
        try:
            return await self._attempt(commands)
        except ConnectionLost as error:
            # It may have been committed: the ids tell, so the second time does no harm.
            _log.warning("appending: %s; trying once more", error)
            await anyio.sleep(HEARING)
            return await self._attempt(commands)

    async def _attempt(self, commands: Sequence[Command]) -> list[Outcome]:
        try:
            with translated():
                connection = await self._connect()
                outcomes = None
                if not self._is_shared:
                    outcomes = await self._presume(connection, commands)
                if outcomes is None and self._is_shared:
                    outcomes = await self._behind(connection, commands)
                if outcomes is None:
                    outcomes = await self._look_first(connection, commands)
                return outcomes
        except LogError:
            self._forget()
            await self._disconnect()
            raise

    async def _connect(self) -> PoolConnectionProxy[asyncpg.Record]:
        if self._connection is None:
            self._connection = await self._pool.acquire(timeout=10)
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await discard(self._pool, connection)

    def _forget(self) -> None:
        self._seen = None
        self._versions.clear()
        self._stored.clear()

    async def _presume(
        self, connection: PoolConnectionProxy[asyncpg.Record], commands: Sequence[Command]
    ) -> list[Outcome] | None:
        """Write a batch on what is known from the last one; None where that does not hold."""
        if self._seen is None:
            return None
        streams = {item.new.stream for command in commands for item in command.events}
        unknown = streams - self._versions.keys()
        if unknown:
            rows = await connection.fetch(SQL["versions"], list(unknown))
            self._versions.update(dict.fromkeys(unknown, Version(0)))
            self._versions.update((row[0], row[1]) for row in rows)
        versions = {stream: self._versions[stream] for stream in streams}
        decision = decide(commands, State(self._seen, self._now, versions, {}))
        if any(isinstance(outcome, LogError) for outcome in decision.outcomes):
            self._forget()
            return None  # perhaps only what is known is out of date
        await self._make_room(connection, decision.rows[-1].position)
        oldest = made_at(min([row.prepared.new.event_id for row in decision.rows]))
        try:
            with translated():
                fresh = self._fresh(commands)
                recorded = await self._append(
                    connection, self._seen, decision, oldest=oldest, fresh=fresh
                )
        except Stale:
            self._forget()
            return None
        if recorded is None:
            self._forget()
            self._is_shared = True
            return None
        self._stored.update(fresh)
        self._note(decision, recorded)
        return decision.outcomes

    async def _behind(
        self, connection: PoolConnectionProxy[asyncpg.Record], commands: Sequence[Command]
    ) -> list[Outcome] | None:
        """Write a small batch behind whatever others appended; None where it is to be looked up.

        The log is locked for one statement, and not for our round trips.
        """
        at = needed(commands)
        presumed = {stream: Version(version or 0) for stream, version in at.items()}
        decision = decide(commands, State(START, self._now, presumed, {}))
        if any(isinstance(outcome, LogError) for outcome in decision.outcomes):
            return None
        if len(decision.rows) >= LARGE:
            return None
        oldest = made_at(min([row.prepared.new.event_id for row in decision.rows]))
        fresh = self._fresh(commands)
        await self._make_room(connection, self._last + len(decision.rows))
        try:
            with translated():
                placed = await write_behind(
                    connection, self._last, self._room, decision, at, oldest=oldest, fresh=fresh
                )
        except Stale:
            return None
        if placed is None:
            return None
        decision = decide(commands, State(placed.base, self._now, placed.versions, {}))
        self._stored.update(fresh)
        self._is_shared = placed.base != self._last
        self._versions.clear()  # others may have moved on any other stream
        self._note(decision, placed.recorded)
        return decision.outcomes

    async def _look_first(
        self, connection: PoolConnectionProxy[asyncpg.Record], commands: Sequence[Command]
    ) -> list[Outcome]:
        """Write a batch on what is looked up under the log's lock."""
        streams = {item.new.stream for command in commands for item in command.events}
        ids = [item.new.event_id for command in commands for item in command.events]
        blobs = [blob for command in commands for blob in command.blobs]
        recorded = None
        async with connection.transaction():
            # Bodies before the lock: another writer may hold one of them and wait for the lock.
            if blobs:
                await bodies.put(connection, blobs)
            state = await self._lock_and_look(connection, list(streams), ids)
            decision = decide(commands, state)
            if decision.rows:
                await self._make_room(connection, decision.rows[-1].position)
                recorded = await self._append(connection, state.position, decision)
                if recorded is None:
                    raise LogError("the log moved on under its lock: somebody writes around it")
        self._is_shared = self._last not in (START, state.position)
        self._versions.update(state.versions)
        self._seen = state.position
        self._note(decision, recorded or state.now)
        return decision.outcomes

    async def _lock_and_look(
        self,
        connection: PoolConnectionProxy[asyncpg.Record],
        streams: Sequence[StreamName],
        ids: Sequence[EventId],
    ) -> State:
        (found,) = await connection.fetch(SQL["lock_and_look"], self._last, streams, ids)
        position, clock, there, versions, reused = found
        known = await connection.fetch(SQL["known_ids"], ids) if reused else ()
        return State(
            Position(position),
            clock,
            dict(zip(there or (), versions or (), strict=True)),
            {EventId(row[0]): Known(row[1], row[2], tuple(row[3:10])) for row in known},
        )

    def _fresh(self, commands: Sequence[Command]) -> dict[bytes, bytes]:
        """Return the bodies that are not known to be stored, by digest."""
        found: dict[bytes, bytes] = {}
        for command in commands:
            for blob in command.blobs:
                digest = digest_bytes(blob.digest)
                if digest not in self._stored:
                    found[digest] = blob.body
        return found

    async def _make_room(self, connection: PoolConnectionProxy[asyncpg.Record], last: int) -> None:
        """Make partitions until a whole one is empty ahead of a position."""
        until = last + self._partition_size
        if until > self._room:
            self._room = await connection.fetchval(
                SQL["add_partitions"], until, self._partition_size
            )

    async def _append(
        self,
        connection: PoolConnectionProxy[asyncpg.Record],
        base: Position,
        decision: Decision,
        *,
        oldest: int = 2**62,
        fresh: dict[bytes, bytes] | None = None,
    ) -> int | None:
        """Write a decision; return when it was recorded, None where the log is not at `base`."""
        return await write(connection, base, decision, oldest=oldest, fresh=fresh or {})

    def _note(self, decision: Decision, recorded: int) -> None:
        """Remember what the log is like after a batch, and tell that it grew."""
        self._now = recorded
        if len(self._versions) > _REMEMBER:
            self._versions.clear()
        if len(self._stored) > _REMEMBER_BODIES:
            self._stored.clear()
        if decision.rows:
            self._seen = self._last = decision.rows[-1].position
            self._versions.update((name, head.version) for name, head in decision.heads.items())
            self._committed()
