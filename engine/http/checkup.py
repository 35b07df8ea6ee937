"""The doctor: what is wrong with all that the engine stands on, and what to do about it."""

from __future__ import annotations

import anyio
from aiohttp import web

from engine.doctor.check import worst
from engine.http.api import api_of
from engine.http.wire import Query, plain, reply

routes = web.RouteTableDef()
LOOKING = web.AppKey("looking", anyio.Lock)
"""Held while somebody looks: it asks every repository and cluster, so one at a time is enough."""


@routes.get("/v1/doctor")
async def doctor(request: web.Request) -> web.Response:
    """Look at database, disk, clocks, renderer, views, repositories and clusters, now."""
    Query(request).done()
    async with request.app[LOOKING]:
        checks = await api_of(request).doctor()
    return reply({"state": worst(checks), "checks": plain(checks)})
