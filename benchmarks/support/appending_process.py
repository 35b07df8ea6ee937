"""One of several processes that append to one log, or to the bare table; says its rate."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.support.appending import Bare, Queue, events
from events.connection import make_pool
from events.postgres import open_log

_CALLERS = 16


async def main(what: str, dsn: str, span: float, first: int) -> None:
    """Append for a while with several callers; `first` is a position for the bare table."""
    if what == "log":
        async with open_log(dsn) as log:
            print(await _rate(span, lambda: [[event] for event in events(500)], log.append))
        return
    pool = await make_pool(dsn, 2, "bare")
    bare = Bare(pool, dsn, first)
    queue = Queue(bare)
    task = asyncio.create_task(queue.run())
    try:
        print(await _rate(span, lambda: bare.take(500), queue.append))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        pool.terminate()


async def _rate(
    span: float, make: Callable[[], list[Any]], write: Callable[[Any], Awaitable[object]]
) -> float:
    until = time.perf_counter() + span
    done = 0

    async def caller() -> None:
        nonlocal done
        made = make()
        while time.perf_counter() < until:
            if not made:
                made = make()
            await write(made.pop())
            done += 1

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(_CALLERS):
            group.create_task(caller())
    return done / (time.perf_counter() - began)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])))
