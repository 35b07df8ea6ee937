"""What a person asks of notifications: a test, and a replay from a position."""

from __future__ import annotations

from aiohttp import web

from engine.http.api import api_of
from engine.http.problem import bad_request, conflict
from engine.http.resources import declared_document
from engine.http.wire import Query, body_of, only, reply, whole
from engine.http.writes import Write, append, reason_of, settled
from events.catalog import Fact, NotificationReplayRequested, NotificationTestRequested
from events.event import StreamName, stream

routes = web.RouteTableDef()


@routes.post("/v1/notifications/{project}/{name}/test")
async def test_notification(request: web.Request) -> web.Response:
    """Ask for an alert that is only a test; `state.tested` of the notification says what came."""
    body = await body_of(request)
    only(body, "reason")
    return await _ask(request, NotificationTestRequested(reason_of(body, required=False)))


@routes.post("/v1/notifications/{project}/{name}/replay")
async def replay_notification(request: web.Request) -> web.Response:
    """Ask that the alerts from the position `from` on be delivered, again where they were."""
    body = await body_of(request)
    only(body, "reason", "from")
    reason = reason_of(body, required=False)
    start = whole(body.get("from"))
    await _declared(request)
    head = await api_of(request).log.head()
    if start is None or start < 1:
        raise bad_request(f"from must be a position of the log: 1 to {head}")
    if start > head:
        raise conflict("not-yet", f"the log is at position {head} only")
    return await _ask(request, NotificationReplayRequested(start, reason))


async def _ask(request: web.Request, fact: Fact) -> web.Response:
    Query(request).done()
    name = await _declared(request)
    appended = await append(request, [Write(name, fact)])
    await settled(request, appended.last)
    return reply({"position": appended.last, "stream": name}, status=202)


async def _declared(request: web.Request) -> StreamName:
    project, name = request.match_info["project"], request.match_info["name"]
    key = stream("notification", project, name)
    async with api_of(request).views.snapshot() as reader:
        await declared_document(reader, "Notification", project, key)
    return key
