"""Views kept for a test: a runner on a database, and the fold done naively to compare with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
from msgspec import Struct

from engine.process.clock import SystemClock
from events.codec import fact_of
from events.connection import make_pool
from events.event import Event, NewEvent, Position
from events.log import EventLog
from events.postgres import PostgresLog, open_log
from projections.batch import Group, Parked
from projections.build import lay_out
from projections.follower import Follower
from projections.postgres import PostgresViews
from projections.projection import Projection, Reader, SubjectIndex
from projections.runner import Runner
from projections.store import Pool, Store


@asynccontextmanager
async def pool_of(dsn: str, size: int = 8) -> AsyncIterator[Pool]:
    pool = await make_pool(dsn, size)
    try:
        yield pool
    finally:
        pool.terminate()


class Kept(Struct, frozen=True):
    """A log and its views, kept by a runner of this process."""

    log: PostgresLog
    pool: Pool
    store: Store
    runner: Runner | Follower
    views: PostgresViews


@asynccontextmanager
async def sharded(
    dsn: str, group: Group, shards: int, timeline: SubjectIndex
) -> AsyncIterator[Kept]:
    """Keep views in several shards, each by a runner of its own, until the block ends."""
    async with open_log(dsn) as log, pool_of(dsn, 16) as pool, anyio.create_task_group() as tasks:
        store, clock = Store(pool), SystemClock()
        async with store.session() as session:
            await lay_out(session, group, shards, 1)
        for shard in range(shards):
            runner = Runner(log, store, group, clock, epoch=99, shard=shard, shards=shards)
            tasks.start_soon(runner.run)
        follower = Follower(log, store, group, clock)
        await tasks.start(follower.run)
        watermark = follower.watermark
        views = PostgresViews(pool, group, watermark=watermark, log=log, timeline=timeline)
        yield Kept(log, pool, store, follower, views)
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def kept(dsn: str, group: Group, epoch: int = 1) -> AsyncIterator[Kept]:
    """Keep a group of views in a database until the block ends."""
    async with open_log(dsn) as log, pool_of(dsn) as pool, running(log, pool, group, epoch) as it:
        yield it


@asynccontextmanager
async def running(
    log: PostgresLog, pool: Pool, group: Group, epoch: int = 1
) -> AsyncIterator[Kept]:
    store = Store(pool)
    runner = Runner(log, store, group, SystemClock(), epoch=epoch)
    async with anyio.create_task_group() as tasks:
        await tasks.start(runner.run)
        views = PostgresViews(pool, group, watermark=runner.watermark)
        yield Kept(log, pool, store, runner, views)
        tasks.cancel_scope.cancel()


async def append(log: EventLog, events: Sequence[NewEvent]) -> Position:
    return (await log.append(events)).last


async def everything(log: EventLog, until: Position) -> list[Event]:
    events: list[Event] = []
    while len(events) < until:
        events += await log.read(Position(len(events)), min(5000, until - len(events)))
    return events


Documents = dict[str, tuple[int, Any]]


def naive_documents(view: Projection[Any], events: Sequence[Event]) -> tuple[Documents, set[str]]:
    """Fold one event after the other into plain dicts; return documents and what is parked."""
    documents: Documents = {}
    parked: set[str] = set()
    for event in events:
        if event.type not in view.types or event.stream in parked:
            continue
        fact = fact_of(event)
        try:
            keys = list(dict.fromkeys(view.keys(event, fact)))
        except Exception:  # noqa: BLE001 - as the views do
            parked.add(event.stream)
            continue
        for key in keys:
            if key in parked:
                continue
            before = documents.get(key)
            try:
                after = view.apply(key, before[1] if before else None, event, fact)
                if after is not None:
                    view.index(after)
            except Exception:  # noqa: BLE001 - as the views do
                parked.add(key)
                continue
            if after is None:
                documents.pop(key, None)
            else:
                documents[key] = (event.position, after)
    return documents, parked


def naive_subjects(view: SubjectIndex, events: Sequence[Event]) -> dict[str, list[int]]:
    filed: dict[str, list[int]] = {}
    for event in events:
        try:
            subjects = list(dict.fromkeys(view.subjects(event, fact_of(event))))
        except Exception:  # noqa: BLE001 - as the views do
            continue
        for subject in subjects:
            filed.setdefault(subject, []).append(event.position)
    return filed


async def documents_of(reader: Reader, view: Projection[Any]) -> Documents:
    """Read a whole view in small pages."""
    found: Documents = {}
    after = ""
    while page := await reader.page(view, after=after, limit=7):
        found.update((each.key, (each.position, each.document)) for each in page)
        after = page[-1].key
    return found


def names_of(parked: Sequence[Parked], view: str) -> set[str]:
    return {each.name for each in parked if each.view == view}
