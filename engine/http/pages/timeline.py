"""What happened: the log's events, newest first, of one subject or all; live; as of any moment."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web
from msgspec import Struct

from engine.http.api import Api, api_of
from engine.http.moment import position_of, reading
from engine.http.pages.fleet import standing_of
from engine.http.pages.paths import to
from engine.http.pages.render import page
from engine.http.pages.story import payload, rows
from engine.http.people import names
from engine.http.problem import bad_request, not_found
from engine.http.subjects import resolve
from engine.http.wire import Query
from engine.resources.spelling import did_you_mean
from events.catalog import CATALOG
from events.event import START, Event, Position
from projections.projection import Reader
from projections.timeline import TIMELINE

routes = web.RouteTableDef()
PAGE = 50
_LOOKED_AT = 2000
"""Events that one page goes through in search of those of some types and actors."""
LONGEST_CHAIN = 30
GROUPS = {
    "people": ("Declared", "Withdrawn", "SyncRequested", "Suspended", "Resumed"),
    "git": ("CommitSeen", "RefMoved", "SourceFailed", "SourceRecovered", "SourceChecked"),
    "renders": ("DesiredRendered", "RenderFailed", "RevisionResolved"),
    "drift": ("DriftDetected", "DriftResolved"),
    "corrections": (
        "CorrectionPlanned",
        "CorrectionApplied",
        "CorrectionFailed",
        "CorrectionAbandoned",
        "HookEnded",
        "TargetSynced",
    ),
    "holds": ("ReconcileHeld", "HoldLifted"),
    "health": ("HealthChanged", "HealthTimedOut"),
    "clusters": (
        "ClusterConnected",
        "ClusterLost",
        "KindReadable",
        "KindUnreadable",
        "ObjectsObserved",
        "ObservationGap",
        "ObservationConfirmed",
    ),
}
"""Types of events that people look for together, by a word for them."""


class Asked(Struct, frozen=True):
    """What a timeline is asked for; "" for any. `before` and `at` are where it begins."""

    subject: str = ""
    show: str = ""
    type: str = ""
    actor: str = ""
    before: str = ""
    at: str = ""
    project: str = "default"

    @property
    def types(self) -> frozenset[str] | None:
        """The types of events that are meant; None for all."""
        if self.type:
            return frozenset(self.type.split(","))
        return frozenset(GROUPS[self.show]) if self.show else None

    def takes(self, event: Event) -> bool:
        """Whether an event is meant, its subject aside."""
        types = self.types
        return (types is None or event.type in types) and (
            not self.actor or event.actor.startswith(self.actor)
        )

    def path(self, **changes: str) -> str:
        """Return the address with some of it changed."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        if self.project == "default":
            values["project"] = ""
        return to("timeline", **{**values, **changes})


def read_asked(query: Query) -> Asked:
    """Read what a timeline is asked for out of its address."""
    show = query.text("show")
    if show and show not in GROUPS:
        raise bad_request(f"no events are called {show[:40]!r}{did_you_mean(show, GROUPS)}")
    kind = query.text("type")
    for name in filter(None, kind.split(",")):
        if name not in CATALOG:
            raise bad_request(f"no type of event is called {name}{did_you_mean(name, CATALOG)}")
    before = query.position("before")
    return Asked(
        subject=query.text("subject").strip(),
        show=show,
        type=kind,
        actor=query.text("actor").strip(),
        before=str(before) if before else "",
        at=query.text("at").strip(),
        project=query.text("project", "default"),
    )


@routes.get("/timeline")
async def show_timeline(request: web.Request) -> web.Response:
    """Show what happened, newest first."""
    api, query = api_of(request), Query(request)
    asked = read_asked(query)
    query.done()
    async with reading(api) as moment:
        subject = (
            await resolve(moment.reader, asked.subject, asked.project) if asked.subject else ""
        )
        events, following = await _newest(api, moment.reader, asked, subject)
        standing = await standing_of(api, moment)
    return page(
        request,
        "timeline.html",
        asked=asked,
        subject=subject,
        rows=rows(events, await names(api, events)),
        following=following,
        groups=list(GROUPS),
        types=sorted(CATALOG),
        **standing,
    )


async def _newest(
    api: Api, reader: Reader, asked: Asked, subject: str
) -> tuple[Sequence[Event], int]:
    """Return the newest events before a point that are meant, and before where to go on (or 0)."""
    end = Position(int(asked.before)) if asked.before else Position(2**62)
    if asked.at:
        end = Position(min(end, await position_of(api, asked.at) + 1))
    if not subject:
        end = Position(min(end, await api.log.head() + 1))
    found: list[Event] = []
    looked = 0
    while len(found) <= PAGE and looked < _LOOKED_AT and end > START + 1:
        events = await _before(api, reader, subject, end)
        if not events:
            return found, 0
        looked += len(events)
        found += [event for event in events if asked.takes(event)]
        end = events[-1].position
    if len(found) > PAGE:
        return found[:PAGE], found[PAGE - 1].position
    return found, end if end > START + 1 else 0


async def _before(api: Api, reader: Reader, subject: str, end: Position) -> Sequence[Event]:
    """Return some events before a position, newest first: of a subject, or all."""
    many = 200
    if subject:
        positions = await reader.subjects(
            TIMELINE, subject, before=end, limit=many, newest_first=True
        )
        return list(reversed(await api.log.read_at(positions)))
    start = Position(max(START, end - 1 - many))
    return list(reversed(await api.log.read(start, end - 1 - start)))


@routes.get("/events/{position:[0-9]{1,18}}")
async def show_event(request: web.Request) -> web.Response:
    """Show one event whole, and the chain of what caused it."""
    api = api_of(request)
    Query(request).done()
    position = Position(int(request.match_info["position"]))
    found = await api.log.read_at([position])
    if not found:
        raise not_found(f"the log has no event at position {position}")
    event = found[0]
    chain: list[Event] = []
    cause = event.causation
    while cause is not None and len(chain) < LONGEST_CHAIN:
        causes = await api.log.read_at([cause])
        if not causes or causes[0].position >= position:
            break
        chain.append(causes[0])
        cause = causes[0].causation
    head = await api.log.head()
    called = await names(api, [event, *chain])
    return page(
        request,
        "event.html",
        item=rows([event], called)[0],
        payload=payload(event),
        chain=rows(reversed(chain), called),
        head=head,
    )
