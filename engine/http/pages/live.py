"""News for pages that are open: server-sent events, resumed by Last-Event-ID = position.

A page that only wants to know that something happened gets positions; a timeline gets its rows,
rendered here as everywhere, so that nothing is put together from data in the browser.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import anyio
from aiohttp import web

from engine.http.api import api_of
from engine.http.history import is_about
from engine.http.pages.gate import session_of
from engine.http.pages.render import environment
from engine.http.pages.story import row
from engine.http.pages.timeline import Asked, read_asked
from engine.http.stream import CLOSING, resume_after
from engine.http.subjects import resolve
from engine.http.wire import Query
from events.event import START, Event, Position
from events.log import LogError

_log = logging.getLogger(__name__)
routes = web.RouteTableDef()
MOST_MISSED = 500
"""Events that a page which comes back is told of one by one; after more it loads afresh."""


@routes.get("/live")
async def news(request: web.Request) -> web.StreamResponse:
    """Say which positions came, of a subject or all; to a timeline (`rows=true`) with its rows."""
    api, query = api_of(request), Query(request)
    given, wants_rows = query.position("after"), query.flag("rows")
    asked = read_asked(query)
    query.done()
    async with api.views.snapshot() as reader:
        subject = await resolve(reader, asked.subject, asked.project) if asked.subject else ""
    after = resume_after(request, given)
    head = await api.log.head()
    start = head if after is None or after > head else after

    def wanted(event: Event) -> bool:
        return (not subject or is_about(event, subject)) and asked.takes(event)

    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
    )
    await response.prepare(request)
    await response.write(b"retry: 2000\nid: %d\nevent: hello\ndata: hello\n\n" % start)
    if head - start > MOST_MISSED:
        await response.write(b"id: %d\nevent: missed\ndata: missed\n\n" % head)
        start = head
    frame = _row_frame(asked, subject) if wants_rows else _news_frame
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_beat, request, response, group.cancel_scope)
            group.start_soon(_until_closing, request, group.cancel_scope)
            await _follow(request, response, start, wanted, frame)
    except* ConnectionResetError:
        # Who was told has gone, which is how most of these end.
        pass
    except* LogError as errors:
        # The page comes back by itself, with Last-Event-ID.
        _log.info("a page is no longer told what happens: %s", errors.exceptions[0])
    return response


async def _follow(
    request: web.Request,
    response: web.StreamResponse,
    start: Position,
    wanted: Callable[[Event], bool],
    frame: Callable[[Sequence[Event]], bytes],
) -> None:
    api = api_of(request)
    following = api.log.follow(max(start, START))
    assert isinstance(following, AsyncGenerator)
    async with aclosing(following) as batches:
        async for batch in batches:
            events = [event for event in batch if wanted(event)]
            if events:
                # What is told of is in the views, so that a page which asks at once finds it.
                with anyio.move_on_after(api.limits.settle):
                    await api.views.reached(events[-1].position)
                await response.write(frame(events))


def _news_frame(events: Sequence[Event]) -> bytes:
    return b"id: %d\nevent: news\ndata: %d\n\n" % (events[-1].position, len(events))


def _row_frame(asked: Asked, subject: str) -> Callable[[Sequence[Event]], bytes]:
    template = environment().get_template("rows.html").module

    def frame(events: Sequence[Event]) -> bytes:
        frames = []
        for event in events:
            made = str(template.row(row(event), subject))  # type: ignore[attr-defined]
            lines = "".join(f"data: {line}\n" for line in made.splitlines() if line.strip())
            frames.append(f"id: {event.position}\nevent: row\n{lines}\n".encode())
        return b"".join(frames)

    return frame


async def _beat(
    request: web.Request, response: web.StreamResponse, scope: anyio.CancelScope
) -> None:
    """Keep the connection alive, for as long as the session is good."""
    while await session_of(request) is not None:
        await anyio.sleep(api_of(request).limits.heartbeat)
        try:
            await response.write(b": still here\n\n")
        except ConnectionResetError:
            break
    scope.cancel()


async def _until_closing(request: web.Request, scope: anyio.CancelScope) -> None:
    await request.app[CLOSING].wait()
    scope.cancel()
