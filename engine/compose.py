"""Builds the engine out of its parts, and takes it down in order: the only place that constructs.

Order of start: database, log, lease, views, HTTP, then the work. Whoever waits for the lease is a
standby: it serves nothing and touches nothing.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
from msgspec.structs import replace

from engine.admission import Roots
from engine.bounded import MIB
from engine.clusters.settings import ClusterSettings
from engine.conductor import Conductor, News
from engine.control.bootstrap import Asked, ensure_control
from engine.control.controller import Controller
from engine.decide.outcome import Backoff
from engine.doctor.look import Standing
from engine.embedded.server import EmbeddedPostgres
from engine.erasure import erase_redacted
from engine.http.api import Api, Scrape, Workload
from engine.http.app import make_app, serving, tls_context
from engine.http.guard import hosts_for
from engine.http.local import Server, read_private, remove_server, write_private, write_server
from engine.http.metrics import metrics_app
from engine.http.tokens import ensure_first_token
from engine.measure import Measuring, batch
from engine.notify.outbox import Means
from engine.notify.send import sender
from engine.objects.redact import Redactor
from engine.people import People, forget_again
from engine.process.alive import is_gone, this_process
from engine.process.clock import SystemClock
from engine.process.supervise import Children
from engine.process.terms import Stop, lead
from engine.process.workers import Workers
from engine.project import projector_of, report_build
from engine.reconcile.assign import Assigner
from engine.reconcile.bodies import RenderedBodies
from engine.reconcile.reconciler import Limits, Reconciler
from engine.reconcile.rehearser import Rehearser
from engine.reconcile.resolve import Resolver
from engine.render.rendering import Rendering
from engine.settings import Settings, exports, split_listen
from engine.signing.serve import sign
from engine.signing.setup import start_signing
from engine.signing.witness import witness
from engine.sources.mirror import Mirrors, MirrorSettings
from engine.telemetry.log import TracedLog
from engine.telemetry.sdk import telemetry
from engine.worlds import ClusterWorld, NotificationWorld, RepositoryWorld
from events.actor_keys import PostgresActorKeys
from events.catalog import EngineStarted, EngineStopped, Fact
from events.connection import make_pool
from events.event import Actor, NewEvent, StreamName
from events.log import EventLog
from events.postgres import open_log
from events.proofs import Proofs
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.batch import Group
from projections.build import Progress, lay_out
from projections.follower import Follower
from projections.lease import Lease, hold
from projections.postgres import PostgresViews
from projections.rebuild import Rebuilt, drop_previous, rebuild
from projections.runner import Runner
from projections.store import Pool, Store

logger = logging.getLogger(__name__)
LEASE = "engine"
LEASE_SECONDS = 5.0
_CONNECTIONS = 20
_KEY_BYTES = 32


async def serve(settings: Settings, *, ready: Callable[[str], None] | None = None) -> None:
    """Run an engine until it is cancelled or gets SIGTERM or SIGINT, then stop it in order.

    `ready` is told the server's URL once requests are answered. Where the lease is lost, or the
    database for longer than that, it stands by, and leads again when it can. Raises what keeps it
    from starting.
    """
    stop = Stop()
    async with anyio.create_task_group() as group:
        group.start_soon(stop.on_signal)
        group.start_soon(stop.on_cancel)
        with anyio.CancelScope(shield=True) as stop.everything:
            await _serve(settings, ready, stop)
        group.cancel_scope.cancel()


async def _serve(settings: Settings, ready: Callable[[str], None] | None, stop: Stop) -> None:
    """Set up what outlasts a term: telemetry, the database that is embedded; then lead."""
    release = version_of("trueup")
    settings.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    clock = SystemClock()
    instance = f"{socket.gethostname()}:{os.getpid()}"
    async with AsyncExitStack() as stack:
        told = await stack.enter_async_context(telemetry(exports(), release, instance))
        measuring = Measuring(told, clock, settings.metrics_labels)
        scrape = measuring.page if told.is_pulled else None
        if settings.metrics_listen is not None and scrape is not None:
            await stack.enter_async_context(_metrics(settings, scrape))
        dsn = settings.database_url
        if dsn is None:
            folder = settings.directory / "postgres"
            postgres = await stack.enter_async_context(EmbeddedPostgres(folder))
            dsn = postgres.dsn
            keeper = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(keeper.cancel_scope.cancel)
            keeper.start_soon(postgres.keep)
        term = partial(_term, settings, dsn, release, clock, measuring, scrape, ready, stop)
        await lead(term, stop, clock)


async def _term(
    settings: Settings,
    dsn: str,
    release: str,
    clock: SystemClock,
    measuring: Measuring,
    scrape: Scrape | None,
    ready: Callable[[str], None] | None,
    stop: Stop,
) -> None:
    """Do all that is done under one lease."""
    directory = settings.directory
    redactor = redactor_of(settings.redaction_key)
    rendering = Rendering(
        redactor, allow_unconfined=settings.allow_unconfined, folder=directory / "render"
    )
    async with AsyncExitStack() as stack:
        opened = open_log(dsn, packages=("events", "projections"), measure=batch)
        log = TracedLog(await stack.enter_async_context(opened), clock.monotonic, measuring.lag)
        # A shard that is folded here keeps two: the one that it folds on, and one for its lease.
        apart = 2 * settings.shards if settings.shards > 1 and not settings.workers else 0
        pool = await make_pool(dsn, _CONNECTIONS + apart, "trueup engine")
        stack.callback(pool.terminate)
        lease = await stack.enter_async_context(
            hold(pool, LEASE, this_process(), LEASE_SECONDS, is_gone=is_gone)
        )
        signing = await _signing(settings, pool, log, clock)
        people = People(PostgresActorKeys(pool))
        runner, views = await _start_views(stack, log, pool, lease, clock, settings, dsn)
        await stack.enter_async_context(
            measuring.leading(views, runner.watermark, Proofs(pool, log).unsigned)
        )
        stream = StreamName(f"engine/default/{socket.gethostname().lower()}")
        await _say(log, clock, stream, EngineStarted(release, lease.epoch))
        await erase_redacted(log)
        await forget_again(log, people)
        await _start_signing(stack, signing)
        await ensure_first_token(log, clock, directory)
        await views.reached(await log.head())
        if settings.control is not None:
            asked = Asked(
                settings.control, settings.control_path or "", settings.control_branch or ""
            )
            await ensure_control(log, views, clock, roots_of(settings), asked)
        mirrors, reach, rehearser = _mirrors(settings), _reach(settings), Rehearser()
        api = replace(
            _api(settings, log, views, pool, clock, release, scrape, measuring.workload, people),
            doctor=Standing(settings, dsn, views, mirrors, reach, clock),
            rehearse=rehearser.of,
        )
        await stack.enter_async_context(_serving(settings, api, ready, stop))
        with stop.working():
            await _work(
                settings,
                log,
                views,
                runner,
                lease,
                rendering,
                redactor,
                clock,
                measuring,
                mirrors,
                reach,
                people,
                rehearser,
            )
        await _say(log, clock, stream, EngineStopped(lease.epoch))


async def _start_views(
    stack: AsyncExitStack,
    log: EventLog,
    pool: Pool,
    lease: Lease,
    clock: SystemClock,
    settings: Settings,
    dsn: str,
) -> tuple[Runner | Follower, PostgresViews]:
    """Fold the views here, or lay their shards out and follow whoever folds them."""
    group = Group(DOCUMENT_VIEWS, SUBJECT_VIEWS)
    tasks = await stack.enter_async_context(anyio.create_task_group())
    stack.callback(tasks.cancel_scope.cancel)
    runner: Runner | Follower
    if settings.shards == 1:
        runner = Runner(log, Store(pool), group, clock, epoch=lease.epoch, report=report_build)
    else:
        async with Store(pool).session() as session:
            await lay_out(session, group, settings.shards, lease.epoch)
        if settings.workers:
            tasks.start_soon(Workers(settings.workers, dsn, settings, clock).run)
        else:
            tasks.start_soon(projector_of(log, pool, group, clock).run)
        runner = Follower(log, Store(pool), group, clock)
    await tasks.start(runner.run)
    return runner, PostgresViews(pool, group, watermark=runner.watermark, log=log)


async def _signing(
    settings: Settings, pool: Pool, log: EventLog, clock: SystemClock
) -> Callable[[], Coroutine[Any, Any, None]]:
    """Check that the log extends its last known head; return what signs it, or keeps its heads."""
    if settings.signing == "external":
        return (await witness(settings, pool, log, clock)).run
    return partial(sign, pool, await start_signing(settings, pool, log, clock))


async def _start_signing(
    stack: AsyncExitStack, signing: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Sign as long as the engine runs, and at its end what it said last."""
    tasks = await stack.enter_async_context(anyio.create_task_group())
    stack.callback(tasks.cancel_scope.cancel)
    tasks.start_soon(signing)


