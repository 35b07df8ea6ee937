"""From commits and edits to objects: first sync, a commit to a fleet, live edits, idle polls."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio

from benchmarks.apply import first_syncs
from benchmarks.correct import bare_edits
from benchmarks.frame import CannotRun, Figure, cpu, memory, peak_memory, percentile, say
from benchmarks.support.edits import Edits
from benchmarks.support.engine import first_sync, prepared, quiet
from benchmarks.support.fleet import simulated
from benchmarks.support.places import REAL, SIMULATED, place
from benchmarks.support.shops import make_namespace
from tests.e2e.product import Product, resource

_PACE = 500.0
"""Applies a second that the simulated cluster takes in a first sync."""

_QUIET = 3.0
"""Seconds without an event after which a first sync has no more consequences."""


async def figures(
    only: str = "",
    applications: int = 1000,
    edits: int = 200,
    rate: float = 10.0,
    fleet: int = 10_000,
    clusters: int = 100,
    commits: int = 10,
    seconds: float = 20.0,
    rounds: int = 1,
) -> AsyncIterator[Figure]:
    """Yield the figures; `only` is first_sync, edit (with poll) or fleet_commit.

    `first_sync`: `applications` of four objects to one cluster, in applies a second; `edit`: from a
    live edit to its correction, so many edits at `rate` a second over as many applications; `poll`:
    the engine's CPU for one look at the repository without news, over `seconds`; `fleet_commit`:
    `fleet` applications of one ConfigMap over `clusters`, `commits` that touch them all.
    """
    if only in ("", "first_sync"):
        async for figure in first_syncs(
            "reconcile.first_sync", SIMULATED, applications, rounds, _PACE
        ):
            yield figure
        try:
            async for figure in first_syncs(
                "reconcile.first_sync.real", REAL, applications, rounds
            ):
                yield figure
        except CannotRun as why:
            say(f"reconcile.first_sync.real: left out: {why}")
    if only in ("", "edit"):
        async for figure in _edits(applications, edits, rate, seconds):
            yield figure
    if only in ("", "fleet_commit"):
        async for figure in _fleet(fleet, clusters, commits):
            yield figure


async def _edits(
    applications: int, edits: int, rate: float, seconds: float
) -> AsyncIterator[Figure]:
    names = [f"shop-{number:05}" for number in range(applications)]
    with tempfile.TemporaryDirectory(prefix="trueup-bench-") as temporary:
        folder = Path(temporary)
        async with place(SIMULATED, folder / "cluster") as cluster:
            bare = await bare_edits(cluster, names, edits, rate)
            await make_namespace(cluster, "bench")
            async with Product(folder / "engine") as product:
                await prepared(product, cluster, names)
                await first_sync(product, "bench", names)
                await quiet(product, _QUIET)
                ours = await Edits(cluster, "bench", names).run(edits, rate)
                poll = await _poll(product, seconds)
    params: dict[str, Any] = {"applications": applications, "edits": edits, "rate": rate}
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        value, ceiling = percentile(ours, share), percentile(bare, share)
        yield Figure(f"reconcile.edit.{name}", 1000 * value, "ms", 1000 * ceiling, params)
    params = {"applications": applications, "seconds": seconds}
    yield Figure("reconcile.poll", 1000 * poll, "ms of CPU", None, params)


async def _poll(product: Product, seconds: float) -> float:
    """Return the CPU of one look at a repository without news: what idling costs is taken off."""
    url = f"file://{product.folder}/git/shops.git"
    used = {}
    for interval in ("1h", "1s"):
        await product.declare(resource("Repository", "shops", url=url, interval=interval))
        # What the declaration itself sets off is not the poll's.
        await anyio.sleep(seconds / 4)
        before = cpu(product.engine.pid)
        await anyio.sleep(seconds)
        used[interval] = cpu(product.engine.pid) - before
    return max(0.0, used["1s"] - used["1h"]) / seconds


async def _fleet(applications: int, clusters: int, commits: int) -> AsyncIterator[Figure]:
    rates: list[float] = []
    bare: list[float] = []
    resident: list[float] = []
    with tempfile.TemporaryDirectory(prefix="trueup-bench-") as temporary:
        folder = Path(temporary)
        async with (
            simulated(folder / "clusters", applications, clusters) as fleet,
            Product(folder / "engine") as product,
        ):
            repository = product.repository("shops")
            commit = repository.commit(fleet.files(0))
            await fleet.declare(product)
            last = await fleet.synced(product, commit, 0)
            await fleet.bare(0)
            say(f"reconcile.fleet_commit: {applications} applications are synced")
            for turn in range(1, commits + 1):
                bare.append(await fleet.bare(turn))
                files = fleet.files(turn)
                began = time.perf_counter()
                last = await fleet.synced(product, repository.commit(files), last)
                rates.append(applications / (time.perf_counter() - began))
                resident.append(memory(product.engine.pid))
                say(
                    f"reconcile.fleet_commit: {rates[-1]:.0f}/s, bare {bare[-1]:.0f}/s,"
                    f" {resident[-1]:.0f} MB"
                )
            peak = peak_memory(product.engine.pid)
    params = {"applications": applications, "clusters": clusters, "commits": commits}
    value, ceiling = percentile(rates, 0.5), percentile(bare, 0.5)
    yield Figure("reconcile.fleet_commit", value, "applies/s", ceiling, params)
    yield Figure("reconcile.fleet_commit.memory", peak, "MB", None, params)
    yield Figure("reconcile.fleet_commit.growth", resident[-1] - resident[0], "MB", None, params)
