"""The product as a user runs it: `trueup run` with its own Postgres, driven by its API and CLI."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import anyio
import orjson

from engine.http.local import read_server, read_token
from tests.e2e.cluster import Output
from tests.e2e.process import Part
from tests.repositories import Repository

TRUEUP = Path(sys.executable).with_name("trueup")
"""The command as it is installed beside the Python that runs the tests."""


class ApiRefused(Exception):
    """The product's API answered with an error; carries the problem that it told."""

    def __init__(self, status: int, problem: Any) -> None:
        self.status, self.problem = status, problem
        super().__init__(f"{status}: {problem}")


class Product:
    """An engine with a data folder of its own in `folder`; `async with` starts and stops it.

    Git repositories go below `git/`, kubeconfigs below `kube/`, as its settings allow; `flags`
    are further flags of `trueup run`. Killed and started again it has the same data.

    Every application that a test declares goes by a name of its own, so that many tests can share
    one engine.
    """

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder.absolute()
        self.data_dir = self.folder / "data"
        self.logs = self.folder / "logs"
        for each in (self.folder / "git", self.folder / "kube", self.logs):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.engine = Part(
            "trueup",
            [
                *(str(TRUEUP), "run", "--allow-unconfined", "--log-format", "text"),
                *("--data-dir", str(self.data_dir), "--listen", "127.0.0.1:0"),
                *("--repository-roots", str(self.folder / "git")),
                *("--kubeconfig-roots", str(self.folder / "kube")),
                # A test's time is dear; everything else is as it comes.
                *("--retry-base", "200ms", "--retry-cap", "2s"),
                *flags,
            ],
            self.logs / "trueup.log",
            self._ready,
        )
        self.url = ""
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Start the engine and return when it serves."""
        await self._hang_up()
        await self.engine.start()
        server = read_server(self.data_dir)
        assert server is not None
        self.url = server.url
        token = read_token(Path(server.token_file))
        headers = {"Authorization": f"Bearer {token}"}
        self._session = aiohttp.ClientSession(self.url, headers=headers)

    async def stop(self) -> None:
        """Ask the engine to end, and wait."""
        await self._hang_up()
        await self.engine.stop()

    async def kill(self) -> None:
        """Kill the engine (SIGKILL), whatever it is doing."""
        await self._hang_up()
        await self.engine.kill()

    # What is there to be synced.

    def repository(self, name: str) -> Repository:
        """Make an empty bare repository that a declaration can name by its `url`."""
        return Repository(self.folder / "git" / f"{name}.git")

    def kubeconfig(self, name: str, source: Path) -> Path:
        """Put a kubeconfig where a cluster may name it; called again it is replaced at once."""
        path = self.folder / "kube" / f"{name}.yaml"
        beside = path.with_suffix(".new")
        beside.write_bytes(source.read_bytes())
        beside.chmod(0o600)
        beside.replace(path)
        return path

    async def declare(self, *resources: Mapping[str, Any]) -> int:
        """Declare resources; returns the position that `wait` takes as `after`."""
        answer = await self.call("POST", "/v1/resources", list(resources))
        return int(answer["position"])

    async def cluster(self, name: str, source: Path) -> None:
        """Declare a cluster by a copy of a kubeconfig."""
        await self.declare(resource("Cluster", name, kubeconfig=str(self.kubeconfig(name, source))))

    async def application(
        self,
        name: str,
        repository: Repository,
        *,
        cluster: str = "real",
        namespace: str = "default",
        path: str = ".",
        sync: Mapping[str, Any] | None = None,
    ) -> str:
        """Declare an application and a repository of its name, looked at each second.

        Returns the target's name.
        """
        await self.declare(
            resource("Repository", name, url=repository.url, interval="1s"),
            resource(
                "Application",
                name,
                source={"repository": name, "path": path},
                targets={"clusters": [cluster], "namespace": namespace},
                sync=dict(sync or {}),
            ),
        )
        return f"{name}@{cluster}"

    # What it says.

    async def call(self, method: str, path: str, body: object = None, **query: object) -> Any:
        """Ask the API and return its JSON; raises `ApiRefused` for an error."""
        assert self._session is not None, "the engine does not run"
        words = {key: str(value) for key, value in query.items()}
        async with self._session.request(method, path, json=body, params=words) as answer:
            found = await answer.json(content_type=None)
            if answer.status >= 300:
                raise ApiRefused(answer.status, found)
            return found

    async def cli(self, *words: str, timeout: float = 60) -> Output:
        """Run the command line as its user does on the engine's machine, whatever its status."""
        with anyio.fail_after(timeout):
            done = await anyio.run_process(
                [str(TRUEUP), *words],
                stdin=subprocess.DEVNULL,
                check=False,
                env={
                    "PATH": os.defpath,
                    "HOME": str(self.folder),
                    "TRUEUP_DATA_DIR": str(self.data_dir),
                    "NO_COLOR": "1",
                    "COLUMNS": "200",
                },
            )
        return Output(done.stdout.decode(), done.stderr.decode(), done.returncode)

    async def position(self) -> int:
        """Return the log's last position."""
        return int((await self.call("GET", "/v1/version"))["position"])

    async def status(self, target: str) -> dict[str, Any]:
        """Return how a target stands."""
        found = await self.call("GET", f"/v1/targets/default/{target}")
        return dict(found["status"])

    async def wait(
        self,
        subject: str,
        wanted: str = "synced",
        *,
        revision: str = "",
        after: int = 0,
        timeout: float = 60,
    ) -> None:
        """Wait until a target or application is `synced` or `healthy`.

        Raises `AssertionError` with what it says instead.
        """
        query = {"subject": subject, "for": wanted, "revision": revision, "after": after}
        deadline = anyio.current_time() + timeout
        while True:
            left = max(deadline - anyio.current_time(), 0.1)
            try:
                await self.call("GET", "/v1/wait", **query, timeout=f"{min(left, 60):.1f}")
            except ApiRefused as refused:
                if refused.status != 409 or anyio.current_time() >= deadline:
                    message = f"{subject} is not {wanted}: {refused.problem}"
                    raise AssertionError(message) from refused
            else:
                return

    async def events(self, after: int = 0, **query: object) -> list[dict[str, Any]]:
        """Return every event after a position that the query matches (`type`, `stream`)."""
        found: list[dict[str, Any]] = []
        while True:
            start = found[-1]["position"] if found else after
            page = await self.call("GET", "/v1/events", limit=1000, after=start, **query)
            found += page["items"]
            if len(page["items"]) < 1000:
                return found

    async def next_event(
        self,
        kind: str,
        after: int = 0,
        matches: Callable[[dict[str, Any]], bool] = lambda _: True,
        *,
        stream: str = "",
        timeout: float = 60,
    ) -> dict[str, Any]:
        """Wait for the first event of a type after a position that matches; of one stream, if said.

        Raises `TimeoutError`, with what came instead.
        """
        with anyio.move_on_after(timeout):
            async for event in self._follow(after, type=kind, stream=stream):
                if matches(event):
                    return event
        seen = "\n".join(map(str, (await self.events(after, stream=stream))[-20:]))
        raise TimeoutError(f"no such {kind} within {timeout:g} s; the last events are\n{seen}")

    async def _follow(self, after: int, **query: str) -> AsyncIterator[dict[str, Any]]:
        """Yield past events, then each as it comes."""
        assert self._session is not None, "the engine does not run"
        async with self._session.get(
            "/v1/events",
            params={"after": str(after), **query},
            headers={"Accept": "text/event-stream"},
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            async for line in answer.content:
                if line.startswith(b"data:"):
                    yield orjson.loads(line.removeprefix(b"data:"))

    def describe_failure(self) -> str:
        """Return how the engine's log ends, for a failed test's report."""
        return f"the product in {self.folder}\n{self.engine.tail(60)}"

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.kill()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.stop()

    async def _hang_up(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ready(self) -> str | None:
        server = read_server(self.data_dir)
        if server is None or server.pid != self.engine.pid:
            return "it has not said where it serves"
        return None


class App:
    """An application of one file in a repository of its own, on one cluster.

    The repository, the application and the target go by `name`; `namespace` is where objects
    without one go.
    """

    def __init__(
        self, product: Product, name: str, *, cluster: str = "real", namespace: str = ""
    ) -> None:
        self.product, self.name, self.cluster = product, name, cluster
        self.namespace = namespace or name
        self.repository = product.repository(name)
        self.target = f"{name}@{cluster}"
        self.stream = f"target/default/{self.target}"

    def commit(self, *objects: Mapping[str, Any]) -> str:
        """Commit these objects, and no others; return the commit's id."""
        return self.repository.commit({"all.yaml": manifests(*objects)})

    async def declare(self, **sync: Any) -> None:
        """Declare the application."""
        await self.product.application(
            self.name, self.repository, cluster=self.cluster, namespace=self.namespace, sync=sync
        )

    async def synced(self, commit: str = "", timeout: float = 60) -> None:
        """Wait until the target is synced to a commit, or to what it knows."""
        await self.product.wait(self.target, revision=commit, timeout=timeout)

    async def until(self, sync: str) -> dict[str, Any]:
        """Wait until the target's sync state is this; return how it stands."""
        with anyio.fail_after(60):
            while True:
                status = await self.product.status(self.target)
                if status["sync"] == sync:
                    return status
                await anyio.sleep(0.05)

    async def event(
        self,
        kind: str,
        after: int = 0,
        matches: Callable[[dict[str, Any]], bool] = lambda _: True,
    ) -> dict[str, Any]:
        """Wait for an event of the target after a position; return its payload."""

        def suits(event: dict[str, Any]) -> bool:
            return matches(event["payload"])

        event = await self.product.next_event(kind, after, suits, stream=self.stream)
        return dict(event["payload"])

    async def events(self, kind: str, after: int = 0) -> list[dict[str, Any]]:
        """Return the payloads of the target's events of a type."""
        found = await self.product.events(after, type=kind, stream=self.stream)
        return [event["payload"] for event in found]


def resource(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    """Return a declared resource of ours."""
    return {
        "apiVersion": "trueup.dev/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def manifests(*objects: Mapping[str, Any]) -> str:
    """Return Kubernetes objects as one YAML file, written so that no reader can mistake a value."""
    return "\n---\n".join(orjson.dumps(item).decode() for item in objects)


def configmap(name: str, namespace: str = "", **data: str) -> dict[str, Any]:
    """Return a ConfigMap."""
    return kubernetes("v1", "ConfigMap", name, namespace, data=data)


def kubernetes(
    api_version: str, kind: str, name: str, namespace: str = "", **rest: Any
) -> dict[str, Any]:
    """Return a Kubernetes object; without a namespace where none is said."""
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def named(results: Sequence[Mapping[str, Any]], kind: str, name: str) -> Mapping[str, Any]:
    """Return the result, action or difference about one object; raises `LookupError`."""
    for item in results:
        if (item["ref"]["kind"], item["ref"]["name"]) == (kind, name):
            return item
    raise LookupError(f"nothing about {kind}/{name} in {results}")
