"""Exporting the log with its proofs, and verifying an export, beside reading and hashing its files.

The log is filled by COPY. `events` of them; `jobs` processes verify, and as many read and hash the
same files for the ceiling.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import anyio
import anyio.to_thread

from benchmarks.frame import Figure, alternate, peak_memory, say
from benchmarks.support.history import Fleet, loaded
from engine.audit.export import export
from engine.audit.files import files_in
from engine.audit.verify import verify
from engine.process.clock import SystemClock
from engine.settings import Settings
from engine.signing.setup import start_signing
from events.proofs import Proofs

_CLOCK = SystemClock()


async def figures(
    events: int = 200_000, jobs: int = 2, bodies: str = "all", rounds: int = 3
) -> AsyncIterator[Figure]:
    """Yield events a second, ceilings in the same unit, and the most memory a process held."""
    params = {"events": events, "jobs": jobs, "bodies": bodies}
    with tempfile.TemporaryDirectory(prefix="trueup-bench-") as name:
        folder = Path(name)
        async with loaded(folder / "postgres", Fleet(100, 20), events) as it:
            settings = Settings(data_dir=folder / "data")
            began = time.perf_counter()
            signer = await start_signing(settings, it.pool, it.log, _CLOCK)
            await signer.step()
            yield Figure(
                "audit.sign", events / (time.perf_counter() - began), "events/s", None, params
            )
            to = folder / "export"
            began = time.perf_counter()
            done = await export(Proofs(it.pool, it.log), to, bodies, say_progress, _CLOCK)  # type: ignore[arg-type]
            seconds = time.perf_counter() - began
        size = done.checkpoint.size
        written, _ = await _bare(to, jobs)
        yield Figure("audit.export", size / seconds, "events/s", size / written, params)
        spent: list[float] = []
        bare: list[float] = []

        async def verified() -> float:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                pool.submit(_spent).result()
                began = time.perf_counter()
                found = await anyio.to_thread.run_sync(pool.submit(_verify, to, jobs).result)
                spent.append(found)
                return size / (time.perf_counter() - began)

        async def read() -> float:
            seconds, cpu = await _bare(to, jobs)
            bare.append(cpu)
            return size / seconds

        rate, ceiling = await alternate(verified, read, rounds)
        yield Figure("audit.verify", rate, "events/s", ceiling, params)
        yield Figure(
            "audit.verify.cpu", size / min(spent), "events/cpu-s", size / min(bare), params
        )
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            peak = await anyio.to_thread.run_sync(pool.submit(_peak, to).result)
        yield Figure("audit.verify.memory", peak, "MB", None, params | {"jobs": 1})


def say_progress(progress: object) -> None:
    """Tell how far it is."""
    say(f"  {progress}")


async def _bare(folder: Path, jobs: int) -> tuple[float, float]:
    """Return the seconds, and those of CPU, that it takes to read and hash every file once."""
    files = list(files_in(folder))
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_hash, [[]] * jobs))  # they have started
        began = time.perf_counter()
        parts = [files[number::jobs] for number in range(jobs)]
        used = await anyio.to_thread.run_sync(lambda: list(pool.map(_hash, parts)))
        return time.perf_counter() - began, sum(used)


def _hash(files: list[Path]) -> float:
    began = time.process_time()
    for path in files:
        hashlib.sha256(path.read_bytes()).digest()
    return time.process_time() - began


def _verify(folder: Path, jobs: int) -> float:
    """Verify; return the seconds of CPU, those that it takes to start the crew included."""
    began = _spent()
    verify(folder, (), (), say_progress, _CLOCK, processes=jobs)
    return _spent() - began


def _peak(folder: Path) -> float:
    """Verify in this process alone; return the most memory that it had resident, in MB."""
    verify(folder, (), (), say_progress, _CLOCK)
    # Not by getrusage: it begins with what the process had that this one was forked from.
    return peak_memory(os.getpid())


def _spent() -> float:
    """Return the seconds of CPU of this process and those that it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
