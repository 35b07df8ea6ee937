"""The HTTP API on a log and views in memory, for tests: a server, and a client with a token."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import anyio.lowlevel
import msgspec

from engine.doctor.check import Check, Doctor
from engine.http.api import Api, Limits
from engine.http.app import make_app, serving
from engine.http.guard import hosts_for
from engine.http.local import Server, read_token, write_server
from engine.http.tokens import ensure_first_token
from engine.people import People
from engine.process.clock import SystemClock
from events.actor_keys import MemoryActorKeys
from events.catalog import (
    ClusterConnected,
    CommitSeen,
    DesiredRendered,
    Fact,
    HealthChanged,
    RefMoved,
    RevisionResolved,
    SourceChecked,
    TargetAssigned,
    TargetSynced,
)
from events.event import Actor, NewEvent, Position, StreamName, blob
from events.memory import MemoryLog
from events.proofs import ProofSource
from events.vocabulary import Desired, Health, ObjectRef
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.batch import Group
from projections.build import Progress
from projections.memory import MemoryViews
from projections.rebuild import Rebuilt
from tests.described import FAULTS, hold

SHA = "5ca1ab1e" * 5
OTHER_SHA = "5ca1ab1f" * 5


async def rebuild(view: str, report: Callable[[Progress], None]) -> Rebuilt:
    """Stand in for the real one: views in memory are not rebuilt."""
    report(Progress((view,), Position(1), Position(2), 1000.0, 0.5))
    return Rebuilt(view, 2, Position(2), 7, "00" * 32, ())


async def drop_previous(view: str) -> int:
    """Stand in for the real one: views in memory have one generation."""
    return 1


async def _no_doctor() -> list[Check]:
    return []


class Bench:
    """A running API with what stands behind it, and a client."""

    def __init__(self, folder: Path) -> None:
        self.clock = SystemClock()
        self.log = MemoryLog(self.clock.now)
        self.views = MemoryViews(self.log, Group(DOCUMENT_VIEWS, SUBJECT_VIEWS))
        self.people = People(MemoryActorKeys())
        self.folder = folder
        self.repositories, self.kubeconfigs = folder / "git", folder / "kube"
        self.problems: Mapping[str, str] = {}
        self.doctor: Doctor = _no_doctor
        self.proofs: ProofSource | None = None
        self.token = ""
        self.url = ""
        self.session: aiohttp.ClientSession

    def api(self, limits: Limits) -> Api:
        return Api(
            log=self.log,
            views=self.views,
            clock=self.clock,
            people=self.people,
            version="0.1.0-test",
            hosts=hosts_for("127.0.0.1", ["trueup.example.org"]),
            repository_roots=(self.repositories,),
            kubeconfig_roots=(self.kubeconfigs,),
            secret_roots=(self.folder / "secrets",),
            ready=lambda: self.problems,
            rebuild=rebuild,
            drop_previous=drop_previous,
            proofs=self.proofs,
            doctor=self.doctor,
            limits=limits,
        )

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a request and return its JSON; `status` is what it must be answered with."""
        async with self.session.request(
            method, self.url + path, json=body, headers=headers
        ) as answer:
            value = await answer.json(content_type=None)
            if status is not None:
                assert answer.status == status, value
            return value

    async def tell(
        self, stream: str, *facts: Fact, actor: str = "engine:test", correlation: str = ""
    ) -> Position:
        """Append facts as the engine would."""
        appended = await self.log.append(
            [
                NewEvent(
                    event_id=self.clock.event_id(),
                    stream=StreamName(stream),
                    fact=fact,
                    actor=Actor(actor),
                    occurred_at=self.clock.now(),
                    correlation=correlation,
                )
                for fact in facts
            ]
        )
        return appended.last

    def repository(self, name: str = "shop", **spec: Any) -> dict[str, Any]:
        return _resource("Repository", name, {"url": f"file://{self.repositories}/{name}", **spec})

    def cluster(self, name: str = "dev", **labels: str) -> dict[str, Any]:
        spec = {"kubeconfig": str(self.kubeconfigs / "config"), "context": name}
        return _resource("Cluster", name, spec, labels)

    def application(
        self, name: str = "shop", clusters: Sequence[str] = ("dev",), **spec: Any
    ) -> dict[str, Any]:
        source = {"repository": "shop", "path": "deploy"}
        targets = {"clusters": list(clusters)}
        return _resource("Application", name, {"source": source, "targets": targets, **spec})

    async def declare_shop(self, clusters: Sequence[str] = ("dev",)) -> int:
        """Declare a repository, clusters and an application; return the position."""
        resources = [self.repository(), *map(self.cluster, clusters)]
        resources.append(self.application(clusters=clusters))
        answer = await self.call("POST", "/v1/resources", resources, status=200)
        return int(answer["position"])

    async def roll_out(self, clusters: Sequence[str] = ("dev",), commit: str = SHA) -> Position:
        """Tell what the engine would of a commit that reaches its targets."""
        app = await self.log.read(Position(0), stream=StreamName("app/default/shop"))
        declared = max(event.position for event in app if event.type == "Declared")
        await self.tell(
            "repo/default/shop",
            CommitSeen(commit, (), "Sell more", 1),
            RefMoved("refs/heads/main", commit),
            actor="git:1234",
        )
        nothing = blob(b"[]")
        await self.log.put([nothing])
        desired = await self.tell(
            "app/default/shop",
            DesiredRendered(commit, declared, "sha256:1", "plain", nothing.digest, 0),
        )
        last = await self.tell("repo/default/shop", RevisionResolved(commit, ("default/shop",)))
        for cluster in clusters:
            await self.tell(f"cluster/default/{cluster}", ClusterConnected("v1.36.0"))
            last = await self.tell(
                f"target/default/shop@{cluster}",
                TargetAssigned("shop", cluster, "default"),
                TargetSynced(commit, desired, nothing.digest),
                HealthChanged(Health.HEALTHY),
            )
        return last

    async def render(self, *kinds: str) -> None:
        """Tell of a render that wants one object of each core kind, named `web`."""
        refs = [ObjectRef("v1", kind, "", "web") for kind in kinds]
        bodies = [blob(msgspec.json.encode({"kind": ref.kind})) for ref in refs]
        listed = [Desired(ref, body.digest) for ref, body in zip(refs, bodies, strict=True)]
        inventory = blob(msgspec.json.encode(listed))
        await self.log.put([inventory, *bodies])
        rendered = DesiredRendered(SHA, 1, "sha256:2", "plain", inventory.digest, len(refs))
        await self.tell("app/default/shop", rendered)

    async def answer_sync(self, requested: int, cluster: str = "dev") -> Position:
        """Tell what the engine would when it has carried out a requested sync."""
        checked = SourceChecked(requested=requested, commit=SHA)
        await self.tell("repo/default/shop", checked)
        events = await self.log.read(Position(0), stream=StreamName("app/default/shop"))
        desired = max(event.position for event in events if event.type == "DesiredRendered")
        synced = TargetSynced(SHA, desired, blob(b"[]").digest)
        return await self.tell(f"target/default/shop@{cluster}", synced)


