"""Entity tags: what a caller has seen, and whether it is still so (RFC 9110, section 13).

A declared resource's tag is the position of its declaration. Every other answer to a GET has a
weak one out of its body, so that who asks again is told that nothing has changed.
"""

from __future__ import annotations

import hashlib
import re

from aiohttp import web

from engine.http.problem import Refusal
from events.event import Position

_TAG = re.compile(r'(W/)?("[^"]*")')


def tag_of(position: Position) -> str:
    """Return the entity tag of what was declared at a position."""
    return f'"{position}"'


def check(request: web.Request, tag: str | None) -> None:
    """Refuse a write whose If-Match or If-None-Match does not hold; `tag` is None for nothing."""
    wanted, unwanted = _header(request, "If-Match"), _header(request, "If-None-Match")
    if wanted is not None and not (tag is not None and (wanted == "*" or tag in _strong(wanted))):
        is_now = f"its tag is {tag} now" if tag else "there is nothing of this name"
        raise Refusal(412, "precondition-failed", f"{is_now}: read it, and decide again")
    if unwanted is not None and tag is not None and (unwanted == "*" or tag in _weak(unwanted)):
        raise Refusal(412, "precondition-failed", f"it is there already, with the tag {tag}")


def conditional(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Tag a good answer to a GET, and leave its body away where the caller has it already."""
    if (
        request.method not in ("GET", "HEAD")
        or response.status != 200
        or response.content_type != "application/json"
        or not isinstance(response, web.Response)
        or not isinstance(response.body, bytes)
    ):
        return response
    tag = response.headers.get("ETag")
    if tag is None:
        tag = f'W/"{hashlib.sha256(response.body).hexdigest()[:32]}"'
        response.headers["ETag"] = tag
    # What is kept must be asked for again each time, and by nobody but its reader.
    response.headers["Cache-Control"] = "private, no-cache"
    known = _header(request, "If-None-Match")
    if known is None or not (known == "*" or tag.removeprefix("W/") in _weak(known)):
        return response
    headers = {"ETag": tag, "Cache-Control": response.headers["Cache-Control"]}
    return web.Response(status=304, headers=headers)


def _header(request: web.Request, name: str) -> str | None:
    # What is no tag matches nothing: that holds up a write, and lets a read through.
    values = request.headers.getall(name, ())
    return ", ".join(values).strip() if values else None


def _strong(text: str) -> set[str]:
    return {tag for weak, tag in _TAG.findall(text) if not weak}


def _weak(text: str) -> set[str]:
    return {tag for _, tag in _TAG.findall(text)}
