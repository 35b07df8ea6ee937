"""How the views are kept: how far each is, how fast the log grows, what of them is parked."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web
from msgspec import Struct

from engine.http.api import api_of
from events.event import START, Position
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.batch import Parked
from projections.projection import Reader

RECENT = 1000
RECOUNTED = 30.0
"""Seconds for which a count of documents is good enough: to count a million takes a while."""
_MICROS = 1_000_000


class View(Struct, frozen=True):
    """A view: what it keeps, how many documents (None: it files positions), what is parked."""

    name: str
    about: str
    documents: int | None
    position: Position
    parked: int


class Rate(Struct, frozen=True):
    """How fast the log grew of late: the newest `events` took `seconds`."""

    events: int
    seconds: float


class Keeping(Struct, frozen=True):
    """The views at one moment. `seen` is where they are, `head` where the log is."""

    head: Position
    seen: Position
    rate: Rate
    views: list[View]
    parked: list[Parked]

    @property
    def lag(self) -> int:
        """How many events the views are behind."""
        return max(0, self.head - self.seen)


class Counts:
    """How many documents the views have, counted now and then."""

    def __init__(self) -> None:
        self._counts: Mapping[str, int] = {}
        self._due = 0.0

    async def of(self, reader: Reader, now: float) -> Mapping[str, int]:
        """Return the documents of each view; `now` is of the monotonic clock."""
        if now >= self._due:
            self._counts = {view.name: await reader.count(view) for view in DOCUMENT_VIEWS}
            self._due = now + RECOUNTED
        return self._counts


COUNTS = web.AppKey("counts", Counts)


async def keeping(request: web.Request) -> Keeping:
    """Return how the views are kept now."""
    api = api_of(request)
    head = await api.log.head()
    async with api.views.snapshot() as reader:
        seen = reader.position
        parked: list[Parked] = []
        views = []
        counts = await request.app[COUNTS].of(reader, api.clock.monotonic())
        for view in DOCUMENT_VIEWS:
            stuck = await reader.parked_of(view)
            parked += stuck
            views.append(View(view.name, _about(view), counts[view.name], seen, len(stuck)))
        views += [View(view.name, _about(view), None, seen, 0) for view in SUBJECT_VIEWS]
    first = await api.log.read(Position(max(START, head - RECENT)), 1)
    seconds = (api.clock.now() - first[0].recorded_at) / _MICROS if first else 0.0
    return Keeping(head, seen, Rate(min(head, RECENT), seconds), views, parked)


def _about(view: object) -> str:
    return (type(view).__doc__ or "").partition("\n")[0].rstrip(".").replace("`", "")
