"""How the views are kept: how far each is, how fast the log grows, what of them is parked."""

from __future__ import annotations

from msgspec import Struct

from engine.http.api import Api
from events.event import START, Position
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.batch import Parked

RECENT = 1000
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


async def keeping(api: Api) -> Keeping:
    """Return how the views are kept now."""
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
    first = await api.log.read(Position(max(START, head - RECENT)), 1)
    seconds = (api.clock.now() - first[0].recorded_at) / _MICROS if first else 0.0
    return Keeping(head, seen, Rate(min(head, RECENT), seconds), views, parked)


def _about(view: object) -> str:
    return (type(view).__doc__ or "").partition("\n")[0].rstrip(".").replace("`", "")
