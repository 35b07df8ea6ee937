"""People: who is behind a pseudonym, and forgetting them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from aiohttp import web

from engine.http.api import Api, api_of
from engine.http.problem import bad_request, not_found
from engine.http.wire import Query, body_of, only, plain, reply
from engine.http.writes import Write, append, earlier, reason_of, settled
from events.catalog import ActorForgotten
from events.event import START, Actor, Event, Position
from projections.timeline import TIMELINE, actor_subject

routes = web.RouteTableDef()
_ACTOR = re.compile(r"git:[0-9a-f]{12}")


@routes.get("/v1/actors/{actor}")
async def show_actor(request: web.Request) -> web.Response:
    """Tell who is behind a pseudonym, as long as nobody asked to forget it."""
    api = api_of(request)
    Query(request).done()
    actor = _actor(request)
    async with api.views.snapshot() as reader:
        found = (await api.people.known(reader, [actor])).get(actor)
        if found is None:
            raise _nobody(actor)
        seen = reader.position
    person, forgotten = found.person, found.document.forgotten
    return reply(
        {
            "actor": actor,
            "name": person.name if person else "",
            "email": person.email if person else "",
            "forgotten": plain(forgotten) if forgotten else None,
            "position": seen,
        }
    )


@routes.post("/v1/actors/{actor}/forget")
async def forget_actor(request: web.Request) -> web.Response:
    """Forget who is behind a pseudonym, for good. Every event and the proof stay."""
    api = api_of(request)
    Query(request).done()
    actor = _actor(request)
    given = await body_of(request)
    only(given, "reason")
    reason = reason_of(given, required=True)
    await earlier(request)
    position = await _forgotten_at(api, actor)
    is_new = position is None
    if position is None:
        async with api.views.snapshot() as reader:
            if not await reader.subjects(TIMELINE, actor_subject(actor), limit=1):
                raise _nobody(actor)
        # The word first: should we be killed before the deed, the next start does it.
        fact = ActorForgotten(actor, reason)
        position = (await append(request, [Write(actor_subject(actor), fact)])).last
    await api.people.forget([actor])
    await settled(request, position)
    return reply({"position": position, "subject": actor, "changed": is_new})


async def names(api: Api, events: Iterable[Event]) -> Mapping[str, str]:
    """Return what those events' actors are called now, by pseudonym, where more is known of them.

    Of a past moment, too: who was forgotten since is forgotten in it.
    """
    return await names_of(api, {event.actor for event in events})


async def names_of(api: Api, actors: Iterable[str]) -> Mapping[str, str]:
    """Return what these actors are called now, by pseudonym, where more is known of them."""
    pseudonyms = {actor for actor in actors if actor.startswith("git:")}
    if not pseudonyms:
        return {}
    async with api.views.snapshot() as reader:
        return await api.people.names(reader, pseudonyms)


async def _forgotten_at(api: Api, actor: Actor) -> Position | None:
    events = await api.log.read(START, stream=actor_subject(actor), limit=1)
    return events[0].position if events else None


def _actor(request: web.Request) -> Actor:
    text = request.match_info["actor"]
    if _ACTOR.fullmatch(text):
        return Actor(text)
    if text.startswith(("user:", "engine:", "cluster:")):
        raise bad_request(
            f"{text[:80]} is a name that was chosen for a token or by the engine, and stands in "
            "the record as it is: only authors out of Git (git:…) have a name behind a pseudonym"
        )
    raise not_found(f"{text[:80]!r} is no pseudonym: git: and 12 hexadecimal digits")


def _nobody(actor: Actor) -> Exception:
    return not_found(f"no commit of {actor} was seen")
