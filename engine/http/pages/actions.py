"""What a person asks for on a page: a sync, a suspension, its end; with a reason, on the record."""

from __future__ import annotations

import msgspec
from aiohttp import web

from engine.http.api import api_of
from engine.http.pages.paths import to
from engine.http.pages.render import see
from engine.http.problem import bad_request
from engine.http.targets import application_subject, ask, target_id, target_subject
from engine.http.wire import Query
from engine.http.writes import reason_of

routes = web.RouteTableDef()
DONE = {
    "sync": "A sync was requested",
    "suspend": "Suspended: nothing is corrected here until it is resumed",
    "resume": "Resumed",
    "accept-drift": "Accepted: what this case names is left as it is until then",
    "end-drift": "Accepted no more: what differs is corrected again",
    "unchanged": "It was suspended already; nothing was changed",
}
"""What is said after an action, by the word in the address."""


@routes.post("/targets/{project}/{target}/{verb:sync|suspend|resume}")
async def act_on_target(request: web.Request) -> web.Response:
    """Ask something of a target, and show it again."""
    target, verb = target_id(request), request.match_info["verb"]
    reason = await _reason(request)
    async with api_of(request).views.snapshot() as reader:
        subject = await target_subject(reader, target, verb)
    answer = await ask(request, subject, verb, reason)
    return shown_after(answer, verb, "targets", target.project, target.label)


@routes.post("/applications/{project}/{name}/{verb:sync|suspend|resume}")
async def act_on_application(request: web.Request) -> web.Response:
    """Ask something of an application, and show it again."""
    project, name = request.match_info["project"], request.match_info["name"]
    verb, reason = request.match_info["verb"], await _reason(request)
    async with api_of(request).views.snapshot() as reader:
        subject = await application_subject(reader, project, name)
    answer = await ask(request, subject, verb, reason)
    return shown_after(answer, verb, "applications", project, name)


async def _reason(request: web.Request) -> str:
    Query(request).done()
    form = await request.post()
    unknown = sorted(set(form) - {"reason"})
    if unknown:
        raise bad_request(f"unknown field {unknown[0][:60]}; known here: reason")
    return reason_of({"reason": form.get("reason", "")}, required=True)


def shown_after(answer: web.Response, verb: str, *place: str) -> web.Response:
    """Turn the API's answer into the page of what was asked of, which says what was done."""
    body = msgspec.json.decode(answer.body) if isinstance(answer.body, bytes) else {}
    done = verb if body.get("changed", True) else "unchanged"
    return see(to(*place, done=done, position=body.get("position", 0)))
