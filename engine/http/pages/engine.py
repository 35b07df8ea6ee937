"""The engine itself: the log, the views and how far they are, what is parked, what waits."""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct

from engine.http.api import api_of
from engine.http.pages.render import page
from engine.http.pages.words import MICROS
from engine.http.wire import Query
from events.event import START, Position
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.batch import Parked
from projections.corrections import CORRECTIONS
from projections.declared import DECLARED
from projections.drift import DRIFT
from projections.fleet import FLEET

routes = web.RouteTableDef()
RECENT = 1000
MOST_PARKED = 100


class Rate(Struct, frozen=True):
    """How fast the log grew of late: the newest `events` took `seconds`."""

    events: int
    seconds: float


class View(Struct, frozen=True):
    """A view: what it keeps, how many documents, how far it is, what of it is parked."""

    name: str
    about: str
    documents: int | None
    position: Position
    parked: int


@routes.get("/views")
async def show_views(request: web.Request) -> web.Response:
    """Show how far the views are behind the log, and what the engine has to do."""
    api = api_of(request)
    Query(request).done()
    head = await api.log.head()
    async with api.views.snapshot() as reader:
        seen = reader.position
        parked: list[Parked] = []
        views = []
        for view in DOCUMENT_VIEWS:
            stuck = await reader.parked_of(view)
            parked += stuck
            count = await reader.count(view)
            views.append(View(view.name, _about(view), count, seen, len(stuck)))
        views += [View(view.name, _about(view), None, seen, 0) for view in SUBJECT_VIEWS]
        drifted = await reader.count(DRIFT, where={"state": "open"})
        correcting = await reader.count(CORRECTIONS, where={"state": "planned"})
        targets = await reader.count(FLEET)
        declared = {
            kind: await reader.count(DECLARED, where={"kind": kind})
            for kind in ("Repository", "Cluster", "Application")
        }
    first = await api.log.read(Position(max(START, head - RECENT)), 1)
    now = api.clock.now()
    rate = Rate(min(head, RECENT), (now - first[0].recorded_at) / MICROS if first else 0.0)
    return page(
        request,
        "views.html",
        version=api.version,
        log_id=api.log.log_id,
        head=head,
        seen=seen,
        lag=head - seen,
        views=views,
        parked=parked[:MOST_PARKED],
        all_parked=len(parked),
        drifted=drifted,
        correcting=correcting,
        targets=targets,
        declared=declared,
        rate=rate,
        work=api.workload(),
        problems=dict(api.ready()),
        then=now,
    )


def _about(view: object) -> str:
    return (type(view).__doc__ or "").partition("\n")[0].rstrip(".").replace("`", "")
