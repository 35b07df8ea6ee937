"""Waiting until a target, or all of an application, is as asked for."""

from __future__ import annotations

import re

from aiohttp import web

from engine.decide.state import TargetStatus, satisfied
from engine.http.api import api_of
from engine.http.problem import bad_request, conflict
from engine.http.targets import expected_targets
from engine.http.wire import Query, plain, reply
from events.event import START, Position

routes = web.RouteTableDef()
PAUSE = 0.05
"""Seconds between two looks, however fast the log grows."""


@routes.get("/v1/wait")
async def wait(request: web.Request) -> web.Response:
    """Answer as soon as every target of the subject is synced or healthy, as asked.

    Looks again each time the views advance. 409 `not-satisfied` when the time is over, with how
    each target stands: then ask again. `after` is the position of the caller's own write: what
    was before it never counts.
    """
    api, query = api_of(request), Query(request)
    subject, project = query.text("subject"), query.text("project", "default")
    wanted = query.word("for", ("synced", "healthy"))
    revision = query.text("revision").lower()
    after = query.position("after") or START
    timeout = query.seconds("timeout", 30.0, api.limits.wait)
    query.done()
    if not subject:
        raise bad_request("subject is missing: a target (app@cluster) or an application")
    if not re.fullmatch(r"([0-9a-f]{4,40})?", revision):
        raise bad_request("revision must be a commit's id, or its first 4 digits or more")
    clock = api.clock
    deadline = clock.monotonic() + timeout
    while True:
        async with api.views.snapshot() as reader:
            standing = await expected_targets(reader, project, subject, clock.now())
            seen = reader.position
        open_ones = [item for item in standing if not satisfied(item, wanted, revision, after)]
        if standing and not open_ones:
            return reply({"position": seen, "targets": plain(standing)})
        left = deadline - clock.monotonic()
        if left <= 0:
            detail = "; ".join(why(item, wanted, revision) for item in open_ones[:5])
            raise conflict(
                "not-satisfied",
                detail or f"{subject} goes to no cluster",
                position=seen,
                targets=plain(standing),
            )
        try:
            await api.views.reached(Position(seen + 1), left)
        except TimeoutError:
            continue
        await clock.sleep(min(PAUSE, max(0.0, deadline - clock.monotonic())))


def why(status: TargetStatus, wanted: str, revision: str) -> str:
    """Say in a few words why a target is not as asked for."""
    reason = f": {status.reason}" if status.reason else ""
    if status.sync != "synced":
        return f"{status.target} is {status.sync}{reason}"
    if not status.revision.startswith(revision):
        return f"{status.target} is synced to {status.revision[:12]}, not to {revision[:12]}"
    if wanted == "healthy" and status.health != "healthy":
        message = f": {status.health_message}" if status.health_message else ""
        return f"{status.target} is {status.health}{message}"
    return f"{status.target} has not been looked at since"
