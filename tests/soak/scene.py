"""What a soak plays on: a stage, a control repository, a receiver, and what is declared."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import anyio
from aiohttp import web

from engine.cli.demo_stage import DemoFailed, Stage
from engine.cli.demo_story import _application, _cluster, _repository
from tests.notifying import SECRET, Receiver
from tests.repositories import Repository
from tests.soak.census import Census

Resource = dict[str, Any]
PATIENCE = 15.0
"""Seconds that a person waits for an answer."""
CALM = 180.0
"""Seconds in which everything has to be right again once nothing is broken any more."""
FLAGS = 4
REFUSED = (DemoFailed, aiohttp.ClientError, TimeoutError)
_FLAG = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: flag-%d, namespace: flags}
data: {turn: "%s"}
"""


class Broken(Exception):
    """Something that must hold does not."""


class Booking(Receiver):
    """A receiver that knows which alerts it took."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: set[str] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Take an alert, or not, as it is told."""
        answer = await super().handle(request)
        if answer.status < 300:
            self.taken.add(request.headers["webhook-id"])
        return answer


class Scene:
    """A stage, chance, and what is so on it now."""

    def __init__(self, folder: Path, clusters: list[str], chance: Random) -> None:
        secrets = folder / "secrets"
        secrets.mkdir(mode=0o700)
        (secrets / "ops").write_text(SECRET + "\n")
        (secrets / "ops").chmod(0o600)
        environment = {
            "TRUEUP_SECRET_ROOTS": str(secrets),
            "TRUEUP_NOTIFICATION_HOSTS": "127.0.0.1",
        }
        self.census = Census(folder)
        environment |= self.census.environment
        self.stage, self.chance = Stage(folder, clusters, environment), chance
        self.platform = Repository(folder / "git" / "platform.git")
        self.secret = secrets / "ops"
        self.receiver = Booking()
        self.turn = 0
        self.commits: list[str] = []
        self.steered: set[str] = set()
        self.remembered: dict[int, Any] = {}
        self.notified_from = 0
        self.configured = ""

    @property
    def greeting(self) -> str:
        """What the last commit says."""
        return f"hello-{self.turn}" if self.turn else "hello"

    @property
    def targets(self) -> list[str]:
        """Every target that there is when all is right."""
        names = self.stage.clusters
        shops = [f"shop-{name}@{name}" for name in names]
        return [*shops, *(f"flags@{name}" for name in names), *(f"extra@{n}" for n in names[:2])]

    def commit(self) -> str:
        """Commit another greeting, and the same turn into the flags."""
        self.turn += 1
        flags = "---\n".join(_FLAG % (number, self.turn) for number in range(FLAGS))
        namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: flags}\n---\n"
        self.stage.repository.commit("Another turn", {"flags/all.yaml": namespace + flags})
        self.commits.append(self.stage.repository.greeting(self.greeting))
        return self.commits[-1]

    def configure(self, *, wrong: bool = False, clusters: int = 2) -> str:
        """Commit to the control repository: one application, on some clusters."""
        names = ", ".join(self.stage.clusters[:clusters])
        text = f"""\
apiVersion: trueup.dev/v1
kind: Application
metadata: {{name: extra, labels: {{turn: "{self.chance.randint(0, 9**9)}"}}}}
spec:
  source: {{repository: shop, path: extra}}
  {"tragets" if wrong else "targets"}: {{clusters: [{names}]}}
"""
        return self.platform.commit({"all/extra.yaml": text})

    def declared(self) -> list[Resource]:
        """Return everything that a person declares."""
        stage = self.stage
        clusters, here = stage.clusters, "trueup.dev/v1"
        flags = {"source": {"repository": "shop", "path": "flags"}}
        control = {"url": self.platform.url, "interval": "1s", "control": True}
        hook = {"url": self.receiver.url, "secretFile": str(self.secret)}
        return [
            _repository(stage.repository.url),
            *(_cluster(name, str(stage.kubeconfig)) for name in clusters),
            *(_application(name) for name in clusters),
            {
                "apiVersion": here,
                "kind": "Application",
                "metadata": {"name": "flags"},
                "spec": {**flags, "targets": {"clusters": clusters}},
            },
            {
                "apiVersion": here,
                "kind": "Repository",
                "metadata": {"name": "platform"},
                "spec": {**control, "controlPath": "all"},
            },
            {
                "apiVersion": here,
                "kind": "Notification",
                "metadata": {"name": "ops"},
                "spec": {"events": ["drift", "cluster-lost"], "webhook": hook},
            },
        ]

    async def open(self) -> None:
        """Begin: all is declared, and about to be synced."""
        stage = self.stage
        await stage.open()
        stage.repository.start(stage.clusters)
        extra = _FLAG.replace("flags", "default") % (99, "extra")
        stage.repository.commit("Something extra", {"extra/one.yaml": extra})
        self.commit()
        self.configured = self.configure()
        self.notified_from = (await stage.call("POST", "/v1/resources", self.declared()))[
            "position"
        ]

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        """Ask the engine, as somebody who does not wait for ever; raises one of `REFUSED`."""
        with anyio.fail_after(PATIENCE):
            try:
                return await self.stage.call(method, path, body)
            except AssertionError:
                raise DemoFailed("the engine does not serve") from None

    async def insist(self, method: str, path: str, body: object = None) -> Any:
        """Ask until it is done."""
        try:
            with anyio.fail_after(CALM):
                while True:
                    try:
                        return await self.ask(method, path, body)
                    except REFUSED as error:
                        refused = error
                        await anyio.sleep(0.2)
        except TimeoutError:
            raise Broken(f"{method} {path} is still refused: {refused}") from None

    async def calm(self) -> None:
        """Switch every fault off, take back what people did, and declare all again."""
        for cluster in self.stage.clusters:
            await self.stage.simulated(cluster, "DELETE", "faults")
        self.receiver.answers.clear()
        self.configured = self.configure()
        await self.insist("POST", "/v1/resources", self.declared())
        for target in sorted(self.steered):
            path = f"/v1/targets/default/{target}"
            found = await self.insist("GET", path)
            if found["target"]["pin"]:
                await self.insist("POST", f"{path}/lift-rollback", {"reason": "calm"})
            if found["target"]["suspended"]:
                await self.insist("POST", f"{path}/resume", {"reason": "calm"})
        self.steered.clear()

    def cluster(self) -> str:
        """Draw a cluster."""
        return self.chance.choice(self.stage.clusters)

    def target(self) -> str:
        """Draw a target."""
        return self.chance.choice(self.targets)


def processes_of_postgres(stage: Stage) -> list[int]:
    """Return the ids of the embedded Postgres' processes, the first one first; none if down."""
    file = stage.data_dir / "postgres/data/postmaster.pid"
    try:
        first = int(file.read_text().split()[0])
        more = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return []
    return [first, *map(int, more)]


def signal_all(processes: list[int], number: signal.Signals) -> int:
    """Send a signal to those that are still there; return how many they were."""
    sent = 0
    for process in processes:
        try:
            os.kill(process, number)
            sent += 1
        except ProcessLookupError:
            continue
    return sent