def _api(
    settings: Settings,
    log: EventLog,
    views: PostgresViews,
    pool: Pool,
    clock: SystemClock,
    release: str,
    scrape: Scrape | None,
    workload: Callable[[], Workload | None],
    people: People,
) -> Api:
    known = Group(DOCUMENT_VIEWS, SUBJECT_VIEWS).views

    async def rebuild_view(view: str, report: Callable[[Progress], None]) -> Rebuilt:
        return await rebuild(log, Store(pool), known[view], report, clock=clock)

    async def drop(view: str) -> int:
        return await drop_previous(Store(pool), view)

    def unready() -> Mapping[str, str]:
        return {}

    return Api(
        log=log,
        views=views,
        clock=clock,
        version=release,
        hosts=hosts_for(settings.address[0], settings.allowed_hosts),
        repository_roots=settings.repository_roots,
        kubeconfig_roots=settings.kubeconfig_roots,
        secret_roots=settings.secret_roots,
        ready=unready,
        rebuild=rebuild_view,
        drop_previous=drop,
        metrics=scrape,
        proofs=Proofs(pool, log),
        workload=workload,
        people=people,
    )


@asynccontextmanager
async def _metrics(settings: Settings, scrape: Scrape) -> AsyncIterator[None]:
    """Serve metrics on an address of their own: a standby's too."""
    host, port = split_listen(settings.metrics_listen or "", "metrics_listen")
    app = metrics_app(scrape, hosts_for(host, settings.allowed_hosts))
    async with serving(app, host, port) as (bound, number):
        logger.info("metrics are served", extra={"address": bound, "port": number})
        yield


