"""What every request passes: the host it names, who sends it, its size; and how it is answered."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable

import anyio
from aiohttp import web

from engine.http.api import ACTOR, Api, api_of
from engine.http.conditions import conditional
from engine.http.pages.gate import enter, for_window, is_for_window, session_of
from engine.http.pages.paths import is_page
from engine.http.problem import Refusal
from engine.http.safety import HEADERS
from engine.http.tokens import actor_of
from engine.http.trace import TRACE, measured
from engine.settings import is_loopback
from engine.telemetry.instruments import HTTP_SERVER
from events.event import Actor
from events.log import IdReused, LogError, LogUnavailable, WrongVersion
from projections.errors import RebuildRefused, ViewError, ViewsNotReady, ViewsUnavailable

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/v1/openapi.json"})
"""What is answered without a token: probes have none, and they tell nothing but yes or no; the
API's description tells of no installation."""
ANY_ADDRESS = "*address*"
LOG_ID = "Trueup-Log-Id"
_log = logging.getLogger("trueup.http")


def hosts_for(listen_host: str, allowed: Iterable[str]) -> frozenset[str]:
    """Return the host names that requests may name, for a server that listens on `listen_host`.

    A page from elsewhere can make a browser call us under a name of its own (DNS rebinding);
    such a name is none of these. An address as such cannot be rebound, so a server that listens
    on every address takes any.
    """
    hosts = {listen_host.lower(), *(_bare_host(host.lower()) for host in allowed)}
    if is_loopback(listen_host):
        hosts |= {"localhost", "127.0.0.1", "::1"}
    if listen_host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        hosts |= {"localhost", ANY_ADDRESS}
    return frozenset(hosts)


@web.middleware
async def answering(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever is raised into a problem, say what is safe in headers, log the request."""
    clock = api_of(request).clock
    began = clock.monotonic()
    response: web.StreamResponse | None = None
    try:
        response = for_window(request, await _answer(request, handler))
        return response
    finally:
        HTTP_SERVER.record(clock.monotonic() - began, measured(request, response))
        _log.info(
            "request",
            extra={
                "method": request.method,
                "path": request.path[:500],
                "status": response.status if response else 0,
                "actor": request.get(ACTOR, ""),
                "remote": request.remote or "",
                "seconds": round(clock.monotonic() - began, 4),
                **request.get(TRACE, {}),
            },
        )


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return conditional(request, await handler(request))
    except Refusal as refusal:
        return refusal.response(dict(_challenge(refusal)))
    except web.HTTPRequestEntityTooLarge:
        most = api_of(request).limits.body
        detail = f"the body is larger than {most // 1024 // 1024} MiB"
        return Refusal(413, "too-large", detail).response()
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        detail = f"{request.path} takes {allowed}"
        return Refusal(405, "method-not-allowed", detail).response({"Allow": allowed})
    except web.HTTPNotFound:
        return Refusal(404, "no-such-path", f"there is nothing at {request.path[:200]}").response()
    except web.HTTPException as error:
        return Refusal(error.status, "http", error.reason).response()
    except (LogError, ViewError, TimeoutError) as error:
        return _of_store(error).response()
    except Exception as error:
        # The message may quote what was read: it goes to the log of this machine, not out.
        if _is_over(request):
            raise
        _log.exception("a request failed", extra={"path": request.path[:500]})
        detail = f"a fault of ours ({type(error).__name__}); the server's log has more"
        return Refusal(500, "internal", detail).response()


def _is_over(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _challenge(refusal: Refusal) -> Iterable[tuple[str, str]]:
    return [("WWW-Authenticate", 'Bearer realm="trueup"')] if refusal.status == 401 else []


def _of_store(error: Exception) -> Refusal:
    match error:
        case WrongVersion() | IdReused():
            return Refusal(409, error.code, str(error))
        case LogUnavailable():
            return Refusal(503, error.code, str(error))
        case RebuildRefused():
            return Refusal(409, error.code, str(error))
        case ViewsUnavailable() | ViewsNotReady():
            return Refusal(503, error.code, str(error))
        case LogError() | ViewError():
            return Refusal(500, error.code, str(error))
    return Refusal(503, "behind", "the views have not caught up in time; try again")


@web.middleware
async def checking(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a host that is not ours, and whoever has no good token; read a body in time."""
    api = api_of(request)
    check_host(api.hosts, request)
    _check_origin(api, request)
    if is_page(request.path):
        turned_away = await enter(request)
        if turned_away is not None:
            return turned_away
    elif request.path not in OPEN_PATHS:
        await _only_where_there_is_something(request)
        request[ACTOR] = await _authenticate(api, request)
    if request.can_read_body:
        try:
            with anyio.fail_after(api.limits.body_time):
                await request.read()
        except TimeoutError as error:
            raise Refusal(408, "slow-body", "the body did not arrive in time") from error
    return await handler(request)


async def _only_where_there_is_something(request: web.Request) -> None:
    """Tell whoever is logged in that an address is wrong, and not to show a token there."""
    is_missing = request.match_info.http_exception is not None
    if is_missing and not request.path.startswith("/v1/") and is_for_window(request):
        session = await session_of(request)
        if session is not None:
            request[ACTOR] = session.actor
            raise web.HTTPNotFound


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Say to browsers what they must not do with an answer, and to known callers which log it is.

    Positions mean something in one log only: a client that keeps them checks that it is the same.
    """
    if ACTOR in request:
        response.headers[LOG_ID] = api_of(request).log.log_id
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.pop("Server", None)


def check_host(hosts: Collection[str], request: web.Request) -> None:
    """Refuse a request that names a host that is none of these."""
    host = _bare_host(request.headers.get("Host", "").lower())
    if host in hosts or (ANY_ADDRESS in hosts and _is_address(host)):
        return
    raise Refusal(
        421,
        "wrong-host",
        f"this server is not called {host[:200]!r}; names go into the setting allowed_hosts",
    )


def _check_origin(api: Api, request: web.Request) -> None:
    """Refuse what a page from elsewhere sends: it can only be without its reader's knowledge."""
    origin = request.headers.get("Origin")
    if origin is None:
        return
    scheme, _, rest = origin.lower().partition("://")
    host = _bare_host(rest)
    is_ours = host in api.hosts or (ANY_ADDRESS in api.hosts and _is_address(host))
    if scheme not in ("http", "https") or not is_ours:
        raise Refusal(403, "wrong-origin", f"pages of {origin[:200]!r} may not call this server")


def _bare_host(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and ":" not in name else host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _authenticate(api: Api, request: web.Request) -> Actor:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Refusal(401, "no-token", "a bearer token is needed in the Authorization header")
    actor = None
    if len(token) <= 200:
        async with api.views.snapshot() as reader:
            actor = await actor_of(reader, token)
    if actor is None:
        raise Refusal(401, "bad-token", "the token is not known, or was revoked")
    return actor
