"""Declared resources: apply, delete, list, show."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial

import anyio
import msgspec
from aiohttp import web

from engine.admission import (
    Objection,
    Roots,
    check_references,
    check_roots,
    governors,
    users_of,
)
from engine.http.api import Api, api_of
from engine.http.applied import Applied, AppliedAll, applied_before
from engine.http.conditions import check, tag_of
from engine.http.problem import Refusal, bad_request, conflict, not_found
from engine.http.wire import Query, check_type, reply
from engine.http.writes import Write, append, earlier, reason_of, settled
from engine.resources.model import STREAM_KINDS, Resource
from engine.resources.parse import Problem, Refused, check_values, field_name, parse
from engine.resources.record import PLURALS, declared, kind_of, stream_of, written
from engine.resources.spelling import did_you_mean
from events.catalog import Withdrawn
from events.event import Position, StreamName, stream
from events.log import WrongVersion
from projections.declared import DECLARED, DeclaredDocument
from projections.projection import Found, Reader

TRIES = 5
_LARGE = 65_536
"""Bytes of a body that is read in a thread."""
_YAML = ("application/yaml", "application/x-yaml", "text/yaml")
routes = web.RouteTableDef()


@routes.post("/v1/resources")
async def apply_resources(request: web.Request) -> web.Response:
    """Declare resources: all that changed, in one append, or none."""
    Query(request).done()
    resources = await _resources_of(request)
    if before := await earlier(request):
        return reply(await applied_before(api_of(request).log, resources, before))
    return reply(await _declare(request, resources))


@routes.get("/v1/resources/{kind}/{project}/{name}")
async def show_declared(request: web.Request) -> web.Response:
    """Return a resource as it was declared; its tag stands for its declaration."""
    Query(request).done()
    kind = _kind(request.match_info["kind"])
    async with api_of(request).views.snapshot() as reader:
        name = _stream_of_path(request, kind)
        found = await declared_document(reader, kind, request.match_info["project"], name)
    document = found.document
    body = written(kind, document.project, document.name, document.spec, document.labels)
    answer = reply(body)
    answer.headers["ETag"] = tag_of(Position(document.position))
    return answer


@routes.put("/v1/resources/{kind}/{project}/{name}")
async def put_resource(request: web.Request) -> web.Response:
    """Declare one resource, under conditions: `If-Match` its tag, `If-None-Match: *`."""
    Query(request).done()
    kind = _kind(request.match_info["kind"])
    name = _stream_of_path(request, kind)
    resources = await _resources_of(request)
    if [stream_of(resource) for resource in resources] != [name]:
        short = f"{kind} {request.match_info['name']}"
        raise Refusal(
            422,
            "wrong-resource",
            f"the body must declare the one resource that the path names: {short[:100]} in project "
            f"{request.match_info['project'][:63]}",
        )
    if before := await earlier(request):
        done = await applied_before(api_of(request).log, resources, before)
    else:
        done = await _declare(request, resources, conditional=True)
    (result,) = done.results
    answer = reply(result, 201 if result.result == "created" else 200)
    answer.headers["ETag"] = tag_of(Position(result.position))
    return answer


async def _declare(
    request: web.Request, resources: Sequence[Resource], *, conditional: bool = False
) -> AppliedAll:
    api = api_of(request)
    objections = await anyio.to_thread.run_sync(lambda: list(check_roots(_roots(api), resources)))
    problems = list(map(_problem, objections))
    for _ in range(TRIES):
        versions = {name: await api.log.version(name) for name in map(stream_of, resources)}
        await api.views.reached(await api.log.head())
        async with api.views.snapshot() as reader:
            problems += map(_problem, await check_references(reader, resources))
            known = await reader.get_many(DECLARED, versions)
            governing = await _governing(reader, known)
        if conditional:
            check(request, _tag(known.get(stream_of(resources[0]))))
        if problems:
            raise refused(problems)
        changed = [resource for resource in resources if _result(resource, known) != "unchanged"]
        for resource in changed:
            _check_own(known.get(stream_of(resource)), governing)
        writes = [
            Write(stream_of(resource), declared(resource), versions[stream_of(resource)])
            for resource in changed
        ]
        try:
            return await _applied(request, resources, changed, known, writes)
        except WrongVersion:
            continue
    raise conflict("busy", "others write to these resources all the time; try again")


def _tag(found: Found[DeclaredDocument] | None) -> str | None:
    if found is None or found.document.withdrawn:
        return None
    return tag_of(Position(found.document.position))


async def _applied(
    request: web.Request,
    resources: Sequence[Resource],
    changed: Sequence[Resource],
    known: Mapping[str, Found[DeclaredDocument]],
    writes: Sequence[Write],
) -> AppliedAll:
    positions = {name: found.document.position for name, found in known.items()}
    if writes:
        appended = await append(request, writes)
        for resource, position in zip(changed, appended.positions, strict=True):
            positions[stream_of(resource)] = position
        await settled(request, appended.last)
    results = [
        Applied(
            kind_of(resource),
            resource.metadata.project,
            resource.metadata.name,
            _result(resource, known),
            positions[stream_of(resource)],
        )
        for resource in resources
    ]
    return AppliedAll(max(result.position for result in results), results)


@routes.delete("/v1/resources/{kind}/{project}/{name}")
async def delete_resource(request: web.Request) -> web.Response:
    """Take a resource back; with `cascade`, ask that its objects be deleted too."""
    api = api_of(request)
    query = Query(request)
    cascade, reason = (
        query.flag("cascade"),
        reason_of({"reason": query.text("reason")}, required=False),
    )
    query.done()
    kind = _kind(request.match_info["kind"])
    if cascade and kind in ("Repository", "Notification"):
        detail = f"a {kind.lower()} has no objects on clusters: cascade means nothing here"
        raise Refusal(422, "no-cascade", detail)
    name = _stream_of_path(request, kind)
    if before := await earlier(request):
        return reply({"position": before[-1].position, "stream": name, "cascade": cascade})
    for _ in range(TRIES):
        version = await api.log.version(name)
        await api.views.reached(await api.log.head())
        async with api.views.snapshot() as reader:
            check(request, _tag(await reader.get(DECLARED, name)))
            found = await declared_document(reader, kind, request.match_info["project"], name)
            _check_own(found, await _governing(reader, {name: found}))
            await _check_unused(reader, kind, name)
        try:
            withdrawn = Write(name, Withdrawn(kind, cascade, reason), version)
            appended = await append(request, [withdrawn])
        except WrongVersion:
            continue
        await settled(request, appended.last)
        return reply({"position": appended.last, "stream": name, "cascade": cascade})
    raise conflict("busy", "others write to this resource all the time; try again")


async def declared_document(
    reader: Reader, kind: str, project: str, name: StreamName
) -> Found[DeclaredDocument]:
    """Return a resource that is declared; a refusal with the nearest name where it is not."""
    found = await reader.get(DECLARED, name)
    if found is not None and not found.document.withdrawn:
        return found
    short = name.split("/", 2)[2]
    others = await names_of(reader, kind, project)
    raise not_found(f"no {kind} {short} in project {project}{did_you_mean(short, others)}")


async def names_of(reader: Reader, kind: str, project: str) -> list[str]:
    """Name the declared resources of a kind in a project, at most 1000."""
    prefix = f"{STREAM_KINDS[kind]}/{project}/"
    found = await reader.page(DECLARED, prefix=prefix, where={"kind": kind}, limit=1000)
    return [item.document.name for item in found]


async def _check_unused(reader: Reader, kind: str, name: StreamName) -> None:
    users = await users_of(reader, kind, name)
    if users:
        shown = ", ".join(users[:5]) + (f" and {len(users) - 5} more" if len(users) > 5 else "")
        raise conflict(
            "in-use",
            f"{kind} {name.split('/', 2)[2]} is named by {shown}: change or delete what names it "
            "first",
            applications=users,
        )


async def _governing(reader: Reader, known: Mapping[str, Found[DeclaredDocument]]) -> set[str]:
    """Return the control repositories that some of these resources belong to."""
    owners = {found.document.owner for found in known.values() if not found.document.withdrawn}
    return await governors(reader, owners - {""})


def _check_own(found: Found[DeclaredDocument] | None, governing: Collection[str]) -> None:
    """Refuse to change by hand what a control repository declares: it would change it back."""
    if found is None or found.document.withdrawn or found.document.owner not in governing:
        return
    document = found.document
    if document.owner == found.key:
        # One that declares itself could otherwise not be let go of while Git is away.
        return
    _, project, repository = document.owner.split("/", 2)
    raise conflict(
        "control-owned",
        f"{document.kind} {document.name} is declared by the control repository "
        f"{project}/{repository}, in {document.file} at {document.commit[:10]}: change it there",
        repository=f"{project}/{repository}",
        file=document.file,
    )


def _roots(api: Api) -> Roots:
    return Roots(api.repository_roots, api.kubeconfig_roots, api.secret_roots)


def _problem(found: Objection) -> Problem:
    name = f"{kind_of(found.resource)}/{found.resource.metadata.name}"
    return Problem(name, 0, field_name(found.path), found.message, found.hint)


async def _resources_of(request: web.Request) -> list[Resource]:
    check_type(request, "application/json", *_YAML)
    data = await request.read()
    most = api_of(request).limits.resources
    read = partial(_parsed, data, request.content_type in _YAML, most)
    try:
        # What is large must not keep others waiting while it is read.
        resources = await anyio.to_thread.run_sync(read) if len(data) > _LARGE else read()
    except Refused as error:
        raise refused(error.problems) from error
    if not resources:
        raise bad_request("there is no resource in the request")
    return resources


def _parsed(data: bytes, is_yaml: bool, most: int) -> list[Resource]:
    if is_yaml:
        return parse(data, "request")
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bad_request(f"the body is not JSON: {error}") from error
    values = value if isinstance(value, list) else [value]
    if len(values) > most:
        raise bad_request(f"more than {most} resources in one request: split it")
    return check_values(values, "request")


def refused(problems: Iterable[Problem]) -> Refusal:
    """Return the refusal of a submission, with every problem in it."""
    found = list(problems)
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return Refusal(422, "refused", f"nothing was applied: {first}{more}", errors=found)


def _result(resource: Resource, known: Mapping[str, Found[DeclaredDocument]]) -> str:
    found = known.get(stream_of(resource))
    if found is None or found.document.withdrawn:
        return "created"
    fact = declared(resource)
    same = found.document.spec == fact.spec and found.document.labels == fact.labels
    return "unchanged" if same else "configured"


def _kind(word: str) -> str:
    folded = {**{kind.lower(): kind for kind in STREAM_KINDS}, **PLURALS}
    kind = folded.get(word.lower())
    if kind is None:
        raise not_found(f"no kind is called {word[:60]}{did_you_mean(word, folded)}")
    return kind


def _stream_of_path(request: web.Request, kind: str) -> StreamName:
    path = request.match_info
    return stream(STREAM_KINDS[kind], path["project"], path["name"])
