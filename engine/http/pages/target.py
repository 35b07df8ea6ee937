"""One target: what should be, what is, what differs, what was done about it, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from aiohttp import web
from msgspec import Struct

from engine.decide.show import SHOWN_ONLY
from engine.decide.situation import Situation
from engine.http.api import api_of
from engine.http.moment import reading
from engine.http.pages.actions import DONE
from engine.http.pages.fleet import DISTANCES, standing_of
from engine.http.pages.render import page
from engine.http.pages.story import rows
from engine.http.standing import standings
from engine.http.targets import compared, no_target, target_id
from engine.http.wire import Query
from engine.situations import read_situation
from events.event import stream
from events.vocabulary import Difference, Health, ObjectRef, Presence
from projections.projection import Reader
from projections.timeline import TIMELINE

routes = web.RouteTableDef()
LATEST = 30
MAX_OBJECTS = 500
MAX_DIFFERENCES = 200


class ObjectRow(Struct, frozen=True):
    """One object of a target: whether it should be there, whether it is, and how it fares.

    `applied` is the position of our last apply, `seen` that of the last observation; 0 for none.
    """

    ref: ObjectRef
    desired: bool
    presence: str
    health: Health | str
    message: str
    applied: int
    seen: int
    differences: int


@routes.get("/targets/{project}/{target}")
async def show_target(request: web.Request) -> web.Response:
    """Show all that is known of one target."""
    api, query = api_of(request), Query(request)
    at, told = query.text("at").strip(), read_done(query)
    query.done()
    target = target_id(request)
    async with reading(api, at) as moment:
        reader = moment.reader
        situation = await read_situation(reader, api.log, target, moment.now, every_body=True)
        if situation is None:
            raise await no_target(reader, target)
        (status,) = await standings(reader, [situation.target], moment.now)
        behind = await request.app[DISTANCES].of(reader, [status])
        positions = await latest(reader, target.stream)
        standing = await standing_of(api, moment)
        found, unknown = await compared(api.log, situation)
    events = await api.log.read_at(positions)
    objects = object_rows(situation, found)
    application = situation.application
    repository = "" if situation.spec is None else situation.spec.source.repository
    return page(
        request,
        "target.html",
        target=target,
        how=status,
        situation=situation,
        repository=repository,
        repository_stream=stream("repo", target.project, repository) if repository else "",
        application=application,
        above=application.suspended if application else None,
        far=next(iter(behind.values()), ""),
        drift=[item for item in found if item.kind not in SHOWN_ONLY][:MAX_DIFFERENCES],
        shown_only=[item for item in found if item.kind in SHOWN_ONLY][:MAX_DIFFERENCES],
        unknown=unknown,
        objects=objects[:MAX_OBJECTS],
        all_objects=len(objects),
        rows=rows(reversed(events)),
        more=len(positions) == LATEST,
        at=at,
        **told,
        **standing,
    )


async def latest(reader: Reader, subject: str) -> Sequence[Any]:
    """Return the positions of a subject's newest events."""
    return await reader.subjects(TIMELINE, subject, limit=LATEST, newest_first=True)


def read_done(query: Query) -> dict[str, Any]:
    """Read what was just done out of an address, for the page to say it."""
    done, position = query.text("done"), query.position("position")
    return {"done": DONE.get(done, ""), "done_at": position or 0}


def object_rows(situation: Situation, differences: Sequence[Difference]) -> list[ObjectRow]:
    """Return every object that should be there, or is; those that differ or fare badly first."""
    differing: dict[str, int] = defaultdict(int)
    for item in differences:
        if item.kind not in SHOWN_ONLY:
            differing[item.ref.identity] += 1
    # A hook is there as what it ran as, under a name of its sync.
    hooks = [hook.ref for hook in situation.corrections.hooks]
    wanted = {ref.identity: ref for ref in hooks if ref.identity in situation.observed}
    for desired in situation.inventory:
        if desired.hooks:
            continue
        kind = situation.kind(desired.ref)
        ref = situation.placed(desired.ref, kind) if kind else desired.ref
        wanted[ref.identity] = ref
    found = []
    for identity in wanted.keys() | situation.observed.keys():
        document = situation.observed.get(identity)
        if document is None:
            row = ObjectRow(wanted[identity], True, "not-seen", "", "", 0, 0, differing[identity])
        else:
            row = ObjectRow(
                wanted.get(identity, document.ref),
                identity in wanted,
                document.presence,
                document.health if document.presence is Presence.PRESENT else "",
                document.message,
                document.applied.position if document.applied else 0,
                document.seen,
                differing[identity],
            )
        found.append(row)
    return sorted(found, key=lambda row: (not row.differences, row.health == "healthy", row.ref))
