"""Repositories, clusters and applications: what was declared, and how it stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web
from msgspec import Struct

from engine.decide.state import SyncState, TargetStatus
from engine.http.api import api_of
from engine.http.moment import reading
from engine.http.resources import declared_document
from engine.http.standing import of_application, standings, worst
from engine.http.wire import Query, full, plain, project_of, reply
from engine.resources.model import STREAM_KINDS
from engine.resources.record import PLURALS, written
from events.event import stream
from events.vocabulary import Health
from projections.clusters import CLUSTERS, ClusterDocument
from projections.declared import DECLARED, DeclaredDocument
from projections.desired import DESIRED, DesiredDocument
from projections.notifications import NOTIFICATIONS, NotificationDocument
from projections.projection import Found, Projection, Reader
from projections.sources import SOURCES, SourceDocument
from projections.targets import TARGETS
from projections.views import read_all

routes = web.RouteTableDef()
_COLLECTIONS = "|".join(PLURALS)
_VIEWS: dict[str, tuple[Projection[Any], Struct]] = {
    "Repository": (SOURCES, SourceDocument()),
    "Cluster": (CLUSTERS, ClusterDocument()),
    "Application": (DESIRED, DesiredDocument()),
    "Notification": (NOTIFICATIONS, NotificationDocument(through=0, round=0)),
}
_HEALTH_ORDER = list(Health)


@routes.get(f"/v1/{{collection:{_COLLECTIONS}}}")
@routes.get(f"/v1/{{collection:{_COLLECTIONS}}}/{{project}}")
async def list_resources(request: web.Request) -> web.Response:
    """List declared resources of a kind by key, each with how it stands."""
    api, query = api_of(request), Query(request)
    kind = PLURALS[request.match_info["collection"]]
    project = project_of(request)
    after, limit, at = query.text("after"), query.limit(500), query.text("at")
    query.done()
    prefix = f"{STREAM_KINDS[kind]}/" + (f"{project}/" if project else "")
    async with reading(api, at) as moment:
        reader = moment.reader
        page = await reader.page(
            DECLARED, prefix=prefix, where={"kind": kind}, after=after, limit=limit
        )
        view, otherwise = _VIEWS[kind]
        states = await reader.get_many(view, [found.key for found in page])
        items = []
        for found in page:
            state = states.get(found.key)
            item = _item(found.document, state.document if state else otherwise)
            if kind == "Application":
                targets = await of_application(reader, found.document, moment.now)
                item |= _summary(targets)
            items.append(item)
        following = page[-1].key if len(page) == limit else None
        return reply({"items": items, "next": following, "position": reader.position})


@routes.get(f"/v1/{{collection:{_COLLECTIONS}}}/{{project}}/{{name}}")
async def show_resource(request: web.Request) -> web.Response:
    """Show one declared resource, how it stands, and what belongs to it."""
    api, query = api_of(request), Query(request)
    at = query.text("at")
    query.done()
    kind = PLURALS[request.match_info["collection"]]
    project, name = request.match_info["project"], request.match_info["name"]
    key = stream(STREAM_KINDS[kind], project, name)
    async with reading(api, at) as moment:
        reader = moment.reader
        found = await declared_document(reader, kind, project, key)
        view, otherwise = _VIEWS[kind]
        state: Found[Any] | None = await reader.get(view, key)
        item = _item(found.document, state.document if state else otherwise)
        if kind == "Application":
            targets = await of_application(reader, found.document, moment.now)
            item |= _summary(targets) | {"targets": plain(targets)}
        elif kind == "Cluster":
            assigned = await _on_cluster(reader, key, moment.now)
            item |= _summary(assigned) | {"targets": plain(assigned)}
        elif kind == "Repository":
            users = await read_all(reader, DECLARED, where={"repository": key})
            item["applications"] = [user.document.name for user in users]
        return reply({**item, "seen": reader.position})


async def _on_cluster(reader: Reader, cluster: str, now: int) -> list[TargetStatus]:
    found = await read_all(reader, TARGETS, where={"cluster": cluster})
    return await standings(reader, [item.document for item in found if item.document.assigned], now)


def _item(declared: DeclaredDocument, state: Struct) -> dict[str, Any]:
    resource = written(
        declared.kind, declared.project, declared.name, declared.spec, declared.labels
    )
    return {
        "kind": declared.kind,
        "project": declared.project,
        "name": declared.name,
        "resource": resource,
        "position": declared.position,
        "actor": declared.actor,
        **plain({"at": declared.at, "suspended": declared.suspended}),
        "state": full(state),
    }


def _summary(targets: Sequence[TargetStatus]) -> dict[str, Any]:
    state = worst(item.sync for item in targets)
    health = max((item.health for item in targets), key=_HEALTH_ORDER.index, default=None)
    return {
        "sync": state,
        "health": health,
        "synced": sum(item.sync is SyncState.SYNCED for item in targets),
        "total": len(targets),
    }
