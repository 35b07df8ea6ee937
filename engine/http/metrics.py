"""The page that Prometheus fetches: with a token on the API, or on an address of its own."""

from __future__ import annotations

from collections.abc import Collection

from aiohttp import web

from engine.http.api import Scrape, api_of
from engine.http.guard import Handler, check_host
from engine.http.problem import Refusal, not_found
from engine.http.wire import Query

_ACCEPT_BYTES = 1000
routes = web.RouteTableDef()


@routes.get("/metrics")
async def metrics(request: web.Request) -> web.Response:
    """Give what is measured."""
    Query(request).done()
    scrape = api_of(request).metrics
    if scrape is None:
        raise not_found("metrics are not for fetching here: OTEL_METRICS_EXPORTER says so")
    return await _page(scrape, request)


def metrics_app(scrape: Scrape, hosts: Collection[str]) -> web.Application:
    """Return an application that gives metrics without a token, and nothing else.

    It also answers `/healthz`, which a standby's API does not: its process can be asked here
    whether it lives.
    """

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            check_host(hosts, request)
            return await handler(request)
        except Refusal as refusal:
            return refusal.response()

    async def page(request: web.Request) -> web.Response:
        return await _page(scrape, request)

    async def healthy(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    app = web.Application(middlewares=[guarded])
    app.router.add_get("/metrics", page)
    app.router.add_get("/healthz", healthy)
    return app


async def _page(scrape: Scrape, request: web.Request) -> web.Response:
    body, content_type = await scrape(request.headers.get("Accept", "")[:_ACCEPT_BYTES])
    return web.Response(body=body, headers={"Content-Type": content_type})
