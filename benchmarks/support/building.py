"""Fold some views over a whole history: `python -m benchmarks.support.building DSN VIEW ...`.

A process of its own for each group of views, as `trueup rebuild` is. Prints one JSON object: the
seconds that it took, of which CPU, and the most memory that it had.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import Collection, Sequence
from typing import Any

import orjson

from benchmarks.frame import say
from engine.process.clock import SystemClock
from events.event import Position
from events.log import EventLog
from events.postgres import reading
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.batch import Group
from projections.build import Pace, Progress, catch_up, prepare
from projections.keeper import Keeper
from projections.store import Store

GROUPS: Sequence[Collection[str]] = (
    ["observed"],
    [view.name for view in SUBJECT_VIEWS],
    [view.name for view in DOCUMENT_VIEWS if view.name != "observed"],
)
"""Three shares of the work, of which the first two are about the same."""
_SAID_EVERY = 20.0


async def build(log: EventLog, store: Store, group: Group, until: Position) -> None:
    """Fold a whole history into views that are stored."""
    clock, said = SystemClock(), 0.0

    def report(progress: Progress) -> None:
        nonlocal said
        if time.monotonic() - said > _SAID_EVERY:
            said = time.monotonic()
            names = ", ".join(progress.views[:3])
            say(f"  {names} at {progress.position} of {progress.head}, {progress.rate:.0f}/s")

    async with store.session() as session:
        slots = await prepare(log, session, group, clock, epoch=1)
        keeper = await Keeper.open(session, group, slots, clock)
        await catch_up(log, keeper, until, clock, Pace(group.views, clock, report))


async def build_in_processes(
    dsn: str, groups: Sequence[Collection[str]] = GROUPS
) -> list[dict[str, Any]]:
    """Build groups of views at once, each in a process; return what each of them says."""
    workers = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.support.building", dsn, *names),
            stdout=asyncio.subprocess.PIPE,
        )
        for names in groups
    ]
    outputs = await asyncio.gather(*(worker.communicate() for worker in workers))
    if failed := [worker.returncode for worker in workers if worker.returncode]:
        raise AssertionError(f"{len(failed)} of the processes that build views failed")
    return [orjson.loads(out) for out, _ in outputs]


async def _work(dsn: str, names: Collection[str]) -> None:
    group = Group(DOCUMENT_VIEWS, SUBJECT_VIEWS).only(names)
    began = time.perf_counter()
    async with reading(dsn) as (pool, log):
        await build(log, Store(pool), group, await log.head())
    used = resource.getrusage(resource.RUSAGE_SELF)
    told = {
        "views": list(names),
        "seconds": round(time.perf_counter() - began, 1),
        "cpu": round(used.ru_utime + used.ru_stime, 1),
        "megabytes": used.ru_maxrss // 1024,
    }
    sys.stdout.write(orjson.dumps(told).decode() + "\n")


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1], sys.argv[2:]))
