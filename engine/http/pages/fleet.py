"""The fleet: every target, how it stands, how far it is behind."""

from __future__ import annotations

from aiohttp import web

from engine.http.api import api_of
from engine.http.pages.render import page
from engine.http.standing import standings
from engine.http.wire import Query
from events.event import stream
from projections.targets import TARGETS

routes = web.RouteTableDef()
PAGE = 50


@routes.get("/")
async def show_fleet(request: web.Request) -> web.Response:
    """Show the targets by key, a page at a time."""
    api, query = api_of(request), Query(request)
    cluster, application, after = (
        query.text("cluster"),
        query.text("application"),
        query.text("after"),
    )
    query.done()
    where = {}
    if application:
        where["application"] = stream("app", "default", application)
    if cluster:
        where["cluster"] = stream("cluster", "default", cluster)
    async with api.views.snapshot() as reader:
        found = await reader.page(TARGETS, where=where, after=after, limit=PAGE + 1)
        shown = [item.document for item in found[:PAGE] if item.document.assigned]
        items = await standings(reader, shown, api.clock.now())
        seen = reader.position
    following = found[PAGE - 1].key if len(found) > PAGE else ""
    return page(request, "fleet.html", items=items, following=following, seen=seen)
