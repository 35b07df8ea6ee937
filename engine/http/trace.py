"""A span for each request that may be answered, below the caller's own where it names one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from opentelemetry.trace import SpanKind

from engine.http.api import ACTOR
from engine.http.problem import Refusal
from engine.telemetry import spans

TRACE: web.RequestKey[dict[str, str]] = web.RequestKey("trace", dict)
"""The ids of a request's span, for the line that is logged once it has ended."""
_UNTRACED = frozenset({"/healthz", "/readyz", "/metrics"})
"""What is asked every few seconds, for ever."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@web.middleware
async def tracing(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Trace a request, by its route: a path may hold what nobody else should read.

    It comes after the token was checked: strangers cannot choose what is recorded by claiming to
    be part of a trace.
    """
    if request.path in _UNTRACED:
        return await handler(request)
    route = route_of(request)
    said = {
        "http.request.method": request.method,
        "http.route": route,
        "url.scheme": request.scheme,
        "enduser.pseudo.id": request.get(ACTOR, ""),
    }
    parent = request.headers.get("traceparent", "")[:200]
    with spans.span(
        f"{request.method} {route}".rstrip(), said, kind=SpanKind.SERVER, parent=parent, root=True
    ) as span:
        trace_id, span_id = spans.ids()
        if trace_id:
            request[TRACE] = {"trace_id": trace_id, "span_id": span_id}
        try:
            response = await handler(request)
        except (Refusal, web.HTTPException) as refusal:
            # An answer like any other: what the client did wrong is no failure of the server.
            span.set_attribute("http.response.status_code", refusal.status)
            refused = refusal
        else:
            span.set_attribute("http.response.status_code", response.status)
            if response.status >= 500:
                spans.failed(span, str(response.status))
            return response
    raise refused


def measured(request: web.Request, response: web.StreamResponse | None) -> Mapping[str, str | int]:
    """Return the labels under which a request is measured: no more of them than there are routes.

    The status is 0 where the client went away before there was an answer.
    """
    method = request.method if request.method in _METHODS else "_OTHER"
    return {
        "http.request.method": method,
        "http.route": route_of(request),
        "http.response.status_code": response.status if response is not None else 0,
    }


def route_of(request: web.Request) -> str:
    """Return the pattern that a request's path matched; "" where there is none."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else ""
