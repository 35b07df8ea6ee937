"""Exporting the log with its proofs, and verifying an export, beside reading and hashing its files.

The log is filled by COPY. `events` of them; `jobs` processes verify, and as many read and hash the
same files for the ceiling.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import resource
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import anyio
import anyio.to_thread

from benchmarks.frame import Figure, alternate, say
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
        written = await _bare(to, jobs)
        yield Figure("audit.export", size / seconds, "events/s", size / written, params)

        peaks: list[float] = []

        async def verified() -> float:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                pool.submit(_nothing, 0).result()
                began = time.perf_counter()
                peak = await anyio.to_thread.run_sync(pool.submit(_verify, to, jobs).result)
                peaks.append(peak)
                return size / (time.perf_counter() - began)

        async def read() -> float:
            return size / await _bare(to, jobs)

        rate, ceiling = await alternate(verified, read, rounds)
        yield Figure("audit.verify", rate, "events/s", ceiling, params)
        yield Figure("audit.verify.memory", max(peaks), "MB", None, params)


def say_progress(progress: object) -> None:
    """Tell how far it is."""
    say(f"  {progress}")


async def _bare(folder: Path, jobs: int) -> float:
    """Return the seconds that it takes to read every file and hash it once."""
    files = list(files_in(folder))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context) as pool:
        list(pool.map(_nothing, range(jobs)))  # they have started
        began = time.perf_counter()
        parts = [files[number::jobs] for number in range(jobs)]
        await anyio.to_thread.run_sync(lambda: list(pool.map(_hash, parts)))
        return time.perf_counter() - began


def _nothing(_: int) -> None:
    """Be there."""


def _hash(files: list[Path]) -> None:
    for path in files:
        hashlib.sha256(path.read_bytes()).digest()


def _verify(folder: Path, jobs: int) -> float:
    """Verify; return the most memory in MB that this process, or one of its crew, had resident."""
    verify(folder, (), (), say_progress, _CLOCK, processes=jobs)
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) * 1024 / 1e6
