"""Clusters to measure on: a simulated one, and a real control plane where there is one."""

from __future__ import annotations

import ssl
import sys
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import yaml

from benchmarks.frame import CannotRun
from tests.e2e.binaries import HOW_TO_GET, find_binaries
from tests.e2e.harness import ControlPlane
from tests.e2e.process import Part

SIMULATED, REAL = "simulated", "real"
_NOT_YET = "it has not written its kubeconfig"


class Place:
    """A cluster that a kubeconfig leads to, and the bare HTTP client of it."""

    def __init__(self, kind: str, kubeconfig: Path) -> None:
        self.kind, self.kubeconfig = kind, kubeconfig
        content: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
        self._cluster = content["clusters"][0]["cluster"]
        self._user = content["users"][0]["user"]

    @property
    def server(self) -> str:
        """The URL that paths are appended to."""
        return str(self._cluster["server"])

    def session(self) -> aiohttp.ClientSession:
        """Return a client that shows the kubeconfig's token."""
        token = self._user.get("token", "")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        tls: ssl.SSLContext | bool = True
        if authority := self._cluster.get("certificate-authority-data"):
            tls = ssl.create_default_context(cadata=b64decode(authority).decode())
        connector = aiohttp.TCPConnector(ssl=tls, limit=0)
        return aiohttp.ClientSession(headers=headers, connector=connector)

    async def control(self, path: str, body: dict[str, Any]) -> None:
        """Use a simulated cluster's own controls."""
        url = f"{self.server}/_sim/{path}"
        async with self.session() as session, session.post(url, json=body) as answer:
            answer.raise_for_status()


@asynccontextmanager
async def place(kind: str, folder: Path) -> AsyncIterator[Place]:
    """Bring a cluster up, a process of its own; raises `CannotRun` where there is no real one."""
    await anyio.Path(folder).mkdir(parents=True, exist_ok=True)
    if kind == REAL:
        if find_binaries() is None:
            raise CannotRun(HOW_TO_GET)
        async with ControlPlane(folder) as plane:
            yield Place(kind, plane.kubeconfig("engine"))
        return
    kubeconfig = folder / "kubeconfig.yaml"

    async def ready() -> str | None:
        return None if kubeconfig.exists() and kubeconfig.stat().st_size else _NOT_YET

    command = [sys.executable, "-m", "engine.simulator", "--clusters", "dev"]
    simulator = Part(
        "simulator",
        [*command, "--kubeconfig", str(kubeconfig)],
        folder / "simulator.log",
        ready,
    )
    await simulator.start()
    try:
        yield Place(kind, kubeconfig)
    finally:
        await simulator.stop()
