"""Tokens: made, listed, revoked. A token is shown once, when it is made."""

from __future__ import annotations

from aiohttp import web

from engine.http.api import ACTOR, api_of
from engine.http.problem import bad_request, conflict, not_found
from engine.http.tokens import NAME, digest, new_token, token_stream
from engine.http.wire import Query, body_of, only, plain, reply
from engine.http.writes import Write, append, earlier, reason_of, settled
from engine.resources.spelling import did_you_mean
from events.catalog import TokenCreated, TokenRevoked
from events.event import ABSENT, Version
from projections.tokens import TOKENS
from projections.views import read_all

routes = web.RouteTableDef()


@routes.post("/v1/tokens")
async def create_token(request: web.Request) -> web.Response:
    """Make a token for a name. The answer is the only place where it ever stands."""
    Query(request).done()
    body = await body_of(request)
    only(body, "name")
    name = body.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise bad_request("name must be lower-case letters, digits, - and ., at most 63")
    if await earlier(request):
        raise conflict(
            "token-shown",
            f"the token {name} was made by this request already, and is shown only once: revoke it "
            "and make another",
        )
    stream = token_stream(name)
    async with api_of(request).views.snapshot() as reader:
        found = await reader.get(TOKENS, stream)
    if found is not None and not found.document.revoked:
        raise conflict("exists", f"there is a token called {name}: revoke it, or take another name")
    token = new_token()
    expected = Version(found.document.version) if found else ABSENT
    appended = await append(request, [Write(stream, TokenCreated(digest(token)), expected)])
    await settled(request, appended.last)
    return reply({"name": name, "token": token, "position": appended.last}, status=201)


@routes.get("/v1/tokens")
async def list_tokens(request: web.Request) -> web.Response:
    """List tokens by name, revoked ones too; never what they are."""
    query = Query(request)
    after, limit = query.text("after"), query.limit(500)
    query.done()
    async with api_of(request).views.snapshot() as reader:
        found = await reader.page(TOKENS, after=after, limit=limit)
        items = [
            {
                "name": item.document.name,
                "actor": item.document.actor,
                "position": item.document.position,
                "revoked": bool(item.document.revoked),
                "reason": item.document.reason,
                **plain({"at": item.document.at}),
            }
            for item in found
        ]
        following = found[-1].key if len(found) == limit else None
        return reply({"items": items, "next": following, "position": reader.position})


@routes.delete("/v1/tokens/{name}")
async def revoke_token(request: web.Request) -> web.Response:
    """Revoke a token, but neither the last good one nor the caller's own: nobody is locked out."""
    query = Query(request)
    reason = reason_of({"reason": query.text("reason")}, required=False)
    query.done()
    name = request.match_info["name"]
    if before := await earlier(request):
        return reply({"name": name, "position": before[-1].position})
    async with api_of(request).views.snapshot() as reader:
        found = [item.document for item in await read_all(reader, TOKENS)]
    good = {document.name: document for document in found if not document.revoked}
    if name not in good:
        raise not_found(f"there is no good token called {name[:63]}{did_you_mean(name, good)}")
    if len(good) == 1:
        raise conflict("last-token", f"{name} is the last good token: make another one first")
    if request[ACTOR] == f"user:{name}":
        raise conflict(
            "own-token", f"{name} is the token that you show: revoke it with another one"
        )
    write = Write(token_stream(name), TokenRevoked(reason), Version(good[name].version))
    appended = await append(request, [write])
    await settled(request, appended.last)
    return reply({"name": name, "position": appended.last})
