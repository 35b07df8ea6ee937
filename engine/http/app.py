"""The application: routes and what stands before them; and how it is served."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from aiohttp import web, web_app

from engine.http import (
    access,
    bodies,
    checkup,
    differ,
    drift,
    history,
    metrics,
    notifications,
    openapi,
    people,
    proofs,
    resources,
    shows,
    steer,
    targets,
    upkeep,
    wait,
    why,
)
from engine.http.api import API, Api
from engine.http.guard import add_headers, answering, checking
from engine.http.pages.rooms import add_pages
from engine.http.protocol import Runner
from engine.http.stream import CLOSING
from engine.http.trace import tracing

GRACE = 5.0
"""Seconds that requests have to end when the server stops."""
IDLE = 30.0
"""Seconds that a connection may stay without a whole request: idle, or sending headers slowly."""


def make_app(api: Api) -> web.Application:
    """Return the API as an aiohttp application."""
    app = web.Application(
        middlewares=[answering, checking, tracing], client_max_size=api.limits.body
    )
    app[API] = api
    app[CLOSING] = anyio.Event()
    app[checkup.LOOKING] = anyio.Lock()
    for module in (
        openapi,
        upkeep,
        checkup,
        metrics,
        access,
        resources,
        shows,
        targets,
        differ,
        steer,
        drift,
        why,
        bodies,
        people,
        notifications,
        wait,
        history,
        proofs,
    ):
        app.add_routes(module.routes)
    add_pages(app, api.clock)
    app.on_response_prepare.append(add_headers)
    app.on_shutdown.append(_close_streams)
    return app


@asynccontextmanager
async def serving(
    app: web.Application, host: str, port: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, int]]:
    """Serve until the block is left; gives the address that is listened on (port 0: which one).

    Raises OSError where the address cannot be taken.
    """
    runner = Runner(
        app,
        access_log=None,
        handler_cancellation=True,
        keepalive_timeout=IDLE,
        shutdown_timeout=GRACE,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=tls)
        await site.start()
        address = runner.addresses[0]
        yield str(address[0]), int(address[1])
    finally:
        with anyio.CancelScope(shield=True):
            await runner.cleanup()
        _forget_handlers()


def _forget_handlers() -> None:
    """Let go of applications that were served: aiohttp remembers the last 1024 handlers of all.

    Otherwise every term of an engine would stay in memory, with its pools and caches.
    """
    remembered = getattr(web_app, "_cached_build_middleware", None)
    if remembered is not None:
        remembered.cache_clear()


def tls_context(cert: Path, key: Path) -> ssl.SSLContext:
    """Return what TLS is served with: 1.2 or newer. Raises OSError or `ssl.SSLError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    return context


async def _close_streams(app: web.Application) -> None:
    app[CLOSING].set()
