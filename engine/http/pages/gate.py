"""What a request for a page passes: a session that is good, and for a write our own origin."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from engine.http.api import ACTOR, api_of
from engine.http.pages.render import page, see
from engine.http.pages.sessions import Session, Sessions
from engine.http.problem import CONTENT_TYPE, Refusal
from engine.http.tokens import is_good

SESSIONS = web.AppKey("sessions", Sessions)
_FOR_PROGRAMS = frozenset({"/metrics", "/healthz", "/readyz"})


def cookie_name(request: web.Request) -> str:
    """Return the cookie's name: of one log, since servers on other ports share a host's cookies.

    With TLS its prefix makes the browser insist that it came from this host, over TLS.
    """
    name = f"trueup-{api_of(request).log.log_id[-12:]}"
    return f"__Host-{name}" if request.secure else name


async def enter(request: web.Request) -> web.Response | None:
    """Let a request for a page in, as the actor of its session; or say how to get one.

    Raises `Refusal` for a write that does not come from a page of ours.
    """
    if request.method not in ("GET", "HEAD"):
        check_origin(request)
    if request.path.startswith("/static/"):
        # Files are the same for everybody, and are there when the database is not.
        return None
    session = await session_of(request)
    if session is not None:
        request[ACTOR] = session.actor
    elif request.path != "/login":
        return _turned_away(request)
    return None


async def session_of(request: web.Request) -> Session | None:
    """Return the request's session; None where it has none that is good."""
    secret = request.cookies.get(cookie_name(request), "")
    sessions = request.app[SESSIONS]
    session = sessions.find(secret) if 0 < len(secret) < 200 else None
    if session is None:
        return None
    async with api_of(request).views.snapshot() as reader:
        if await is_good(reader, session.token):
            return session
    sessions.close(secret)
    return None


def check_origin(request: web.Request) -> None:
    """Refuse what another site's page sends in our user's name.

    Browsers name the origin with every POST. The host is compared with its port, for other ports
    of a machine are the same site to a cookie; the scheme is not, for TLS may end before us.
    """
    origin = request.headers.get("Origin", "")
    try:
        place = urlsplit(origin).netloc.lower()
    except ValueError:
        place = ""
    if not place or place != request.headers.get("Host", "").lower():
        raise Refusal(
            403, "wrong-origin", "this form was not sent by a page of this server; nothing was done"
        )


def _turned_away(request: web.Request) -> web.Response:
    if request.headers.get("Sec-Fetch-Site") == "cross-site" and request.method == "GET":
        # A link from elsewhere: a strict cookie stays behind on that first step, not on the next.
        response = page(request, "onward.html", onward=request.path_qs)
    elif "HX-Request" in request.headers or "text/html" not in request.headers.get("Accept", ""):
        raise Refusal(401, "no-session", "log in first: `trueup login` prints a link")
    else:
        response = see("/login")
    return response


def is_for_window(request: web.Request) -> bool:
    """Whether the answer is for a browser's window: never what programs fetch."""
    wants_page = "text/html" in request.headers.get("Accept", "").lower()
    return wants_page and request.path not in _FOR_PROGRAMS


def for_window(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Return a problem as a page where it is for a browser's window; anything else as it is."""
    if (
        not is_for_window(request)
        or response.content_type != CONTENT_TYPE
        or not isinstance(response, web.Response)
    ):
        return response
    problem = msgspec.json.decode(response.body) if isinstance(response.body, bytes) else {}
    shown = page(request, "error.html", status=response.status, problem=problem)
    for name in ("Allow", "Retry-After", "WWW-Authenticate"):
        if name in response.headers:
            shown.headers[name] = response.headers[name]
    return shown
