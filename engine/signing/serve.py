"""Signing under a lease, so that exactly one signs: in the engine, or in a process of its own.

As a process (`trueup signer`) it alone needs the private key; the engine, with `signing =
"external"`, then has none. Who dies is succeeded at once on the same machine, else when its lease
ends; whoever succeeds it begins with what was published last.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

import anyio

from engine.process.alive import is_gone, this_process
from engine.process.clock import SystemClock
from engine.process.terms import Stop, lead
from engine.settings import Settings
from engine.signing.setup import start_signing
from events.connection import make_pool
from events.postgres import open_log
from events.signer import Signer
from projections.lease import hold
from projections.store import Pool

logger = logging.getLogger(__name__)
LEASE = "signer"
_SECONDS = 5.0
_LAST_WORD = 15.0
"""Seconds that the last signature may take when we are to stop."""
_CONNECTIONS = 4


async def sign(pool: Pool, signer: Signer) -> None:
    """Sign while we have the lease, until cancelled, and then what was said last.

    Waits for the lease. Raises `LeaseLost`, and what `Signer.run` raises.
    """
    async with hold(pool, LEASE, this_process(), _SECONDS, is_gone=is_gone) as lease:
        signer.check = lease.check
        try:
            await signer.run()
        finally:
            with anyio.move_on_after(_LAST_WORD, shield=True):
                await signer.finish()


async def serve_signer(settings: Settings, *, ready: Callable[[], None] | None = None) -> None:
    """Sign until cancelled, or SIGTERM or SIGINT; `ready` is told when it begins.

    A database or a head's place that cannot be reached is waited for, once we have had the lease.
    Raises ValueError without a database, `HeadRefused` for one that does not extend the last head,
    `LogCorrupt`.
    """
    if settings.database_url is None:
        raise ValueError("it needs --database-url: the embedded Postgres is the engine's alone")
    settings.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    stop = Stop()
    async with anyio.create_task_group() as group:
        group.start_soon(stop.on_signal)
        group.start_soon(stop.on_cancel)
        with anyio.CancelScope(shield=True) as stop.everything:
            term = partial(_term, settings, settings.database_url, SystemClock(), stop, ready)
            await lead(term, stop, SystemClock())
        group.cancel_scope.cancel()


async def _term(
    settings: Settings,
    dsn: str,
    clock: SystemClock,
    stop: Stop,
    ready: Callable[[], None] | None,
) -> None:
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(open_log(dsn, packages=("events", "projections")))
        pool = await make_pool(dsn, _CONNECTIONS, "trueup signer")
        stack.callback(pool.terminate)
        with stop.working():
            async with hold(pool, LEASE, this_process(), _SECONDS, is_gone=is_gone) as lease:
                signer = await start_signing(settings, pool, log, clock)
                signer.check = lease.check
                logger.info("signing", extra={"epoch": lease.epoch})
                if ready is not None:
                    ready()
                try:
                    await signer.run()
                finally:
                    with anyio.move_on_after(_LAST_WORD, shield=True):
                        await signer.finish()
