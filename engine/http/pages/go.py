"""From words to a page: what somebody types into the search field."""

from __future__ import annotations

import re

from aiohttp import web

from engine.http.api import api_of
from engine.http.pages.paths import to, to_object, to_stream
from engine.http.pages.render import page, see
from engine.http.problem import Refusal
from engine.http.subjects import resolve
from engine.http.wire import Query
from events.vocabulary import ObjectRef

routes = web.RouteTableDef()
CASE = re.compile(r"(?:([a-z0-9.-]+)[/:])?([a-z0-9.-]+@[a-z0-9.-]+)#([0-9]{1,9})")
"""How the command line calls a drift case: `app@cluster#number`."""


@routes.get("/go")
async def go(request: web.Request) -> web.Response:
    """Lead to what is meant; or say what can be written, and what is near."""
    api, query = api_of(request), Query(request)
    words, project = query.text("to").strip(), query.text("project", "default")
    query.done()
    if words.removeprefix("#").isascii() and words.removeprefix("#").isdigit():
        return see(to("events", words.removeprefix("#")))
    if case := CASE.fullmatch(words):
        return see(to("drift", case[1] or project, case[2], case[3]))
    problem = ""
    if words:
        try:
            async with api.views.snapshot() as reader:
                subject = await resolve(reader, words, project)
            return see(_page_of(subject, project))
        except Refusal as refusal:
            problem = refusal.detail
    return page(request, "go.html", words=words, problem=problem)


def _page_of(subject: str, project: str) -> str:
    kind, _, rest = subject.partition("/")
    if kind == "commit":
        return to("commits", project, rest)
    if kind == "object":
        of, cluster, identity = rest.split("/", 2)
        shape, namespace, name = identity.split("|", 2)
        group, _, word = shape.rpartition("/")
        version = f"{group}/v1" if group else "v1"
        return to_object(of, cluster, ObjectRef(version, word, namespace, name))
    return to_stream(subject)