def _resource(
    kind: str, name: str, spec: dict[str, Any], labels: Mapping[str, str] | None = None
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name}
    if labels:
        metadata["labels"] = dict(labels)
    return {"apiVersion": "trueup.dev/v1", "kind": kind, "metadata": metadata, "spec": spec}


@asynccontextmanager
async def bench(
    folder: Path,
    limits: Limits | None = None,
    proofs: ProofSource | None = None,
    doctor: Doctor | None = None,
) -> AsyncIterator[Bench]:
    """Serve a fresh API on loopback."""
    made = Bench(folder)
    made.proofs = proofs
    made.doctor = doctor or made.doctor
    data = folder / "data"
    await ensure_first_token(made.log, made.clock, data)
    made.token = read_token(data / "token") or ""
    app = make_app(made.api(limits or Limits(settle=5.0)))
    app[FAULTS] = []
    app.on_response_prepare.append(hold)
    async with serving(app, "127.0.0.1", 0) as (host, port):
        made.url = f"http://{host}:{port}"
        write_server(data, Server(made.url, 1, str(data / "token"), made.log.log_id))
        headers = {"Authorization": f"Bearer {made.token}"}
        async with aiohttp.ClientSession(headers=headers) as made.session:
            yield made
    assert app[FAULTS] == [], "answers that the API's description does not have"


async def until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    """Let others run until a condition holds."""
    with anyio.fail_after(timeout):
        while not condition():
            await anyio.lowlevel.checkpoint()
