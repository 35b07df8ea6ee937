"""Many small applications over many simulated clusters, and the bare loop that applies the same."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import orjson
import yaml

from benchmarks.support.shops import WIDTH, bare_apply
from tests.e2e.process import Part
from tests.e2e.product import Product, resource

NAMESPACE = "default"
_TEXT = "0123456789abcdef " * 112
"""Two kilobytes, about."""
_PORTION = 500
"""Applications that are declared together."""
_POLL = 0.5
_NOT_YET = "it has not written its kubeconfig"


class Fleet:
    """So many applications of one ConfigMap, each on one of so many clusters."""

    def __init__(self, applications: int, clusters: int, kubeconfig: Path) -> None:
        self.clusters = [f"c{number:03}" for number in range(clusters)]
        self.names = [f"shop-{number:05}" for number in range(applications)]
        self.kubeconfig = kubeconfig

    def cluster_of(self, index: int) -> str:
        """Name the cluster of the application with this number."""
        return self.clusters[index % len(self.clusters)]

    def files(self, turn: int) -> dict[str, str]:
        """Return the repository's files: with another turn each of them is another."""
        return {
            f"apps/{name}/configmap.yaml": orjson.dumps(_config_map(name, turn)).decode()
            for name in self.names
        }

    def applies(self, turn: int) -> list[tuple[str, bytes]]:
        """Return address and body of every apply, as the engine would send them."""
        content: dict[str, Any] = yaml.safe_load(self.kubeconfig.read_text())
        servers = {each["name"]: each["cluster"]["server"] for each in content["clusters"]}
        path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/"
        return [
            (
                f"{servers[self.cluster_of(index)]}{path}bare-{name}",
                orjson.dumps(_config_map(f"bare-{name}", turn)),
            )
            for index, name in enumerate(self.names)
        ]

    async def bare(self, turn: int) -> float:
        """Apply all, as many at a time as the engine does, and nothing else; return applies/s."""
        prepared = self.applies(turn)
        waiting = iter(prepared)
        token = yaml.safe_load(self.kubeconfig.read_text())["users"][0]["user"].get("token", "")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(headers=headers, connector=connector) as session:

            async def worker() -> None:
                for url, body in waiting:
                    await bare_apply(session, url, body)

            began = time.perf_counter()
            async with anyio.create_task_group() as group:
                for _ in range(4 * WIDTH):
                    group.start_soon(worker)
            return len(prepared) / (time.perf_counter() - began)

    async def declare(self, product: Product, interval: str = "1s") -> None:
        """Declare the clusters, the repository and all applications."""
        path = str(product.kubeconfig("fleet", self.kubeconfig))
        clusters = [
            resource("Cluster", name, kubeconfig=path, context=name) for name in self.clusters
        ]
        repository = resource("Repository", "shops", url=_url(product), interval=interval)
        await product.declare(repository, *clusters)
        for some in _portions(list(enumerate(self.names))):
            await product.declare(
                *(
                    resource(
                        "Application",
                        name,
                        source={"repository": "shops", "path": f"apps/{name}"},
                        render={"type": "plain"},
                        targets={"clusters": [self.cluster_of(index)], "namespace": NAMESPACE},
                    )
                    for index, name in some
                )
            )

    async def synced(self, product: Product, commit: str, after: int) -> int:
        """Wait until every target is at a commit; return the last position that was read.

        Raises RuntimeError where a correction fails.
        """
        waiting = {
            f"target/default/{name}@{self.cluster_of(index)}"
            for index, name in enumerate(self.names)
        }
        while waiting:
            await anyio.sleep(_POLL)
            for event in await product.events(after, type="TargetSynced,CorrectionFailed"):
                after = event["position"]
                if event["type"] == "CorrectionFailed":
                    raise RuntimeError(f"a correction failed: {event['payload']}")
                if event["payload"]["commit"] == commit:
                    waiting.discard(event["stream"])
        return after


@asynccontextmanager
async def simulated(folder: Path, applications: int, clusters: int) -> AsyncIterator[Fleet]:
    """Run a simulator of so many clusters, a process of its own."""
    await anyio.Path(folder).mkdir(parents=True, exist_ok=True)
    fleet = Fleet(applications, clusters, folder / "kubeconfig.yaml")

    async def ready() -> str | None:
        there = fleet.kubeconfig.exists() and fleet.kubeconfig.stat().st_size
        return None if there else _NOT_YET

    command = [sys.executable, "-m", "engine.simulator", "--clusters", ",".join(fleet.clusters)]
    simulator = Part(
        "simulator",
        [*command, "--kubeconfig", str(fleet.kubeconfig)],
        folder / "simulator.log",
        ready,
    )
    await simulator.start()
    try:
        yield fleet
    finally:
        await simulator.stop()


def _url(product: Product) -> str:
    return f"file://{product.folder}/git/shops.git"


def _config_map(name: str, turn: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": name}},
        "data": {"turn": str(turn), "text": _TEXT},
    }


def _portions(items: list[tuple[int, str]]) -> Iterable[list[tuple[int, str]]]:
    for start in range(0, len(items), _PORTION):
        yield items[start : start + _PORTION]
