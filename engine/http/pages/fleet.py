"""The fleet: every target, how it stands, how far it is behind; and where to begin without any."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from engine.http.api import Api, api_of
from engine.http.moment import Moment, reading
from engine.http.pages.behind import Distances
from engine.http.pages.filters import SHOWN_STATES, Filters, read_filters, read_fleet
from engine.http.pages.render import page
from engine.http.wire import Query
from events.event import START
from events.vocabulary import Health
from projections.asof import AsOfReader
from projections.declared import DECLARED
from projections.projection import Reader

routes = web.RouteTableDef()
DISTANCES = web.AppKey("distances", Distances)
FRESH = 50
"""How many events the views may be behind the log without a word about it."""


@routes.get("/")
async def show_fleet(request: web.Request) -> web.Response:
    """Show the targets by key, a page at a time; or how to begin, where there is nothing yet."""
    api, query = api_of(request), Query(request)
    filters = read_filters(query)
    query.done()
    async with reading(api, filters.at) as moment:
        shown = await fleet_of(request, moment, filters)
        begun = await _begun(moment.reader)
        standing = await standing_of(api, moment)
    template = "fleet.html" if begun["targets"] or not filters.is_any else "start.html"
    return page(request, template, begun=begun, **shown, **standing)


async def fleet_of(request: web.Request, moment: Moment, filters: Filters) -> dict[str, Any]:
    """Return what the table of targets needs."""
    fleet = await read_fleet(moment, filters)
    behind = await request.app[DISTANCES].of(moment.reader, fleet.items)
    return {
        "filters": filters,
        "fleet": fleet,
        "behind": behind,
        "all_states": SHOWN_STATES,
        "all_healths": list(Health),
    }


async def standing_of(api: Api, moment: Moment) -> dict[str, Any]:
    """Return as of when a page was read, and how far the views were behind the log then."""
    head = await api.log.head()
    seen = moment.reader.position
    lag = 0 if isinstance(moment.reader, AsOfReader) else head - seen
    return {"seen": seen, "lag": lag, "fresh": FRESH, "then": moment.now, "now": moment.now}


async def _begun(reader: Reader) -> dict[str, bool]:
    begun = {
        kind: bool(await reader.page(DECLARED, where={"kind": kind}, limit=1))
        for kind in ("Repository", "Cluster", "Application")
    }
    return {**begun, "targets": bool(begun["Application"]) or reader.position == START}
