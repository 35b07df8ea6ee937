"""First sync of many small applications to one cluster, beside a bare loop of the same applies."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from benchmarks.frame import CannotRun, Figure, alternate, cpu, peak_memory, say
from benchmarks.support.engine import first_sync, prepared
from benchmarks.support.places import REAL, SIMULATED, Place, place
from benchmarks.support.shops import OBJECTS, WIDTH, bare_loop, make_namespace
from tests.e2e.product import Product


async def figures(
    applications: int = 1000, rounds: int = 2, where: str = "all", pace: float = 0.0
) -> AsyncIterator[Figure]:
    """Yield the figures of each place; `where` is all, simulated or real.

    `pace` limits the simulated cluster to so many applies a second; 0 lets it run.
    """
    kinds = [SIMULATED, REAL] if where == "all" else [where]
    for kind in kinds:
        try:
            async for figure in first_syncs(f"apply.{kind}", kind, applications, rounds, pace):
                yield figure
        except CannotRun as why:
            if kind == where:
                raise
            say(f"apply.{kind}: left out: {why}")


async def first_syncs(
    name: str, kind: str, applications: int, rounds: int, pace: float = 0.0
) -> AsyncIterator[Figure]:
    """Yield rate, memory and CPU of first syncs to one place, under a name.

    Raises `CannotRun` where the machine has no such place.
    """
    names = [f"shop-{number:05}" for number in range(applications)]
    runs = _Runs(names)
    with tempfile.TemporaryDirectory(prefix="trueup-bench-") as temporary:
        async with place(kind, Path(temporary) / "cluster") as cluster:
            if kind == SIMULATED and pace:
                await cluster.control("pace", {"applies_per_second": pace})

            async def ours() -> float:
                return await runs.first_sync(cluster, Path(temporary))

            async def bare() -> float:
                namespace = await runs.namespace(cluster)
                rate = await bare_loop(cluster, namespace, names)
                say(f"apply.{kind}: bare loop {rate:.0f}/s")
                return rate

            value, ceiling = await alternate(ours, bare, rounds)
    params: dict[str, Any] = {"applications": applications, "width": WIDTH, "rounds": rounds}
    if kind == SIMULATED:
        params["pace"] = pace
    yield Figure(name, value, "applies/s", ceiling, params)
    yield Figure(f"{name}.memory", max(runs.memory), "MB", None, params)
    yield Figure(f"{name}.cpu", min(runs.cpu), "ms/apply", None, params)


class _Runs:
    """First syncs, each by a fresh engine into a namespace of its own."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._namespaces = 0
        self.memory: list[float] = []
        """The engine's largest resident memory in each run, in MB, Postgres not counted."""
        self.cpu: list[float] = []
        """The engine's CPU for one apply in each run, in ms, Postgres not counted."""

    async def namespace(self, cluster: Place) -> str:
        self._namespaces += 1
        name = f"bench-{self._namespaces}"
        await make_namespace(cluster, name)
        return name

    async def first_sync(self, cluster: Place, folder: Path) -> float:
        """Declare all applications at once and wait for the last one; return applies a second."""
        namespace = await self.namespace(cluster)
        async with Product(folder / namespace) as product:
            await prepared(product, cluster, self._names)
            before, pid = cpu(product.engine.pid), product.engine.pid
            started = time.perf_counter()
            await first_sync(product, namespace, self._names)
            seconds = time.perf_counter() - started
            applies = OBJECTS * len(self._names)
            self.memory.append(peak_memory(pid))
            self.cpu.append(1000 * (cpu(pid) - before) / applies)
        rate = applies / seconds
        say(
            f"apply.{cluster.kind}: engine {rate:.0f}/s, {self.memory[-1]:.0f} MB,"
            f" {self.cpu[-1]:.2f} ms of CPU an apply"
        )
        return rate