@asynccontextmanager
async def _serving(
    settings: Settings, api: Api, ready: Callable[[str], None] | None, stop: Stop
) -> AsyncIterator[None]:
    host, port = settings.address
    port = port or stop.port
    tls = None
    if settings.tls_cert and settings.tls_key:
        tls = tls_context(settings.tls_cert, settings.tls_key)
    async with serving(make_app(api), host, port, tls) as (bound, number):
        shown = f"[{bound}]" if ":" in bound else bound
        url = f"{'https' if tls else 'http'}://{shown}:{number}"
        stop.port = number
        directory = settings.directory
        server = Server(
            url=url,
            pid=os.getpid(),
            token_file=str(directory / "token"),
            log_id=api.log.log_id,
            ca_file=str(settings.tls_cert or ""),
        )
        write_server(directory, server)
        logger.info("serving", extra={"url": url})
        if ready is not None:
            ready(url)
        try:
            yield
        finally:
            remove_server(directory, os.getpid())


def _mirrors(settings: Settings) -> Mirrors:
    return Mirrors(
        MirrorSettings(
            folder=settings.directory / "mirrors",
            repository_roots=settings.repository_roots,
            secret_roots=settings.secret_roots,
        )
    )


def _reach(settings: Settings) -> ClusterSettings:
    """Return how clusters are reached."""
    return ClusterSettings(
        kubeconfig_roots=tuple(str(root) for root in settings.kubeconfig_roots),
        exec_plugins=settings.exec_plugins,
        relist_interval=settings.resync_interval,
        kept_bytes=settings.kept_forms_memory * MIB,
    )


