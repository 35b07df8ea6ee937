"""Events of one kilobyte, the same as rows, and a bare table to COPY those into."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.frame import percentile
from engine.embedded.server import EmbeddedPostgres
from engine.process.clock import SystemClock
from engine.settings import Settings
from engine.signing.setup import start_signing
from events.catalog import SourceFailed
from events.codec import encode
from events.connection import make_pool
from events.event import Actor, Micros, NewEvent, StreamName
from events.postgres import PARTITION_SIZE, PostgresLog, open_log, prepare_database
from events.proofs import Proofs
from events.signer import Signer

COLUMNS = (
    "position",
    "stream",
    "version",
    "event_id",
    "type",
    "schema",
    "recorded_at",
    "occurred_at",
    "actor",
    "causation",
    "correlation",
    "traceparent",
    "payload",
)
BATCH = 1000
_CLOCK = SystemClock()
_STREAMS = [StreamName(f"target/default/shop-{number}@prod-{number % 7}") for number in range(200)]
_FACT = SourceFailed("unreachable", "0123456789 abcdef " * 53)
_PAYLOAD = encode(_FACT)
"""One kilobyte."""
_ACTOR = Actor("cluster:default/prod")
_TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_INSERT = "INSERT INTO events VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
Row = tuple[Any, ...]


def events(count: int) -> list[NewEvent]:
    """Make events to append, spread over streams."""
    now = Micros(time.time_ns() // 1000)
    return [
        NewEvent(
            event_id=_CLOCK.event_id(),
            stream=_STREAMS[number % len(_STREAMS)],
            fact=_FACT,
            actor=_ACTOR,
            occurred_at=now,
            correlation="rollout/5ca1ab1e",
            traceparent=_TRACE,
        )
        for number in range(count)
    ]


def rows(first: int, count: int) -> list[Row]:
    """Make the same as rows, encoded and placed: nothing is left but to write them."""
    now = time.time_ns() // 1000
    return [
        (
            position,
            _STREAMS[position % len(_STREAMS)],
            position,
            uuid.UUID(_CLOCK.event_id()),
            "SourceFailed",
            1,
            now,
            now,
            _ACTOR,
            None,
            "rollout/5ca1ab1e",
            _TRACE,
            _PAYLOAD,
        )
        for position in range(first, first + count)
    ]


class Bare:
    """The identical table in a database of its own, and the barest ways to fill it."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], dsn: str, first: int = 1) -> None:
        self.pool, self.dsn = pool, dsn
        self._next = first

    def take(self, count: int) -> list[Row]:
        """Make the next rows."""
        first, self._next = self._next, self._next + count
        return rows(first, count)

    async def copy(self, connection: Any, batch: list[Row]) -> None:
        """Write rows as fast as can be: one durable COPY."""
        await connection.copy_records_to_table("events", records=batch, columns=COLUMNS)

    async def insert(self, connection: Any, row: Row) -> None:
        """Write one row: one durable INSERT."""
        await connection.execute(_INSERT, *row)


class Queue:
    """A queue in front of one COPY connection, and nothing else: no check, no id, no lock."""

    def __init__(self, bare: Bare) -> None:
        self._bare = bare
        self._waiting: list[tuple[Row, asyncio.Future[None]]] = []
        self._due = asyncio.Event()

    async def append(self, row: Row) -> None:
        """Wait until a row is committed."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((row, future))
        self._due.set()
        await future

    async def run(self) -> None:
        """Write whatever waits, until cancelled."""
        async with self._bare.pool.acquire() as connection:
            while True:
                await self._due.wait()
                self._due.clear()
                batch, self._waiting = self._waiting, []
                await self._bare.copy(connection, [row for row, _ in batch])
                for _, future in batch:
                    future.set_result(None)


class Ground:
    """A log with its signer, and the bare table beside it, in one server."""

    def __init__(
        self,
        log: PostgresLog,
        signer: Signer,
        reading: asyncpg.Pool[asyncpg.Record],
        dsn: str,
        bare: Bare,
    ) -> None:
        self.log, self.signer, self.dsn, self.bare = log, signer, dsn, bare
        self._reading = reading
        self.lags: list[float] = []
        """Seconds that the signer took for what it had not signed when appending stopped."""

    async def signed(self) -> int:
        """Return how many events the newest checkpoint has."""
        published = await Proofs(self._reading, self.log).published()
        return published.size if published else 0


@asynccontextmanager
async def ground(folder: Path) -> AsyncIterator[Ground]:
    """Start a server as the product does, durable commits and all."""
    async with EmbeddedPostgres(folder / "postgres") as server:
        admin = await asyncpg.connect(server.dsn)
        await admin.execute("CREATE DATABASE bare")
        await admin.close()
        bare_dsn = server.dsn.replace("@/trueup?", "@/bare?")
        await prepare_database(bare_dsn)
        pool = await make_pool(bare_dsn, 8, "bare")
        # Nobody numbers what several processes write there: each gets a partition to itself.
        await pool.execute("SELECT add_event_partitions($1, $2)", 200_000_000, PARTITION_SIZE)
        reading = await make_pool(server.dsn, 4, "signer")
        try:
            async with open_log(server.dsn) as log:
                settings = Settings(data_dir=folder)
                signer = await start_signing(settings, reading, log, _CLOCK)
                yield Ground(log, signer, reading, server.dsn, Bare(pool, bare_dsn))
        finally:
            pool.terminate()
            reading.terminate()


def latency(seconds: list[float]) -> dict[str, float]:
    """Return p50 and p99 in milliseconds."""
    return {
        "p50_ms": round(percentile(seconds, 0.5) * 1000, 2),
        "p99_ms": round(percentile(seconds, 0.99) * 1000, 2),
    }


def batches(made: list[Any], size: int = BATCH) -> Iterator[list[Any]]:
    """Cut a list into batches."""
    for start in itertools.count(0, size):
        if start >= len(made):
            return
        yield made[start : start + size]
