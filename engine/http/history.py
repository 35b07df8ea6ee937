"""What happened: the log itself, and the timeline of one subject."""

from __future__ import annotations

from contextlib import aclosing

from aiohttp import web

from engine.http.api import Api, api_of
from engine.http.moment import position_of, reading
from engine.http.people import names
from engine.http.problem import bad_request
from engine.http.stream import (
    Batches,
    live,
    past_then_live,
    resume_after,
    send_events,
    wants_stream,
)
from engine.http.subjects import resolve
from engine.http.wire import Query, event_json, reply
from engine.resources.spelling import did_you_mean
from events.catalog import CATALOG
from events.codec import CodecError, fact_of
from events.event import START, Event, Position, StreamName
from projections.timeline import TIMELINE

routes = web.RouteTableDef()


@routes.get("/v1/events")
async def list_events(request: web.Request) -> web.StreamResponse:
    """List events after a position, of one stream or some types; or follow them."""
    api, query = api_of(request), Query(request)
    given = query.position("after")
    stream = StreamName(query.text("stream")) or None
    types = [name for name in query.text("type").split(",") if name]
    limit, at = query.limit(500), query.text("at")
    query.done()
    for name in types:
        if name not in CATALOG:
            raise bad_request(f"no type of event is called {name}{did_you_mean(name, CATALOG)}")
    after = resume_after(request, given) or START
    if wants_stream(request):
        _refuse_past(at)
        batches = past_then_live(api.log, after, stream=stream, types=types or None)
        return await send_events(request, batches)
    events = await api.log.read(after, limit, stream=stream, types=types or None)
    head = await api.log.head()
    if at:
        head = min(head, await position_of(api, at))
        events = [event for event in events if event.position <= head]
    following = events[-1].position if len(events) == limit else None
    items = [event_json(event) for event in events]
    called = await names(api, events)
    return reply({"items": items, "names": called, "next": following, "position": head})


@routes.get("/v1/timeline")
async def timeline(request: web.Request) -> web.StreamResponse:
    """List what happened to a subject, between two positions; or follow it.

    `order=desc` gives the newest first, `next` then goes on as `before`.
    """
    api, query = api_of(request), Query(request)
    words, project = query.text("subject"), query.text("project", "default")
    given, before = query.position("after"), query.position("before")
    newest_first = query.word("order", ("asc", "desc")) == "desc"
    limit, at = query.limit(200), query.text("at")
    query.done()
    if wants_stream(request):
        _refuse_past(at)
    after = resume_after(request, given)
    async with reading(api, at) as moment:
        reader = moment.reader
        subject = await resolve(reader, words, project)
        if not wants_stream(request):
            positions = await reader.subjects(
                TIMELINE,
                subject,
                after=after,
                before=before,
                limit=limit,
                newest_first=newest_first,
            )
            seen = reader.position
    if wants_stream(request):
        return await send_events(request, _subject_past_then_live(api, subject, after or START))
    events = await api.log.read_at(positions)
    found = {event.position: event for event in events}
    items = [event_json(found[position]) for position in positions if position in found]
    following = positions[-1] if len(positions) == limit else None
    return reply(
        {
            "subject": subject,
            "items": items,
            "names": await names(api, events),
            "next": following,
            "position": seen,
        }
    )


async def _subject_past_then_live(api: Api, subject: str, after: Position) -> Batches:
    while True:
        async with api.views.snapshot() as reader:
            seen = reader.position
            positions = await reader.subjects(TIMELINE, subject, after=after, limit=500)
        if not positions:
            break
        after = positions[-1]
        yield await api.log.read_at(positions)
    async with aclosing(
        live(api.log, max(after, seen), lambda event: is_about(event, subject))
    ) as (coming):
        async for batch in coming:
            yield batch


def _refuse_past(at: str) -> None:
    if at:
        raise bad_request("at is for the past: what is followed is still to come")


def is_about(event: Event, subject: str) -> bool:
    """Say whether an event belongs to a subject's timeline."""
    if event.stream == subject:
        return True
    try:
        return subject in TIMELINE.subjects(event, fact_of(event))
    except CodecError:
        # What cannot be read is still about its own stream, which was asked for above.
        return False
