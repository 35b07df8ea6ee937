"""Reading the log in order and folding it: in one process, in two, and into the stored views."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from benchmarks.frame import Figure, alternate, say
from benchmarks.support.building import build
from benchmarks.support.history import Fleet, Loaded, loaded
from events.codec import fact_of
from events.event import Position
from events.log import EventLog
from events.postgres import SQL, reading
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.batch import Group
from projections.observed import OBSERVED
from projections.projection import Projection
from projections.store import Store
from projections.targets import TARGETS

_PAGE = 1000


async def figures(
    events: int = 500_000, clusters: int = 200, objects: int = 100, rounds: int = 3
) -> AsyncIterator[Figure]:
    """Yield the figures.

    `fold_1` folds the objects of clusters, which nine of ten events are about; `fold_few` the
    targets, which one of ten is about; `fold_2` the first again, in two processes, each its half
    of the streams. Their ceiling is a raw read of all rows with their payloads parsed, that of
    `fold_2` is `fold_1`. `rebuild` folds and stores all views.
    """
    params = {"events": events, "clusters": clusters, "objects": objects}
    with tempfile.TemporaryDirectory(prefix="trueup-bench-") as folder:
        async with loaded(Path(folder) / "postgres", Fleet(clusters, objects), events) as it:
            raw = _rate(events, lambda: _raw(it))
            for name, view in (("fold_1", OBSERVED), ("fold_few", TARGETS)):
                ours = _rate(events, partial(fold, it.log, view))
                value, ceiling = await alternate(ours, raw, rounds)
                yield Figure(f"replay.{name}", value, "events/s", ceiling, params)
            two, one = await alternate(lambda: _processes(it, 2), lambda: _processes(it, 1), rounds)
            yield Figure("replay.fold_2", two, "events/s", one, params | {"processes": 2})
            began = time.perf_counter()
            group = Group(DOCUMENT_VIEWS, SUBJECT_VIEWS)
            await build(it.log, Store(it.pool), group, Position(events))
            seconds = time.perf_counter() - began
            yield Figure("replay.rebuild", events / seconds, "events/s", None, params)


def _rate(events: int, work: Callable[[], Awaitable[int]]) -> Callable[[], Awaitable[float]]:
    async def measured() -> float:
        began = time.perf_counter()
        done = await work()
        seconds = time.perf_counter() - began
        if done != events:
            raise AssertionError(f"{done} of {events} events were read")
        return events / seconds

    return measured


async def _raw(it: Loaded) -> int:
    """Read every row by keyset, and parse its payload: nothing else."""
    after = done = 0
    async with it.pool.acquire() as connection:
        page = await connection.prepare(SQL["read"])
        while rows := await page.fetch(after, _PAGE):
            for row in rows:
                orjson.loads(row["payload"])
            after = rows[-1]["position"]
            done += len(rows)
    return done


async def fold(log: EventLog, view: Projection[Any], part: int = 0, parts: int = 1) -> int:
    """Fold one view in memory: of the streams that fall into a part, where there are several."""
    documents: dict[str, Any] = {}
    at, done = Position(0), 0
    while events := await log.read(at, _PAGE):
        for event in events:
            if event.type not in view.types:
                continue
            if parts > 1 and zlib.crc32(event.stream.rpartition("@")[2].encode()) % parts != part:
                continue
            fact = fact_of(event)
            for key in view.keys(event, fact):
                document = view.apply(key, documents.get(key), event, fact)
                if document is None:
                    documents.pop(key, None)
                else:
                    documents[key] = document
        at = events[-1].position
        done += len(events)
    return done


async def _processes(it: Loaded, number: int) -> float:
    """Fold in so many processes at once; return events a second of the log as a whole."""
    workers = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.replay",
            it.dsn,
            str(part),
            str(number),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for part in range(number)
    ]
    for worker in workers:
        assert worker.stdout is not None
        await worker.stdout.readline()  # it is connected
    began = time.perf_counter()
    outputs = await asyncio.gather(*(worker.communicate(b"\n") for worker in workers))
    seconds = time.perf_counter() - began
    if any(int(out) != it.events for out, _ in outputs):
        raise AssertionError("a process did not read the whole log")
    rate = it.events / seconds
    say(f"replay: {number} processes {rate:.0f}/s")
    return rate


async def _work(dsn: str, part: int, parts: int) -> None:
    async with reading(dsn) as (_, log):
        await log.head()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        sys.stdout.write(f"{await fold(log, OBSERVED, part, parts)}\n")


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
