"""One object on one cluster: what it is, what is ours of it, and its whole life."""

from __future__ import annotations

import msgspec
from aiohttp import web

from engine.http.api import api_of
from engine.http.moment import reading
from engine.http.pages.fleet import standing_of
from engine.http.pages.render import page
from engine.http.pages.story import rows
from engine.http.pages.target import LATEST, latest
from engine.http.problem import not_found
from engine.http.targets import compared
from engine.http.wire import Query
from engine.situations import read_situation
from events.event import Digest, stream
from events.vocabulary import Difference
from projections.fold import TargetId, object_key
from projections.observed import OBSERVED, ObservedDocument
from projections.timeline import object_subject

routes = web.RouteTableDef()


@routes.get("/objects/{project}/{cluster}/{namespace}/{kind}/{name}")
async def show_object(request: web.Request) -> web.Response:
    """Show an object; one that is gone still has its life."""
    api, query = api_of(request), Query(request)
    at = query.text("at").strip()
    query.done()
    path = request.match_info
    project, cluster, name = path["project"], path["cluster"], path["name"]
    namespace = "" if path["namespace"] == "-" else path["namespace"]
    kind, _, group = path["kind"].partition(".")
    identity = f"{group}/{kind}|{namespace}|{name}"
    subject = object_subject(project, cluster, identity)
    async with reading(api, at) as moment:
        reader = moment.reader
        positions = await latest(reader, subject)
        found = await reader.get(
            OBSERVED, object_key(stream("cluster", project, cluster), identity)
        )
        if found is None and not positions:
            raise not_found(
                f"no object {namespace or '-'}/{kind}/{name} was ever ours on {cluster}"
            )
        document = found.document if found else None
        target = _target(document) if document else None
        differences: list[Difference] = []
        if target is not None:
            situation = await read_situation(reader, api.log, target, moment.now, every_body=True)
            if situation is not None:
                every, _ = await compared(api.log, situation)
                differences = [item for item in every if item.ref.identity == identity]
        standing = await standing_of(api, moment)
    body = b""
    if document is not None and document.body:
        digest = Digest(document.body)
        body = (await api.log.blobs([digest])).get(digest, b"")
    events = await api.log.read_at(positions)
    return page(
        request,
        "object.html",
        project=project,
        cluster=cluster,
        namespace=namespace,
        kind=kind,
        group=group,
        name=name,
        document=document,
        target=target,
        differences=differences,
        body=_yaml(body),
        subject=subject,
        rows=rows(reversed(events)),
        more=len(positions) == LATEST,
        at=at,
        **standing,
    )


def _target(document: ObservedDocument) -> TargetId | None:
    project, slash, application = document.application.partition("/")
    return TargetId(project, application, document.cluster) if slash else None


def _yaml(body: bytes) -> str:
    if not body:
        return ""
    return msgspec.yaml.encode(msgspec.json.decode(body), order=None).decode()
