"""The engine itself: the log, the views and how far they are, what is parked, what waits."""

from __future__ import annotations

from aiohttp import web

from engine.http.api import api_of
from engine.http.keeping import keeping
from engine.http.pages.render import page
from engine.http.wire import Query
from projections.corrections import CORRECTIONS
from projections.declared import DECLARED
from projections.drift import DRIFT
from projections.fleet import FLEET

routes = web.RouteTableDef()
MOST_PARKED = 100


@routes.get("/views")
async def show_views(request: web.Request) -> web.Response:
    """Show how far the views are behind the log, and what the engine has to do."""
    api = api_of(request)
    Query(request).done()
    kept = await keeping(request)
    async with api.views.snapshot() as reader:
        drifted = await reader.count(DRIFT, where={"state": "open"})
        correcting = await reader.count(CORRECTIONS, where={"state": "planned"})
        declared = {
            kind: await reader.count(DECLARED, where={"kind": kind})
            for kind in ("Repository", "Cluster", "Application")
        }
    return page(
        request,
        "views.html",
        version=api.version,
        log_id=api.log.log_id,
        head=kept.head,
        seen=kept.seen,
        lag=kept.lag,
        views=kept.views,
        parked=kept.parked[:MOST_PARKED],
        all_parked=len(kept.parked),
        drifted=drifted,
        correcting=correcting,
        targets=next(view.documents for view in kept.views if view.name == FLEET.name),
        declared=declared,
        rate=kept.rate,
        work=api.workload(),
        problems=dict(api.ready()),
        then=api.clock.now(),
    )
