"""What each part of an append costs: the product's own steps, one after the other, each timed."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.support.appending import Ground, Row, events, rows
from events.batching import Decision, State, decide, prepare
from events.codec import encode
from events.entry import event_leaf
from events.event import Event, EventId, Position
from events.limits import made_at
from events.migrate import AnyConnection
from events.writing import LARGE, SQL, write

_NARROW = "narrow"


class Stopwatch:
    """Sums up seconds by part, and stands in for a connection that is timed call by call.

    What we do ourselves is timed in CPU time, what is waited for by the clock; `server` is the CPU
    time that the server's process took for all of it.
    """

    def __init__(self, connection: AnyConnection) -> None:
        self._connection = connection
        self.spent: dict[str, float] = {}

    @contextmanager
    def timing(self, part: str, clock: Callable[[], float] = time.process_time) -> Iterator[None]:
        """Count what is done within towards a part."""
        began = clock()
        yield
        self.spent[part] = self.spent.get(part, 0.0) + clock() - began

    @contextmanager
    def waiting(self, part: str) -> Iterator[None]:
        """Count what the server is waited for towards a part, and its work."""
        with self.timing(part, time.perf_counter), self.timing("server", self._server):
            yield

    def _server(self) -> float:
        # Linux: nanoseconds on a CPU, then what it waited for one, then how often it ran.
        pid = self._connection.get_server_pid()
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9

    def is_in_transaction(self) -> bool:
        """Whether a transaction is open, as the connection has it."""
        return bool(self._connection.is_in_transaction())

    async def fetchval(self, *arguments: Any) -> Any:
        """Ask what the product asks: the checks of a large batch, all of a small one."""
        with self.waiting("checks" if self.is_in_transaction() else "statement"):
            return await self._connection.fetchval(*arguments)

    async def copy_records_to_table(self, table: str, **options: Any) -> Any:
        """COPY: the ids, or the events."""
        with self.waiting("ids" if table == "event_id" else "copy"):
            return await self._connection.copy_records_to_table(table, **options)


async def parts(it: Ground, size: int, rounds: int) -> dict[str, float]:
    """Append batches of `size` events part by part; return the median of each, in us an event.

    Each event is an append of its own. A batch of fewer than `writing.LARGE` is one statement,
    its commit included.
    """
    connection = await asyncpg.connect(it.dsn)
    found: dict[str, list[float]] = {}
    try:
        for _ in range(rounds):
            watch = Stopwatch(connection)
            await _batch(watch, connection, size)
            for part, seconds in watch.spent.items():
                found.setdefault(part, []).append(seconds / size * 1e6)
    finally:
        await connection.close()
    return {part: statistics.median(values) for part, values in found.items()}


async def _batch(watch: Stopwatch, connection: AnyConnection, size: int) -> None:
    made = events(size)
    with watch.timing("encode"):
        for event in made:
            encode(event.fact)
    with watch.timing("prepare"):  # encodes once more, and checks what no log could hold
        commands = [prepare([event], ()) for event in made]
    streams = list({event.stream for event in made})
    versions = {row[0]: row[1] for row in await connection.fetch(SQL["versions"], streams)}
    base = Position(await connection.fetchval("SELECT coalesce(max(position), 0) FROM events"))
    with watch.timing("decide"):
        decision = decide(commands, State(base, time.time_ns() // 1000, versions, {}))
    oldest = made_at(min(event.event_id for event in made))
    if size >= LARGE:
        await connection.execute("BEGIN")
    recorded = await write(watch, base, decision, oldest=oldest, fresh={})  # type: ignore[arg-type]
    if recorded is None:
        raise RuntimeError("somebody else appends while the parts are measured")
    if size >= LARGE:
        with watch.waiting("commit"):
            await connection.execute("COMMIT")
    _hash(watch, decision, recorded)


def _hash(watch: Stopwatch, decision: Decision, recorded: int) -> None:
    """Make the leaves, as the signer does; it has the server hash the payloads."""
    whole = [
        Event(
            position=row.position,
            stream=row.prepared.new.stream,
            version=row.version,
            event_id=EventId(str(row.prepared.new.event_id)),
            type=row.prepared.type,
            schema=row.prepared.schema,
            recorded_at=recorded,  # type: ignore[arg-type]
            occurred_at=row.prepared.new.occurred_at,
            actor=row.prepared.new.actor,
            causation=row.prepared.new.causation,
            correlation=row.prepared.new.correlation,
            traceparent=row.prepared.new.traceparent,
            payload=row.prepared.payload,
        )
        for row in decision.rows
    ]
    with watch.timing("hash"):
        for event in whole:
            event_leaf(event)
    with watch.timing("hash.payload"):
        for event in whole:
            hashlib.sha256(event.payload).digest()


class Narrow:
    """A table of position and payload alone: what COPY comes to where nothing else is kept."""

    def __init__(self, connection: AnyConnection) -> None:
        self._connection = connection
        self._next = 1

    async def make(self) -> None:
        """Make the table."""
        await self._connection.execute(
            f"CREATE TABLE {_NARROW} (position bigint PRIMARY KEY, payload bytea NOT NULL)"
        )

    def take(self, count: int) -> list[Row]:
        """Make the next rows."""
        first, self._next = self._next, self._next + count
        return [(row[0], row[-1]) for row in rows(first, count)]

    async def copy(self, batch: list[Row]) -> None:
        """Write rows: one durable COPY."""
        await self._connection.copy_records_to_table(
            _NARROW, records=batch, columns=("position", "payload")
        )
