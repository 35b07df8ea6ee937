"""What an engine uses while nothing happens: memory and CPU, its Postgres not counted."""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio

from benchmarks.frame import Figure, cpu, memory, peak_memory, say
from benchmarks.support.engine import quiet
from benchmarks.support.shops import OBJECTS, files
from tests.e2e.process import Part
from tests.e2e.product import Product, resource

_OBJECTS = 100
"""On each cluster."""
_POLL = 0.5
_ROLL_OUT = 600.0
"""Seconds for the first sync of all clusters."""
_QUIET = 15.0
"""Seconds without an event after which an engine counts as idle."""


async def figures(
    seconds: float = 60.0, clusters: str = "3,100", scrape: float = 15.0
) -> AsyncIterator[Figure]:
    """Yield memory and CPU for each number of clusters, taken over `seconds` of idleness.

    Its metrics are fetched every `scrape` seconds meanwhile, as Prometheus does; 0: never.
    """
    for number in map(int, clusters.split(",")):
        async for figure in _at(number, seconds, scrape):
            yield figure


async def _at(number: int, seconds: float, scrape: float) -> AsyncIterator[Figure]:
    names = [f"c{index:03}" for index in range(number)]
    with tempfile.TemporaryDirectory(prefix="trueup-bench-") as temporary:
        folder = Path(temporary)
        simulator = _simulator(folder, names)
        await simulator.start()
        try:
            async with Product(folder / "engine") as product:
                await _roll_out(product, folder / "kubeconfig.yaml", names)
                await quiet(product, _QUIET)
                pid = product.engine.pid
                before = cpu(pid)
                with anyio.move_on_after(seconds):
                    await _watch(product, scrape)
                share = 100 * (cpu(pid) - before) / seconds
                resident, peak = memory(pid), peak_memory(pid)
        finally:
            await simulator.stop()
    params: dict[str, Any] = {
        "clusters": number,
        "objects": _OBJECTS,
        "seconds": seconds,
        "scrape": scrape,
    }
    say(f"idle: {number} clusters: {resident:.0f} MB, {share:.2f} % of a core")
    yield Figure(f"idle.{number}.memory", resident, "MB", None, params)
    yield Figure(f"idle.{number}.memory.peak", peak, "MB", None, params)
    yield Figure(f"idle.{number}.cpu", share, "% of a core", None, params)


def _simulator(folder: Path, names: list[str]) -> Part:
    kubeconfig = folder / "kubeconfig.yaml"

    async def ready() -> str | None:
        written = kubeconfig.exists() and kubeconfig.stat().st_size
        return None if written else "it has not written its kubeconfig"

    command = [sys.executable, "-m", "engine.simulator", "--clusters", ",".join(names)]
    return Part(
        "simulator",
        [*command, "--kubeconfig", str(kubeconfig)],
        folder / "simulator.log",
        ready,
    )


async def _roll_out(product: Product, source: Path, names: list[str]) -> None:
    """Sync one application of `_OBJECTS` objects to every cluster."""
    shops = [f"shop-{index:02}" for index in range(_OBJECTS // OBJECTS)]
    repository = product.repository("shops")
    repository.commit(files(shops))
    kubeconfig = str(product.kubeconfig("all", source))
    await product.declare(
        resource("Repository", "shops", url=repository.url),
        *(resource("Cluster", name, kubeconfig=kubeconfig, context=name) for name in names),
        resource(
            "Application",
            "shops",
            source={"repository": "shops", "path": "apps"},
            render={"type": "plain"},
            targets={"clusters": names, "namespace": "default"},
        ),
    )
    synced = 0
    with anyio.fail_after(_ROLL_OUT):
        while synced < len(names):
            await anyio.sleep(_POLL)
            found = await product.call("GET", "/v1/targets/default", limit=1000)
            synced = sum(item["sync"] == "synced" for item in found["items"])


async def _watch(product: Product, every: float) -> None:
    """Fetch metrics until cancelled."""
    token = (product.data_dir / "token").read_text("ascii").strip()
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(product.url, headers=headers) as session:
        while True:
            await anyio.sleep(every or math.inf)
            async with session.get("/metrics") as answer:
                answer.raise_for_status()
                await answer.read()
