"""Reading the past of a fleet: one target at any instant, all clusters at one."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from benchmarks.frame import Figure, say
from benchmarks.support.building import build_in_processes
from benchmarks.support.history import Fleet, Loaded, instants, loaded
from engine.situations import read_situation
from events.event import Position
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.asof import as_of
from projections.batch import Group
from projections.fold import TargetId, target_of
from projections.observed import OBSERVED
from projections.postgres import PostgresViews
from projections.projection import Reader
from projections.views import read_all


async def figures(
    events: int = 1_000_000, clusters: int = 1000, objects: int = 100, reads: int = 40
) -> AsyncIterator[Figure]:
    """Yield the figures; the ceiling of each is the same read of the present."""
    fleet = Fleet(clusters, objects)
    params = {"events": events, "clusters": clusters, "objects": objects}
    with tempfile.TemporaryDirectory(prefix="trueup-bench-") as folder:
        async with loaded(Path(folder) / "postgres", fleet, events) as it:
            group = Group(DOCUMENT_VIEWS, SUBJECT_VIEWS)
            began = time.perf_counter()
            for told in await build_in_processes(it.dsn):
                say(f"  {told}")
            rate = events / (time.perf_counter() - began)
            yield Figure("asof.build", rate, "events/s", None, params)
            views = PostgresViews(it.pool, group)
            past, present = [], []
            for number, position in enumerate(instants(events, reads)):
                target = target_of(fleet.target(number * 7919 % clusters))

                async def one(reader: Reader, target: TargetId = target) -> object:
                    return await read_situation(reader, it.log, target, 0)

                past.append(await _seconds(it, views, position, one))
                present.append(await _seconds(it, views, None, one))
            yield Figure(
                "asof.target",
                statistics.median(past),
                "s",
                statistics.median(present),
                params | {"reads": reads},
            )
            yield Figure("asof.target.max", max(past), "s", max(present), params | {"reads": reads})

            async def whole(reader: Reader) -> object:
                return await read_all(reader, OBSERVED)

            halfway = Position(events // 2)
            yield Figure(
                "asof.fleet",
                await _seconds(it, views, halfway, whole),
                "s",
                await _seconds(it, views, None, whole),
                params,
            )


async def _seconds(
    it: Loaded,
    views: PostgresViews,
    position: Position | None,
    read: Callable[[Reader], Awaitable[object]],
) -> float:
    began = time.perf_counter()
    if position is None:
        async with views.snapshot() as reader:
            found = await read(reader)
    else:
        async with as_of(views, it.log, position) as reader:
            found = await read(reader)
    if not found:
        raise AssertionError("nothing was found")
    return time.perf_counter() - began
