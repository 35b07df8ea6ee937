"""Why a target stands as it does, and whether its decisions come out the same when made again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp import web

from engine.decide.decision import findings
from engine.decide.why import why
from engine.http.api import api_of
from engine.http.moment import position_of, reading
from engine.http.targets import no_target, target_id
from engine.http.wire import Query, plain, reply
from engine.replay import DECIDED, Recorded, Replayed, decisions, replay
from engine.situations import read_situation
from events.catalog import Fact
from events.codec import type_of
from events.event import START
from projections.targets import TARGETS

routes = web.RouteTableDef()
_TARGET = "/v1/targets/{project}/{target}"
_TYPES = tuple(fact.__name__ for fact in DECIDED)


@routes.get(f"{_TARGET}/why")
async def why_target(request: web.Request) -> web.Response:
    """Say why a target is or is not synced: every guard, the first that holds it up by name."""
    api, query = api_of(request), Query(request)
    target, at = target_id(request), query.text("at")
    query.done()
    async with reading(api, at) as moment:
        situation = await read_situation(moment.reader, api.log, target, moment.now)
        if situation is None:
            raise await no_target(moment.reader, target)
    told = why(situation, findings(situation))
    stands = told.stands_at
    return reply(
        {
            "target": target.label,
            "project": target.project,
            "status": plain(told.status),
            "standsAt": stands.name if stands else None,
            "guards": plain(told.guards),
            "position": situation.seen,
        }
    )


@routes.get(f"{_TARGET}/replay")
async def replay_target(request: web.Request) -> web.Response:
    """Make a target's recorded decisions again on the facts that they were made on, and compare."""
    api, query = api_of(request), Query(request)
    target = target_id(request)
    after, until = query.position("after") or START, query.text("to")
    limit = query.limit(100)
    query.done()
    last = await position_of(api, until) if until else await api.log.head()
    async with api.views.snapshot() as reader:
        if await reader.get(TARGETS, target.stream) is None:
            raise await no_target(reader, target)
    events = await api.log.read(after, limit, stream=target.stream, types=_TYPES)
    found = [event for event in events if event.position <= last]
    recorded = decisions(found)
    is_cut = len(events) == limit and len(found) == limit
    if is_cut and len(recorded) > 1:
        recorded.pop()  # its other facts may be on the next page
    items = [_item(each) async for each in replay(api.log, api.views, target, recorded)]
    following = recorded[-1].events[-1].position if is_cut else None
    return reply({"items": items, "next": following, "position": last})


def _item(replayed: Replayed) -> dict[str, Any]:
    recorded: Recorded = replayed.recorded
    return {
        "positions": [event.position for event in recorded.events],
        "seen": recorded.seen or None,
        "at": plain({"at": recorded.at})["at"],
        "types": [event.type for event in recorded.events],
        "same": replayed.same,
        "problem": replayed.problem,
        "then": [] if replayed.same else _facts(recorded.facts),
        "now": [] if replayed.same else _facts(replayed.now),
        "differing": msgspec.to_builtins(replayed.differing),
    }


def _facts(facts: Sequence[Fact]) -> list[dict[str, Any]]:
    return [{"type": type_of(fact)[0], "payload": msgspec.to_builtins(fact)} for fact in facts]
