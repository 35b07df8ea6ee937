"""What was declared, of each kind; each with how it stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web
from msgspec import Struct

from engine.decide.fleet import sync_of
from engine.decide.state import SyncState
from engine.http.api import api_of
from engine.http.moment import Moment, reading
from engine.http.pages.filters import Filters, app_states, read_filters
from engine.http.pages.fleet import fleet_of, standing_of
from engine.http.pages.render import page
from engine.http.pages.story import rows
from engine.http.pages.target import LATEST, latest, read_done
from engine.http.resources import declared_document
from engine.http.standing import worst
from engine.http.wire import Query
from engine.resources.model import STREAM_KINDS
from engine.resources.record import PLURALS, written
from events.event import stream
from projections.clusters import CLUSTERS, ClusterDocument
from projections.commits import COMMITS, CommitDocument, commit_key
from projections.declared import DECLARED, DeclaredDocument
from projections.desired import DESIRED, DesiredDocument
from projections.fleet import FLEET
from projections.notifications import NOTIFICATIONS, NotificationDocument
from projections.projection import Projection, Reader
from projections.sources import SOURCES, SourceDocument
from projections.views import read_all

routes = web.RouteTableDef()
PAGE = 50
COMMITS_SHOWN = 25
_VIEWS: dict[str, tuple[Projection[Any], Struct]] = {
    "Repository": (SOURCES, SourceDocument()),
    "Cluster": (CLUSTERS, ClusterDocument()),
    "Application": (DESIRED, DesiredDocument()),
    "Notification": (NOTIFICATIONS, NotificationDocument(through=0, round=0)),
}
_COLLECTIONS = "applications|clusters|repositories|notifications"


class Summary(Struct, frozen=True):
    """How the targets of something stand, in short."""

    state: SyncState | None
    synced: int
    total: int


class Item(Struct, frozen=True):
    """A declared resource of a list, with how it stands."""

    declared: DeclaredDocument
    state: Any
    summary: Summary | None
    tip: CommitDocument | None = None


@routes.get(f"/{{collection:{_COLLECTIONS}}}")
async def list_resources(request: web.Request) -> web.Response:
    """List declared resources of a kind by name, a page at a time."""
    api, query = api_of(request), Query(request)
    collection = request.match_info["collection"]
    kind = PLURALS[collection]
    project, name = query.text("project", "default"), query.text("name").strip()
    after, at = query.text("after"), query.text("at").strip()
    query.done()
    async with reading(api, at) as moment:
        reader = moment.reader
        found = await reader.page(
            DECLARED,
            prefix=f"{STREAM_KINDS[kind]}/{project}/{name}",
            where={"kind": kind},
            after=after,
            limit=PAGE + 1,
        )
        shown = [item.document for item in found[:PAGE]]
        keys = [item.key for item in found[:PAGE]]
        view, otherwise = _VIEWS[kind]
        states = await reader.get_many(view, keys)
        summaries = await _summaries(moment, kind, keys, at)
        tips = await _tips(reader, project, states) if kind == "Repository" else {}
        items = [
            Item(
                document,
                states[key].document if key in states else otherwise,
                summaries.get(key),
                tips.get(key),
            )
            for key, document in zip(keys, shown, strict=True)
        ]
        standing = await standing_of(api, moment)
    return page(
        request,
        f"{collection}.html",
        collection=collection,
        items=items,
        project=project,
        name=name,
        at=at,
        after=after,
        following=found[PAGE - 1].key if len(found) > PAGE else "",
        **standing,
    )


async def _summaries(
    moment: Moment, kind: str, keys: Sequence[str], at: str
) -> Mapping[str, Summary]:
    """Summarise the targets of each application or cluster; nothing as of the past."""
    if at or kind not in ("Application", "Cluster") or not keys:
        return {}
    reader, index = moment.reader, "application" if kind == "Application" else "cluster"
    tallies = {
        key: await reader.tally(FLEET, ("application", "state"), where={index: key}) for key in keys
    }
    apps = await app_states(reader, {app for tally in tallies.values() for app, _ in tally})
    summaries = {}
    for key, tally in tallies.items():
        states: Counter[SyncState] = Counter()
        for (app, value), count in tally.items():
            states[sync_of(value.partition("/")[0], apps[app])] += count
        states.pop(SyncState.UNASSIGNED, None)
        total = sum(states.values())
        summaries[key] = Summary(worst(states), states[SyncState.SYNCED], total)
    return summaries


async def _tips(
    reader: Reader, project: str, states: Mapping[str, Any]
) -> Mapping[str, CommitDocument]:
    commits = {key: commit_key(project, found.document.commit) for key, found in states.items()}
    found = await reader.get_many(COMMITS, commits.values())
    return {key: found[commit].document for key, commit in commits.items() if commit in found}


@routes.get("/applications/{project}/{name}")
async def show_application(request: web.Request) -> web.Response:
    """Show an application: what it should be, where it goes, how that stands."""
    api, query = api_of(request), Query(request)
    project, name = request.match_info["project"], request.match_info["name"]
    filters, told = read_filters(query, project=project, application=name), read_done(query)
    query.done()
    key = stream("app", project, name)
    async with reading(api, filters.at) as moment:
        reader = moment.reader
        declared = (await declared_document(reader, "Application", project, key)).document
        desired = await reader.get(DESIRED, key)
        repository = declared.spec["source"]["repository"]
        source = await reader.get(SOURCES, stream("repo", project, repository))
        common = await _common(request, moment, filters, declared, key)
    return page(
        request,
        "application.html",
        desired=desired.document if desired else DesiredDocument(),
        source=source.document if source else SourceDocument(),
        repository=repository,
        **told,
        **common,
    )


@routes.get("/clusters/{project}/{name}")
async def show_cluster(request: web.Request) -> web.Response:
    """Show a cluster: whether it answers, which kinds can be read, what goes there."""
    api, query = api_of(request), Query(request)
    project, name = request.match_info["project"], request.match_info["name"]
    filters = read_filters(query, project=project, cluster=name)
    query.done()
    key = stream("cluster", project, name)
    async with reading(api, filters.at) as moment:
        declared = (await declared_document(moment.reader, "Cluster", project, key)).document
        state = await moment.reader.get(CLUSTERS, key)
        common = await _common(request, moment, filters, declared, key)
    cluster = state.document if state else ClusterDocument()
    return page(request, "cluster.html", cluster=cluster, **common)


@routes.get("/repositories/{project}/{name}")
async def show_repository(request: web.Request) -> web.Response:
    """Show a repository: what its ref names, its newest commits, who uses it."""
    api, query = api_of(request), Query(request)
    project, name = request.match_info["project"], request.match_info["name"]
    at = query.text("at").strip()
    query.done()
    key = stream("repo", project, name)
    async with reading(api, at) as moment:
        reader = moment.reader
        declared = (await declared_document(reader, "Repository", project, key)).document
        state = await reader.get(SOURCES, key)
        source = state.document if state else SourceDocument()
        users = await read_all(reader, DECLARED, where={"repository": key})
        commits = await _line(reader, project, source.commit)
        story = await _story(request, moment, declared, key, at)
    return page(
        request,
        "repository.html",
        source=source,
        users=[found.document for found in users],
        commits=commits,
        **story,
    )


@routes.get("/notifications/{project}/{name}")
async def show_notification(request: web.Request) -> web.Response:
    """Show a notification: what it was told of, what it is told next, and what hinders it."""
    api, query = api_of(request), Query(request)
    project, name = request.match_info["project"], request.match_info["name"]
    at = query.text("at").strip()
    query.done()
    key = stream("notification", project, name)
    async with reading(api, at) as moment:
        reader = moment.reader
        declared = (await declared_document(reader, "Notification", project, key)).document
        state = await reader.get(NOTIFICATIONS, key)
        story = await _story(request, moment, declared, key, at)
    return page(
        request,
        "notification.html",
        outbox=state.document if state else NotificationDocument(through=0, round=0),
        **story,
    )


async def _line(reader: Reader, project: str, tip: str) -> list[CommitDocument]:
    """Return the newest commits that led to one, along first parents."""
    line: list[CommitDocument] = []
    while tip and len(line) < COMMITS_SHOWN:
        found = await reader.get(COMMITS, commit_key(project, tip))
        if found is None:
            break
        line.append(found.document)
        tip = found.document.parents[0] if found.document.parents else ""
    return line


async def _common(
    request: web.Request, moment: Moment, filters: Filters, declared: DeclaredDocument, key: str
) -> dict[str, Any]:
    """Return what the pages of an application and of a cluster have in common."""
    shown = await fleet_of(request, moment, filters)
    return {**shown, **await _story(request, moment, declared, key, filters.at)}


async def _story(
    request: web.Request, moment: Moment, declared: DeclaredDocument, key: str, at: str
) -> dict[str, Any]:
    """Return what every page of something declared tells: how it was declared, what happened."""
    api = api_of(request)
    positions = await latest(moment.reader, key)
    standing = await standing_of(api, moment)
    events = await api.log.read_at(positions)
    return {
        "declared": declared,
        "written": _written(declared),
        "subject": key,
        "rows": rows(reversed(events)),
        "more": len(positions) == LATEST,
        "at": at,
        **standing,
    }


def _written(declared: DeclaredDocument) -> str:
    resource = written(
        declared.kind, declared.project, declared.name, declared.spec, declared.labels
    )
    return msgspec.yaml.encode(resource, order=None).decode()
