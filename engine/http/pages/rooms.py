"""All pages, put into an application."""

from __future__ import annotations

from aiohttp import web

from engine.http.keeping import COUNTS, Counts
from engine.http.pages import (
    actions,
    commit,
    drift,
    engine,
    fleet,
    go,
    life,
    live,
    login,
    resources,
    target,
    timeline,
)
from engine.http.pages.behind import Distances
from engine.http.pages.gate import SESSIONS
from engine.http.pages.render import prepare
from engine.http.pages.sessions import Sessions
from engine.ports import Clock


def add_pages(app: web.Application, clock: Clock) -> None:
    """Add the pages' routes, and what they remember between requests."""
    prepare()
    app[SESSIONS] = Sessions(clock)
    app[fleet.DISTANCES] = Distances()
    app[COUNTS] = Counts()
    for room in (
        life,
        login,
        fleet,
        target,
        drift,
        actions,
        resources,
        commit,
        timeline,
        live,
        engine,
        go,
    ):
        app.add_routes(room.routes)
