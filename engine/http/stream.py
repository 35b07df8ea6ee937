"""Events as they come: server-sent events, resumed by position."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing

import anyio
import msgspec
from aiohttp import web

from engine.http.api import api_of
from engine.http.problem import bad_request
from engine.http.wire import event_json
from events.event import Event, Position, StreamName
from events.log import EventLog, LogError

CLOSING = web.AppKey("closing", anyio.Event)
"""Set when the server stops: streams end then, or they would keep it from stopping."""
Batches = AsyncGenerator[Sequence[Event], None]
_log = logging.getLogger("trueup.http")


def wants_stream(request: web.Request) -> bool:
    """Say whether the caller asks for server-sent events."""
    return "text/event-stream" in request.headers.get("Accept", "").lower()


def resume_after(request: web.Request, after: Position | None) -> Position | None:
    """Return the position to go on after: that of Last-Event-ID, where a follower comes back."""
    last = request.headers.get("Last-Event-ID")
    if last is None or not wants_stream(request):
        return after
    last = last.strip()
    if not last.isascii() or not last.isdigit() or len(last) > 18:
        raise bad_request("Last-Event-ID must be a position: a whole number")
    return Position(int(last))


async def past_then_live(
    log: EventLog,
    after: Position,
    *,
    stream: StreamName | None = None,
    types: Collection[str] | None = None,
) -> Batches:
    """Yield what is in the log after a position, then what comes: of one stream, or some types.

    The past is read through the log's own filters; only the present is looked through.
    """
    head = await log.head()
    while events := await log.read(after, 500, stream=stream, types=types):
        after = events[-1].position
        yield events
    after = max(after, head)

    def wanted(event: Event) -> bool:
        return (stream is None or event.stream == stream) and (not types or event.type in types)

    async for batch in live(log, after, wanted):
        yield batch


async def live(log: EventLog, after: Position, wanted: Callable[[Event], bool]) -> Batches:
    """Yield what comes after a position, as far as it is wanted."""
    following = log.follow(after)
    try:
        async for batch in following:
            if events := [event for event in batch if wanted(event)]:
                yield events
    finally:
        if isinstance(following, AsyncGenerator):
            await following.aclose()


async def send_events(request: web.Request, batches: Batches) -> web.StreamResponse:
    """Send batches until the caller goes, or the server stops; keep the connection alive."""
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
    )
    await response.prepare(request)
    await response.write(b"retry: 1000\n\n")
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_beat, request, response, group.cancel_scope)
            group.start_soon(_until_closing, request, group.cancel_scope)
            async with aclosing(batches) as source:
                async for batch in source:
                    await response.write(b"".join(map(_frame, batch)))
            group.cancel_scope.cancel()
    except* ConnectionResetError:
        # The caller has gone: that is how most streams end.
        _log.debug("a caller left a stream of events")
    except* LogError as errors:
        # The caller comes back with Last-Event-ID; what happened here is for our own log.
        _log.warning("a stream of events broke off", extra={"error": str(errors.exceptions[0])})
    return response


async def _beat(
    request: web.Request, response: web.StreamResponse, scope: anyio.CancelScope
) -> None:
    while True:
        await anyio.sleep(api_of(request).limits.heartbeat)
        try:
            await response.write(b": still here\n\n")
        except ConnectionResetError:
            scope.cancel()
            return


async def _until_closing(request: web.Request, scope: anyio.CancelScope) -> None:
    await request.app[CLOSING].wait()
    scope.cancel()


def _frame(event: Event) -> bytes:
    data = msgspec.json.encode(event_json(event))
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.position, event.type.encode(), data)
