"""Logging in by a link that the command line prints, and out again; and the static files."""

from __future__ import annotations

import logging

from aiohttp import web

from engine.http.api import ACTOR
from engine.http.pages.gate import SESSIONS, cookie_name
from engine.http.pages.render import HEADERS, STATIC, page, see, static, static_file
from engine.http.pages.sessions import CODE_SECONDS, LONGEST_SECONDS
from engine.http.problem import Refusal, not_found
from engine.http.tokens import digest
from engine.http.wire import Query, body_of, only, reply

routes = web.RouteTableDef()
_log = logging.getLogger("trueup.http")


@routes.post("/v1/login-links")
async def offer_link(request: web.Request) -> web.Response:
    """Offer the caller's browser a session: a path that is good once, for a minute."""
    Query(request).done()
    only(await body_of(request))
    token = request.headers.get("Authorization", "").partition(" ")[2].strip()
    code = request.app[SESSIONS].offer(request[ACTOR], digest(token))
    return reply({"path": f"/login?code={code}", "seconds": CODE_SECONDS}, status=201)


@routes.get("/login")
async def show_login(request: web.Request) -> web.Response:
    """Say how to get a link; or, for a good one, ask whether to log in.

    A link that is merely looked at (by a preview, by a scanner) is not used up.
    """
    query = Query(request)
    code = query.text("code")
    query.done()
    sessions, address = request.app[SESSIONS], request.remote or ""
    offered = sessions.offered(code) if code and not sessions.is_barred(address) else None
    if code and offered is None:
        sessions.wrong(address)
        return page(request, "login.html", status=403, code="", offered="", wrong=True)
    return page(request, "login.html", code=code, offered=offered or "", wrong=False)


@routes.post("/login")
async def log_in(request: web.Request) -> web.Response:
    """Exchange a link's code for a session."""
    Query(request).done()
    sessions, address = request.app[SESSIONS], request.remote or ""
    if sessions.is_barred(address):
        raise Refusal(429, "too-many-attempts", "too many wrong links: wait a minute")
    form = await request.post()
    code = form.get("code")
    made = sessions.redeem(code) if isinstance(code, str) and len(code) < 200 else None
    if made is None:
        sessions.wrong(address)
        return page(request, "login.html", status=403, code="", offered="", wrong=True)
    secret, session = made
    _log.info("logged in", extra={"actor": session.actor, "remote": address})
    if old := request.cookies.get(cookie_name(request)):
        sessions.close(old)
    response = see("/")
    response.set_cookie(
        cookie_name(request),
        secret,
        max_age=int(LONGEST_SECONDS),
        path="/",
        secure=request.secure,
        httponly=True,
        samesite="Strict",
    )
    return response


@routes.post("/logout")
async def log_out(request: web.Request) -> web.Response:
    """End the session."""
    request.app[SESSIONS].close(request.cookies.get(cookie_name(request), ""))
    _log.info("logged out", extra={"actor": request[ACTOR], "remote": request.remote or ""})
    response = see("/login")
    response.del_cookie(
        cookie_name(request), path="/", secure=request.secure, httponly=True, samesite="Strict"
    )
    return response


@routes.get("/static/{name:.+}")
async def show_static(request: web.Request) -> web.Response:
    """Return a static file; one that is asked for by its digest never changes."""
    name = request.match_info["name"]
    try:
        body = static_file(name)
    except KeyError as error:
        raise not_found(f"there is no file {name[:100]}") from error
    is_exact = static(name) == request.path_qs
    keep = "public, max-age=31536000, immutable" if is_exact else "no-cache"
    headers = HEADERS | {"Cache-Control": keep}
    return web.Response(body=body, content_type=STATIC[name], charset="utf-8", headers=headers)
