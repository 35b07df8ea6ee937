"""Bytes: of an event, of an observed change with its views, of a day of idle clusters, of WAL."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from benchmarks.frame import Figure
from benchmarks.support.building import build
from benchmarks.support.history import BEGAN, Fleet, Loaded, facts, loaded
from engine.process.clock import SystemClock
from events.catalog import Fact, ObservationConfirmed
from events.event import Actor, Micros, NewEvent, Position, StreamName
from events.postgres import open_log
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.batch import Group
from projections.store import Pool, Store

_LOG = ("events", "stream_head", "event_id", "blobs", "merkle_tile", "log_checkpoint")
_VIEWS = ("view_document", "view_subject", "view_snapshot", "view_formerly", "view_parked")
_BATCH = 500
_HEARTBEATS = 24
"""Of an idle cluster a day: each hour it is listed afresh."""


async def figures(events: int = 100_000, clusters: int = 1000) -> AsyncIterator[Figure]:
    """Yield the figures: in bytes on disk after VACUUM, indexes and side tables included."""
    fleet = Fleet(100, 100)
    with tempfile.TemporaryDirectory(prefix="trueup-bench-") as folder:
        async with loaded(Path(folder) / "postgres", fleet, 0) as it:
            before = await _wal(it.pool)
            await _append(it, list(facts(fleet, events)))
            wal = await _wal(it.pool) - before
            params = {"events": events}
            log = await _size(it.pool, _LOG)
            yield Figure("size.event", log / events, "bytes", None, params)
            yield Figure("size.wal", wal / events, "bytes/event", None, params)
            payloads = await it.pool.fetchval("SELECT sum(length(payload)) FROM events")
            yield Figure("size.payload", payloads / events, "bytes", None, params)
            await build(it.log, Store(it.pool), _group(), Position(events))
            views = await _size(it.pool, _VIEWS)
            yield Figure("size.change", (log + views) / events, "bytes", None, params)
        async with loaded(Path(folder) / "idle", Fleet(clusters, 1), 0) as it:
            day = [
                (f"cluster/default/c{number:05}", ObservationConfirmed(100, "sha256:" + "0" * 64))
                for _ in range(_HEARTBEATS)
                for number in range(clusters)
            ]
            before = await _size(it.pool, _LOG + _VIEWS)
            await _append(it, day)
            await build(it.log, Store(it.pool), _group(), Position(len(day)))
            grown = await _size(it.pool, _LOG + _VIEWS) - before
            yield Figure(
                "size.idle_day", grown / 1e6, "MB", 50.0, {"clusters": clusters, "objects": 100}
            )


def _group() -> Group:
    return Group(DOCUMENT_VIEWS, SUBJECT_VIEWS)


async def _append(it: Loaded, said: Sequence[tuple[str, Fact]]) -> None:
    """Append as the engine does, in batches, proofs aside."""
    clock = SystemClock()
    async with open_log(it.dsn, packages=("events", "projections")) as log:
        for start in range(0, len(said), _BATCH):
            await log.append(
                [
                    NewEvent(
                        event_id=clock.event_id(),
                        stream=StreamName(stream),
                        fact=fact,
                        actor=Actor("cluster:bench"),
                        occurred_at=Micros(BEGAN),
                    )
                    for stream, fact in said[start : start + _BATCH]
                ]
            )


async def _size(pool: Pool, tables: Sequence[str]) -> int:
    async with pool.acquire() as connection:
        await connection.execute("VACUUM", timeout=600)
        return int(
            await connection.fetchval(
                "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class AS c "
                "LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid "
                "WHERE c.relkind = 'r' AND (c.relname = ANY($1) "
                "OR i.inhparent::regclass::text = ANY($1))",
                list(tables),
            )
        )


async def _wal(pool: Pool) -> int:
    return int(await pool.fetchval("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"))