async def _work(
    settings: Settings,
    log: EventLog,
    views: PostgresViews,
    runner: Runner | Follower,
    lease: Lease,
    rendering: Rendering,
    redactor: Redactor,
    clock: SystemClock,
    measuring: Measuring,
    mirrors: Mirrors,
    reach: ClusterSettings,
    people: People,
    rehearser: Rehearser,
) -> None:
    """Follow, resolve, observe and correct, until cancelled."""
    hosts = frozenset(host.lower() for host in settings.notification_hosts)
    async with sender(hosts) as sends, anyio.create_task_group() as group:
        children = Children(group, clock)
        sources = RepositoryWorld(children, mirrors, log, views, clock, people)
        clusters = ClusterWorld(children, log, views, redactor, clock, reach)
        bodies = RenderedBodies(log, views, sources, rendering)
        rehearser.works_with(clusters, bodies)
        reconciler = Reconciler(
            log,
            views,
            clusters,
            bodies,
            clock,
            limits=Limits(
                targets=settings.concurrency_total,
                targets_per_cluster=settings.concurrency_per_cluster,
                targets_per_application=settings.concurrency_per_application,
                requests=settings.requests_total,
                requests_per_target=settings.requests_per_target,
            ),
            backoff=Backoff(settings.retry_base, settings.retry_cap),
            check_lease=lease.check,
        )
        means = Means(
            log=log,
            views=views,
            sender=sends,
            clock=clock,
            secret_roots=settings.secret_roots,
            external_url=settings.external_url or "",
            check_lease=lease.check,
        )
        caches = {
            "kept forms": clusters.kept_weight,
            "renders": lambda: rendering.weight,
            "inventories": lambda: reconciler.inventories_weight,
        }
        measuring.works_on(reconciler.queue, clusters, caches)
        conductor = Conductor(
            _Feed(runner),
            views,
            sources,
            clusters,
            NotificationWorld(children, means),
            Resolver(log, views, sources, rendering, clock),
            Assigner(log, views, clock),
            Controller(log, views, sources, roots_of(settings), clock),
            reconciler,
            clock,
        )
        await conductor.run()


class _Feed:
    """What the runner folds, as the conductor hears it."""

    def __init__(self, runner: Runner | Follower) -> None:
        self._runner = runner

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[News]]:
        async with self._runner.subscribe() as subscription:

            async def news() -> AsyncIterator[News]:
                async for folded in subscription:
                    yield News(folded.events, folded.missed)

            yield news()


async def _say(log: EventLog, clock: SystemClock, stream: StreamName, fact: Fact) -> None:
    event = NewEvent(
        event_id=clock.event_id(),
        stream=stream,
        fact=fact,
        actor=Actor("engine:supervisor"),
        occurred_at=clock.now(),
    )
    await log.append([event])


def roots_of(settings: Settings) -> Roots:
    """Return the folders below which declared paths may lie."""
    return Roots(settings.repository_roots, settings.kubeconfig_roots, settings.secret_roots)


def redactor_of(path: Path) -> Redactor:
    """Read the redaction key, made at first; raises PermissionError where others can read it."""
    key = read_private(path)
    if key is None:
        key = secrets.token_bytes(_KEY_BYTES)
        write_private(path, key)
    if len(key) < _KEY_BYTES:
        raise ValueError(f"{path} has {len(key)} bytes: a redaction key has {_KEY_BYTES}")
    return Redactor(key, hashlib.sha256(b"trueup key id\n" + key).hexdigest()[:8])
