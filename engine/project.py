"""A process that folds shards of the views: as many as are its, for as long as it runs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

import anyio
import anyio.to_thread

from engine.process.alive import is_gone, this_process
from engine.process.clock import SystemClock
from engine.process.terms import Stop, lead
from engine.settings import Settings
from events.connection import make_pool
from events.log import EventLog
from events.postgres import open_log
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.batch import Group
from projections.build import Progress
from projections.projector import Projector
from projections.store import Pool

logger = logging.getLogger(__name__)
_SPARE = 4
"""Connections of a projector beside one for each shard: places and leases."""


def projector_of(log: EventLog, pool: Pool, group: Group, clock: SystemClock) -> Projector:
    """Return what folds this process's share of the shards."""
    owner = this_process()
    return Projector(log, pool, group, clock, owner, is_gone=is_gone, report=report_build)


def report_build(progress: Progress) -> None:
    """Log how far a build of views is."""
    logger.info(
        "views are being built",
        extra={"position": progress.position, "head": progress.head, "rate": progress.rate},
    )


async def serve_projector(
    settings: Settings, *, ready: Callable[[], None] | None = None, tied: bool = False
) -> None:
    """Fold shards until cancelled, or SIGTERM or SIGINT; `ready` is told when it begins.

    With `tied` it ends when standard input does: so with whoever started it, however that ends.
    Raises ValueError without a database, `LogCorrupt` on a hole.
    """
    if settings.database_url is None:
        raise ValueError("it needs --database-url: the embedded Postgres is the engine's alone")
    stop, clock = Stop(), SystemClock()
    async with anyio.create_task_group() as group:
        group.start_soon(stop.on_signal)
        group.start_soon(stop.on_cancel)
        if tied:
            group.start_soon(_until_the_end_of_input, stop)
        with anyio.CancelScope(shield=True) as stop.everything:
            term = partial(_term, settings.database_url, clock, stop, ready)
            await lead(term, stop, clock)
        group.cancel_scope.cancel()


async def _term(dsn: str, clock: SystemClock, stop: Stop, ready: Callable[[], None] | None) -> None:
    group = Group(DOCUMENT_VIEWS, SUBJECT_VIEWS)
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(open_log(dsn, packages=("events", "projections")))
        # Every shard keeps two: the one that it folds on, and one for its lease.
        pool = await make_pool(dsn, 2 * 64 + _SPARE, "trueup projector")
        stack.callback(pool.terminate)
        with stop.working():
            if ready is not None:
                ready()
            await projector_of(log, pool, group, clock).run()


async def _until_the_end_of_input(stop: Stop) -> None:
    # A thread of its own: it may stand in the read when the process ends.
    await anyio.to_thread.run_sync(sys.stdin.buffer.read, abandon_on_cancel=True)
    logger.info("whoever started this has ended: stopping")
    stop.ask()
