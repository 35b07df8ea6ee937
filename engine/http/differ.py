"""What differs on a target: from Git, from another commit, from another time."""

from __future__ import annotations

from aiohttp import web

from engine.decide.show import SHOWN_ONLY
from engine.http.against import COMMIT, against_commit, against_time
from engine.http.api import api_of
from engine.http.moment import reading
from engine.http.standing import standings
from engine.http.targets import MAX_DIFFERENCES, compared, no_target, target_id
from engine.http.wire import Query, plain, reply
from engine.situations import read_situation

routes = web.RouteTableDef()


@routes.get("/v1/targets/{project}/{target}/diff")
async def diff_target(request: web.Request) -> web.Response:
    """Compare desired and live, field by field; or what there is with another commit or time.

    `same` tells whether anything differs that a sync would correct (of another commit or time:
    anything at all); `unknown` lists the kinds that could not be compared because the cluster does
    not show them.
    """
    api, query = api_of(request), Query(request)
    target, at = target_id(request), query.text("at")
    against = query.text("against") or "live"
    query.done()
    unknown: list[dict[str, str]] = []
    async with reading(api, at) as moment:
        reader = moment.reader
        situation = await read_situation(reader, api.log, target, moment.now, every_body=True)
        if situation is None:
            raise await no_target(reader, target)
        (standing,) = await standings(reader, [situation.target], moment.now)
        if COMMIT.fullmatch(against):
            found = await against_commit(api, target, situation, moment, against)
    if against == "live":
        found, unknown = await compared(api.log, situation)
    elif not COMMIT.fullmatch(against):
        found = await against_time(api, target, situation, against)
    shown_only = SHOWN_ONLY if against == "live" else frozenset()
    return reply(
        {
            "target": target.label,
            "project": target.project,
            "against": against,
            "status": plain(standing),
            "same": not unknown and all(item.kind in shown_only for item in found),
            "differences": plain(found[:MAX_DIFFERENCES]),
            "omitted": max(0, len(found) - MAX_DIFFERENCES),
            "unknown": unknown,
            "position": situation.seen,
        }
    )
