"""The engine itself: its version, whether it lives and is ready, rebuilding a view."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import msgspec
from aiohttp import web
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from engine.http.api import ACTOR, api_of
from engine.http.keeping import keeping
from engine.http.problem import not_found
from engine.http.stream import CLOSING
from engine.http.wire import Query, reply
from engine.resources.spelling import did_you_mean
from events.log import LogError
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.build import Progress
from projections.errors import ViewError

VIEW_NAMES = tuple(
    sorted([*(view.name for view in DOCUMENT_VIEWS), *(view.name for view in SUBJECT_VIEWS)])
)
routes = web.RouteTableDef()
_MOST_PARKED = 1000
_log = logging.getLogger("trueup.http")


@routes.get("/v1/version")
async def version(request: web.Request) -> web.Response:
    """Say which release this is, which log it keeps, and how far log and views are."""
    api = api_of(request)
    Query(request).done()
    async with api.views.snapshot() as reader:
        seen = reader.position
    return reply(
        {
            "version": api.version,
            "logId": api.log.log_id,
            "position": await api.log.head(),
            "views": seen,
            "actor": request[ACTOR],
        }
    )


@routes.get("/healthz")
async def healthy(_: web.Request) -> web.Response:
    """Say that the process answers."""
    return reply({"status": "ok"})


@routes.get("/readyz")
async def ready(request: web.Request) -> web.Response:
    """Say whether everything runs. What does not is named in the server's log, not here."""
    problems = api_of(request).ready()
    for part, problem in problems.items():
        _log.warning("not ready", extra={"part": part, "problem": problem})
    return reply({"status": "not ready" if problems else "ok"}, status=503 if problems else 200)


@routes.get("/v1/views")
async def list_views(request: web.Request) -> web.Response:
    """List the views: how far each is, how many documents it has, and what of it is parked."""
    Query(request).done()
    kept = await keeping(request)
    parked: dict[str, list[dict[str, Any]]] = {}
    for each in kept.parked[:_MOST_PARKED]:
        shown = {"scope": each.scope, "name": each.name, "position": each.position}
        parked.setdefault(each.view, []).append({**shown, "message": each.message})
    items = [
        {
            "name": view.name,
            "about": view.about,
            "documents": view.documents,
            "position": view.position,
            "lag": kept.lag,
            "parkedCount": view.parked,
            "parked": parked.get(view.name, []),
        }
        for view in kept.views
    ]
    rate = kept.rate.events / kept.rate.seconds if kept.rate.seconds else 0.0
    return reply({"items": items, "rate": rate, "head": kept.head, "position": kept.seen})


@routes.post("/v1/views/{view}/rebuild")
async def rebuild_view(request: web.Request) -> web.StreamResponse:
    """Fold a view anew beside the live one, and put it in its place; progress line by line.

    The last line has `done` with what it came to, or `error`.
    """
    query = Query(request)
    drops = query.flag("dropPrevious")
    query.done()
    view = request.match_info["view"]
    if view not in VIEW_NAMES:
        near = did_you_mean(view, VIEW_NAMES) or f"; there are {', '.join(VIEW_NAMES)}"
        raise not_found(f"no view is called {view[:60]}{near}")
    response = web.StreamResponse(headers={"Content-Type": "application/jsonl"})
    await response.prepare(request)
    send, receive = anyio.create_memory_object_stream[dict[str, Any]](100)
    async with anyio.create_task_group() as group:
        group.start_soon(_stop_with_server, request, group.cancel_scope)
        group.start_soon(_rebuild, request, view, drops, send)
        await _write_lines(response, receive)
        group.cancel_scope.cancel()
    return response


async def _rebuild(
    request: web.Request, view: str, drops: bool, send: MemoryObjectSendStream[dict[str, Any]]
) -> None:
    def report(progress: Progress) -> None:
        try:
            send.send_nowait({"view": view, **msgspec.to_builtins(progress)})
        except anyio.WouldBlock:
            # A slow reader misses some progress; the end it always gets.
            _log.debug("progress of a rebuild was not sent", extra={"view": view})

    async with send:
        try:
            rebuilt = await api_of(request).rebuild(view, report)
            dropped = await api_of(request).drop_previous(view) if drops else 0
        except (ViewError, LogError) as error:
            await send.send({"view": view, "error": str(error), "code": error.code})
            return
        done = {**msgspec.to_builtins(rebuilt), "equal": rebuilt.equal, "dropped": dropped}
        await send.send({"view": view, "done": done})


async def _write_lines(
    response: web.StreamResponse, receive: MemoryObjectReceiveStream[dict[str, Any]]
) -> None:
    async with receive:
        async for line in receive:
            await response.write(msgspec.json.encode(line) + b"\n")


async def _stop_with_server(request: web.Request, scope: anyio.CancelScope) -> None:
    await request.app[CLOSING].wait()
    scope.cancel()
