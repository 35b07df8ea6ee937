"""Pages out of templates: escaped, harmless, under a strict policy, with hashed static files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from aiohttp import web

from engine.http.api import ACTOR, api_of
from engine.http.pages import paths, words
from engine.http.pages.harmless import harmless

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    # With `no-referrer` browsers send `Origin: null` with our own forms, and Origin is checked.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Vary": "HX-Request",
}
STATIC: Mapping[str, str] = {
    "style.css": "text/css",
    "live.js": "text/javascript",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "vendored/htmx-2.0.11.min.js": "text/javascript",
}
"""Files that are served, with their type. What is not here is not served."""


@cache
def static_file(name: str) -> bytes:
    """Return a static file's bytes; KeyError where it is none."""
    if name not in STATIC:
        raise KeyError(name)
    return files("engine.http.pages").joinpath("static", *name.split("/")).read_bytes()


@cache
def static(name: str) -> str:
    """Return the path of a static file, which changes with its content."""
    digest = hashlib.sha256(static_file(name)).hexdigest()[:16]
    return f"/static/{name}?v={digest}"


def prepare() -> None:
    """Read every file now, since a request must not wait for the disk."""
    environment()
    for name in STATIC:
        static(name)


def _templates() -> dict[str, str]:
    folder = files("engine.http.pages").joinpath("templates")
    return {file.name: file.read_text("utf-8") for file in folder.iterdir() if file.is_file()}


@cache
def environment() -> jinja2.Environment:
    """Return the templates. Every value is made harmless, then escaped."""
    made = jinja2.Environment(
        loader=jinja2.DictLoader(_templates()),
        auto_reload=False,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(
        static=static,
        to=paths.to,
        to_stream=paths.to_stream,
        to_object=paths.to_object,
        to_case=paths.to_case,
        label=paths.label,
    )
    made.filters.update(
        moment=words.moment,
        iso=words.iso,
        short=words.short,
        count=words.count,
        number=words.number,
        value=words.value,
        sum_but_unassigned=words.sum_but_unassigned,
    )
    return made


def text(request: web.Request, template: str, **values: Any) -> str:
    """Return a template as text, for this request's actor and time."""
    now = values.pop("now", None) or api_of(request).clock.now()
    return (
        environment()
        .get_template(template)
        .render(
            actor=request.get(ACTOR, ""),
            now=now,
            ago=lambda micros: words.ago(micros, now),
            path=request.path,
            at_present=str(request.rel_url.without_query_params("at")),
            **values,
        )
    )


def page(request: web.Request, template: str, *, status: int = 200, **values: Any) -> web.Response:
    """Return a page."""
    return web.Response(
        text=text(request, template, **values),
        status=status,
        content_type="text/html",
        charset="utf-8",
        headers=HEADERS,
    )


def see(location: str) -> web.Response:
    """Send the browser to another page of ours, by GET."""
    return web.Response(status=303, headers={"Location": location, **HEADERS})
