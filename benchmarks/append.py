"""Appending events of 1 KB, proofs on, against bare COPY and INSERT into the identical table."""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.frame import Figure, alternate, say
from benchmarks.support.appending import (
    BATCH,
    Ground,
    Queue,
    batches,
    events,
    ground,
    latency,
)
from benchmarks.support.parts import Narrow, parts
from events.postgres import PARTITION_SIZE

_ROUNDS = 3
_AHEAD = 20_000
"""Events made at a time, outside of the time that is measured."""


async def figures(seconds: float = 30.0, only: str = "") -> AsyncIterator[Figure]:
    """Yield the figures; `seconds` for each, in all its rounds, and as much for its ceiling."""
    span = seconds / _ROUNDS
    params: dict[str, object] = {"seconds": seconds, "bytes": 1000}
    with tempfile.TemporaryDirectory(prefix="trueup-bench-") as folder:
        async with ground(Path(folder)) as it:
            gc.collect()
            gc.freeze()
            if only in ("", "bulk"):
                yield await _bulk(it, span, params)
            for callers in (1, 8, 64):
                if only in ("", f"callers_{callers}"):
                    yield await _callers(it, span, callers, params)
            if only in ("", "processes_4"):
                yield await _processes(it, span, params)
            if only in ("", "narrow"):
                yield await _narrow(it, span, params)
            if it.lags:
                yield Figure("append.signer_lag", max(it.lags), "s", None, params)
            if only in ("", "parts"):
                for size, rounds in ((BATCH, 20), (64, 200)):
                    found = await parts(it, size, rounds)
                    for part, value in found.items():
                        name = f"append.part.{part}"
                        yield Figure(name, value, "us/event", None, {"batch": size})
                before = await it.log.head() - await it.signed()
                began = time.perf_counter()
                await it.signer.step()
                spent = (time.perf_counter() - began) / before * 1e6
                yield Figure("append.part.sign", spent, "us/event", None, {"events": before})


@asynccontextmanager
async def _signing(it: Ground) -> AsyncIterator[None]:
    """Sign while it lasts, as the engine does, and after it to the end, or the next would pay."""
    task = asyncio.create_task(it.signer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    behind = await it.log.head() - await it.signed()
    before = time.perf_counter()
    await it.signer.step()
    it.lags.append(time.perf_counter() - before)
    say(f"  signed the last {behind} events in {it.lags[-1]:.2f} s")


async def _bulk(it: Ground, span: float, params: dict[str, object]) -> Figure:
    async def ours() -> float:
        async with _signing(it):
            return await _rate(
                span, lambda: list(batches(events(_AHEAD))), lambda batch: it.log.append(batch)
            )

    async def bare() -> float:
        async with it.bare.pool.acquire() as connection:
            return await _rate(
                span,
                lambda: list(batches(it.bare.take(_AHEAD))),
                lambda batch: it.bare.copy(connection, batch),
            )

    value, ceiling = await alternate(ours, bare, _ROUNDS)
    return Figure("append.bulk", value, "events/s", ceiling, params | {"batch": BATCH})


async def _rate(
    span: float,
    make: Callable[[], list[list[Any]]],
    write: Callable[[list[Any]], Awaitable[object]],
) -> float:
    """Write batches for a while; what they are made of is made while the clock stands."""
    done, spent = 0, 0.0
    while spent < span:
        made = make()
        began = time.perf_counter()
        for batch in made:
            await write(batch)
            done += len(batch)
        spent += time.perf_counter() - began
    return done / spent


async def _callers(it: Ground, span: float, callers: int, params: dict[str, object]) -> Figure:
    seconds: list[float] = []
    bare_seconds: list[float] = []

    async def ours() -> float:
        async with _signing(it):
            return await _many(
                span, callers, lambda: [[event] for event in events(500)], it.log.append, seconds
            )

    async def bare() -> float:
        if callers == 1:
            async with it.bare.pool.acquire() as connection:
                return await _many(
                    span,
                    1,
                    lambda: it.bare.take(500),
                    lambda row: it.bare.insert(connection, row),
                    bare_seconds,
                )
        queue = Queue(it.bare)
        task = asyncio.create_task(queue.run())
        try:
            return await _many(span, callers, lambda: it.bare.take(500), queue.append, bare_seconds)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    value, ceiling = await alternate(ours, bare, _ROUNDS)
    found = params | latency(seconds) | {"ceiling": latency(bare_seconds)}
    return Figure(f"append.callers_{callers}", value, "events/s", ceiling, found)


async def _many(
    span: float,
    callers: int,
    make: Callable[[], list[Any]],
    write: Callable[..., Awaitable[object]],
    seconds: list[float],
) -> float:
    """Have each caller write one after the other, until the time is over."""
    until = time.perf_counter() + span
    done = 0

    async def caller() -> None:
        nonlocal done
        made = make()
        while (began := time.perf_counter()) < until:
            if not made:
                made = make()
            await write(made.pop())
            seconds.append(time.perf_counter() - began)
            done += 1

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return done / (time.perf_counter() - began)


async def _processes(it: Ground, span: float, params: dict[str, object]) -> Figure:
    """Four processes at one log, 16 callers each; the ceiling is four queues at the bare table."""

    partitions = itertools.count(1, 4)

    async def ours() -> float:
        async with _signing(it):
            return await _four("log", it.dsn, span, 0)

    async def bare() -> float:
        return await _four("bare", it.bare.dsn, span, next(partitions))

    value, ceiling = await alternate(ours, bare, _ROUNDS)
    return Figure("append.processes_4", value, "events/s", ceiling, params | {"callers": 16})


async def _narrow(it: Ground, span: float, params: dict[str, object]) -> Figure:
    """What a COPY of position and payload alone comes to, beside the whole row with its indexes."""
    async with it.bare.pool.acquire() as one, it.bare.pool.acquire() as other:
        table = Narrow(one)
        await table.make()

        async def narrow() -> float:
            return await _rate(span, lambda: list(batches(table.take(_AHEAD))), table.copy)

        async def bare() -> float:
            return await _rate(
                span,
                lambda: list(batches(it.bare.take(_AHEAD))),
                lambda batch: it.bare.copy(other, batch),
            )

        value, ceiling = await alternate(narrow, bare, _ROUNDS)
        return Figure("append.narrow", value, "events/s", ceiling, params | {"batch": BATCH})


async def _four(what: str, dsn: str, span: float, partition: int) -> float:
    started = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.support.appending_process"),
            *(what, dsn, str(span), str((partition + number) * PARTITION_SIZE + 1)),
            stdout=asyncio.subprocess.PIPE,
        )
        for number in range(4)
    ]
    said = [(await process.communicate())[0] for process in started]
    return sum(float(text) for text in said)
