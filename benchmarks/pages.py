"""Pages of a fleet of thousands: how long each takes, beside a page that reads nothing."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
from msgspec import Struct

from benchmarks.frame import Figure, say
from engine.embedded.server import EmbeddedPostgres
from engine.http.api import Api
from engine.http.app import make_app, serving
from engine.http.guard import hosts_for
from engine.http.local import read_token
from engine.http.pages.gate import SESSIONS
from engine.http.tokens import digest, ensure_first_token
from engine.people import People
from engine.process.clock import SystemClock
from events.actor_keys import PostgresActorKeys
from events.catalog import (
    ClusterConnected,
    CommitSeen,
    Declared,
    DesiredRendered,
    Fact,
    HealthChanged,
    ReconcileHeld,
    RefMoved,
    RevisionResolved,
    TargetAssigned,
    TargetSynced,
)
from events.connection import make_pool
from events.event import Actor, NewEvent, StreamName, blob
from events.log import EventLog
from events.postgres import open_log
from events.vocabulary import Health
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.batch import Group
from projections.lease import hold
from projections.postgres import PostgresViews
from projections.runner import Runner
from projections.store import Store

PAGES = {
    "first": "/",
    "last": "/?after=target/default/app-9999",
    "held": "/?state=held",
    "degraded": "/?health=degraded",
    "cluster": "/?cluster=c-00007",
    "clusters": "/clusters",
    "timeline": "/timeline",
}
SHA = "5ca1ab1e" * 5
_BATCH = 500


async def figures(
    applications: int = 5, clusters: int = 2000, rounds: int = 20
) -> AsyncIterator[Figure]:
    """Yield the median seconds of each page; the ceiling is that of `/login`."""
    params = {"applications": applications, "clusters": clusters, "rounds": rounds}
    with tempfile.TemporaryDirectory(prefix="trueup-bench-") as folder:
        async with site(Path(folder), applications, clusters) as fetch:
            bare = await _median(fetch, "/login", rounds)
            for name, path in PAGES.items():
                took = await _median(fetch, path, rounds)
                yield Figure(f"pages.{name}", took, "s", bare, params)


class Fetch(Struct, frozen=True):
    """A browser that is logged in."""

    session: aiohttp.ClientSession
    url: str

    async def __call__(self, path: str) -> None:
        """Get a page; raises where it is none."""
        async with self.session.get(self.url + path, headers={"Accept": "text/html"}) as answer:
            await answer.read()
            answer.raise_for_status()


async def _median(fetch: Fetch, path: str, rounds: int) -> float:
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        await fetch(path)
        took.append(time.perf_counter() - began)
    return statistics.median(took)


@asynccontextmanager
async def site(folder: Path, applications: int, clusters: int) -> AsyncIterator[Fetch]:
    """Serve a fleet out of an embedded Postgres."""
    clock = SystemClock()
    group = Group(DOCUMENT_VIEWS, SUBJECT_VIEWS)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedPostgres(folder / "postgres"))
        opened = open_log(server.dsn, packages=("events", "projections"))
        log = await stack.enter_async_context(opened)
        pool = await make_pool(server.dsn, 10, "trueup benchmark")
        stack.callback(pool.terminate)
        lease = await stack.enter_async_context(hold(pool, "engine", "benchmark", 60.0))
        runner = Runner(log, Store(pool), group, clock, epoch=lease.epoch)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        await tasks.start(runner.run)
        views = PostgresViews(pool, group, watermark=runner.watermark)
        await ensure_first_token(log, clock, folder)
        say(f"{applications * clusters} targets are told of")
        for part in _parts(_beginning(applications, clusters)):
            await _tell(log, clock, part)
        rendered = await log.head()
        await log.put([blob(b"[]")])
        for part in _parts(_targets(applications, clusters, rendered)):
            await _tell(log, clock, part)
        await views.reached(await log.head(), 600)
        api = Api(
            log=log,
            views=views,
            clock=clock,
            people=People(PostgresActorKeys(pool)),
            version="benchmark",
            hosts=hosts_for("127.0.0.1", []),
            repository_roots=(),
            kubeconfig_roots=(),
            secret_roots=(),
            ready=dict,
            rebuild=_none,
            drop_previous=_none,
        )
        app = make_app(api)
        host, port = await stack.enter_async_context(serving(app, "127.0.0.1", 0))
        jar = aiohttp.CookieJar(unsafe=True)
        session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=jar))
        fetch = Fetch(session, f"http://{host}:{port}")
        token = read_token(folder / "token") or ""
        code = app[SESSIONS].offer(Actor("user:admin"), digest(token))
        sent = {"data": {"code": code}, "headers": {"Origin": fetch.url}}
        async with session.post(f"{fetch.url}/login", **sent) as answer:  # type: ignore[arg-type]
            answer.raise_for_status()
        yield fetch


async def _none(view: str, report: object = None) -> Any:
    raise NotImplementedError("a benchmark of pages rebuilds nothing")


def _beginning(applications: int, clusters: int) -> Iterator[tuple[str, Fact]]:
    yield "repo/default/fleet", Declared("Repository", {"url": "https://git.example.com/f.git"})
    for number in range(clusters):
        stream = f"cluster/default/c-{number:05}"
        yield stream, Declared("Cluster", {"inCluster": True}, {"stage": "prod"})
        yield stream, ClusterConnected("v1.36.0")
    yield "repo/default/fleet", CommitSeen(SHA, (), "Sell more", 1)
    yield "repo/default/fleet", RefMoved("refs/heads/main", SHA)
    yield "repo/default/fleet", RevisionResolved(SHA)
    source = {"repository": "fleet", "path": "."}
    spec = {"source": source, "targets": {"selector": {"matchLabels": {"stage": "prod"}}}}
    for number in range(applications):
        yield f"app/default/app-{number:04}", Declared("Application", spec)
    nothing = blob(b"[]").digest
    for number in range(applications):
        # Rendered of a declaration that is not before any of these.
        rendered = DesiredRendered(SHA, 2**40, "sha256:1", "plain", nothing, 7)
        yield f"app/default/app-{number:04}", rendered


def _targets(applications: int, clusters: int, rendered: int) -> Iterator[tuple[str, Fact]]:
    first = rendered - applications + 1
    for app in range(applications):
        for number in range(clusters):
            cluster = f"c-{number:05}"
            stream = f"target/default/app-{app:04}@{cluster}"
            yield stream, TargetAssigned(f"app-{app:04}", cluster, "default")
            yield stream, TargetSynced(SHA, first + app, "")
            yield stream, HealthChanged(Health.DEGRADED if number % 50 == 1 else Health.HEALTHY)
            if number % 100 == 3:
                yield stream, ReconcileHeld("window", "outside of its window")


def _parts(facts: Iterator[tuple[str, Fact]]) -> Iterator[list[tuple[str, Fact]]]:
    part: list[tuple[str, Fact]] = []
    for each in facts:
        part.append(each)
        if len(part) == _BATCH:
            yield part
            part = []
    if part:
        yield part


async def _tell(log: EventLog, clock: SystemClock, facts: Sequence[tuple[str, Fact]]) -> None:
    await log.append(
        [
            NewEvent(
                event_id=clock.event_id(),
                stream=StreamName(stream),
                fact=fact,
                actor=Actor("engine:benchmark"),
                occurred_at=clock.now(),
            )
            for stream, fact in facts
        ]
    )
