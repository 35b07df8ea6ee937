"""Targets: list, show, compare; and what a person may ask of one, or of an application's all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from aiohttp import web
from msgspec import Struct
from msgspec.structs import replace

from engine.decide.show import all_differences
from engine.decide.situation import Situation
from engine.decide.state import TargetStatus
from engine.http.api import api_of
from engine.http.moment import reading
from engine.http.problem import bad_request, conflict, not_found
from engine.http.resources import declared_document, names_of
from engine.http.standing import of_application, standings
from engine.http.wire import Query, body_of, full, only, plain, project_of, reply
from engine.http.writes import Write, append, earlier, reason_of, settled
from engine.resources.duration import seconds
from engine.resources.spelling import did_you_mean
from engine.situations import read_kept_bodies, read_situation
from events.catalog import Fact, Resumed, Suspended, SyncRequested
from events.event import Event, StreamName, stream
from events.log import EventLog
from events.vocabulary import Difference
from projections.declared import DECLARED, Suspension
from projections.fold import TargetId
from projections.projection import Reader
from projections.targets import TARGETS, TargetDocument
from projections.views import read_all

routes = web.RouteTableDef()
_MORE = {"sync": ("revision", "prune", "override"), "suspend": ("duration",)}
"""What an operator's word may say besides its reason."""
_LONGEST_SUSPENSION = 10 * 366 * 86_400.0
MAX_DIFFERENCES = 5000


class Subject(Struct, frozen=True):
    """What an operator acts on: a target, or an application with its targets."""

    label: str
    stream: StreamName
    targets: tuple[TargetId, ...]
    suspension: Suspension | None
    above: Suspension | None = None
    """What suspends a target through its application."""


@routes.get("/v1/targets")
@routes.get("/v1/targets/{project}")
async def list_targets(request: web.Request) -> web.Response:
    """List targets by key, with how each stands; of one application or cluster, where asked."""
    api, query = api_of(request), Query(request)
    project = project_of(request)
    application, cluster = query.name("application"), query.name("cluster")
    cursor: str | None = query.text("after")
    limit, everything, at = query.limit(500), query.flag("all"), query.text("at")
    query.done()
    if (application or cluster) and not project:
        raise bad_request("application and cluster need a project in the path")
    where = {}
    if application:
        where["application"] = stream("app", project, application)
    if cluster:
        where["cluster"] = stream("cluster", project, cluster)
    async with reading(api, at) as moment:
        reader = moment.reader
        documents: list[TargetDocument] = []
        while cursor is not None and len(documents) < limit:
            wanted = limit - len(documents)
            prefix = f"target/{project}/" if project else "target/"
            page = await reader.page(
                TARGETS, prefix=prefix, where=where, after=cursor, limit=wanted
            )
            shown = [found.document for found in page]
            documents += [item for item in shown if item.assigned or everything]
            cursor = page[-1].key if len(page) == wanted else None
        items = await standings(reader, documents, moment.now)
        return reply({"items": plain(items), "next": cursor, "position": reader.position})


@routes.get("/v1/targets/{project}/{target}")
async def show_target(request: web.Request) -> web.Response:
    """Show all that is known of one target."""
    api, query = api_of(request), Query(request)
    target, at = target_id(request), query.text("at")
    query.done()
    async with reading(api, at) as moment:
        reader = moment.reader
        situation = await read_situation(reader, api.log, target, moment.now)
        if situation is None:
            raise await no_target(reader, target)
        (standing,) = await standings(reader, [situation.target], moment.now)
        objects = [
            {
                "object": plain(document.ref),
                "presence": document.presence,
                "health": document.health,
                "message": document.message,
                "applied": document.applied is not None,
            }
            for document in sorted(situation.observed.values(), key=lambda item: item.ref)
        ]
        body = {
            "status": plain(standing),
            "target": full(situation.target),
            "desired": full(situation.desired),
            "drift": full(situation.drift),
            "corrections": full(situation.corrections),
            "objects": objects,
            "position": reader.position,
        }
        return reply(body)


async def compared(
    log: EventLog, situation: Situation
) -> tuple[list[Difference], list[dict[str, str]]]:
    """Return every difference of a target, and the kinds that cannot be compared.

    The situation must have been read with every body.
    """
    bodies = await read_kept_bodies(log, _desired_digests(situation))
    complete = replace(situation, bodies={**situation.bodies, **bodies})
    return list(all_differences(complete)), _unknown_kinds(situation)


@routes.post("/v1/targets/{project}/{target}/{verb:sync|suspend|resume}")
async def act_on_target(request: web.Request) -> web.Response:
    """Ask something of a target."""
    target = target_id(request)
    if before := await earlier(request):
        return await _again(request, target.label, before)
    async with api_of(request).views.snapshot() as reader:
        subject = await target_subject(reader, target, request.match_info["verb"])
    return await _act(request, subject)


@routes.post("/v1/applications/{project}/{name}/{verb:sync|suspend|resume}")
async def act_on_application(request: web.Request) -> web.Response:
    """Ask something of an application: a sync of each of its targets, or a pause of all."""
    project, name = request.match_info["project"], request.match_info["name"]
    if before := await earlier(request):
        return await _again(request, name, before)
    async with api_of(request).views.snapshot() as reader:
        subject = await application_subject(reader, project, name)
    return await _act(request, subject)


async def target_subject(reader: Reader, target: TargetId, verb: str) -> Subject:
    """Return a target as what somebody acts on; refuses one of which this cannot be asked."""
    found = await reader.get(TARGETS, target.stream)
    # A suspension also keeps what was withdrawn from being deleted, and can be lifted then.
    is_lift = verb == "resume" and found and found.document.suspended
    if found is None or not (found.document.assigned or is_lift):
        raise await no_target(reader, target)
    application = await reader.get(DECLARED, target.app_stream)
    return Subject(
        target.label,
        target.stream,
        (target,),
        found.document.suspended,
        application.document.suspended if application else None,
    )


async def application_subject(reader: Reader, project: str, name: str) -> Subject:
    """Return an application as what somebody acts on; refuses one that is not declared."""
    app_stream = stream("app", project, name)
    found = await declared_document(reader, "Application", project, app_stream)
    targets = await read_all(reader, TARGETS, where={"application": app_stream})
    assigned = tuple(_id(item.document) for item in targets if item.document.assigned)
    return Subject(name, app_stream, assigned, found.document.suspended)


async def _act(request: web.Request, subject: Subject) -> web.Response:
    Query(request).done()
    verb = request.match_info["verb"]
    body = await body_of(request)
    only(body, "reason", *_MORE.get(verb, ()))
    more = Asked(
        _revision(body), _flag(body, "prune"), _flag(body, "override"), _until(request, body)
    )
    return await ask(request, subject, verb, reason_of(body, required=True), more)


class Asked(Struct, frozen=True):
    """What an operator's word may say besides its reason; `until` in UTC microseconds."""

    revision: str = ""
    prune: bool = False
    override: bool = False
    until: int = 0


async def ask(
    request: web.Request, subject: Subject, verb: str, reason: str, more: Asked | None = None
) -> web.Response:
    """Put on record what the request's actor asks of a subject; the answer is the API's."""
    fact: Fact
    more = more or Asked()
    match verb:
        case "sync":
            fact = SyncRequested(reason, more.revision, more.prune, more.override)
            return await _sync(request, subject, fact)
        case "suspend":
            if subject.suspension is not None:
                return _unchanged(subject, subject.suspension)
            fact = Suspended(reason, more.until)
        case _:
            if subject.suspension is None:
                raise _not_suspended(subject)
            fact = Resumed(reason)
    appended = await append(request, [Write(subject.stream, fact)])
    await settled(request, appended.last)
    return reply({"position": appended.last, "subject": subject.label, "changed": True})


async def _again(request: web.Request, label: str, before: Sequence[Event]) -> web.Response:
    """Give the answer that the request got when it was sent first."""
    answer = {"position": before[-1].position, "subject": label, "changed": True}
    if request.match_info["verb"] != "sync":
        return reply(answer)
    targets = [event.stream.split("/", 2)[2] for event in before]
    application = stream("app", request.match_info["project"], label.partition("@")[0])
    async with api_of(request).views.snapshot() as reader:
        app = await reader.get(DECLARED, application)
        target = await reader.get(TARGETS, before[0].stream) if "@" in label else None
    held = (target and target.document.suspended) or (app and app.document.suspended)
    return reply({**answer, "targets": targets, "suspended": held.reason if held else None}, 202)


async def _sync(request: web.Request, subject: Subject, fact: SyncRequested) -> web.Response:
    if not subject.targets:
        raise conflict("no-targets", f"{subject.label} goes to no cluster yet: see its targets")
    appended = await append(request, [Write(target.stream, fact) for target in subject.targets])
    await settled(request, appended.last)
    held = subject.suspension or subject.above
    return reply(
        {
            "position": appended.last,
            "subject": subject.label,
            "targets": [target.label for target in subject.targets],
            "changed": True,
            "suspended": held.reason if held else None,
        },
        status=202,
    )


def target_id(request: web.Request) -> TargetId:
    """Read the target out of a path."""
    label = request.match_info["target"]
    application, at, cluster = label.rpartition("@")
    if not at or not application or not cluster:
        raise bad_request(f"{label[:100]!r} is no target: write application@cluster")
    return TargetId(request.match_info["project"], application, cluster)


async def no_target(reader: Reader, target: TargetId) -> Exception:
    """Return the refusal that says which target was perhaps meant."""
    found = await read_all(reader, TARGETS, where={"application": target.app_stream})
    clusters = [item.document.cluster for item in found if item.document.assigned]
    if clusters:
        near = did_you_mean(target.cluster, clusters) or f"; it goes to {', '.join(clusters[:10])}"
        return not_found(f"{target.application} does not go to {target.cluster}{near}")
    names = await names_of(reader, "Application", target.project)
    near = "" if target.application in names else did_you_mean(target.application, names)
    return not_found(f"there is no target {target.label} in project {target.project}{near}")


async def expected_targets(
    reader: Reader, project: str, subject: str, now: int
) -> list[TargetStatus]:
    """Return how what is waited for stands: one target, or all of an application."""
    application, at, cluster = subject.rpartition("@")
    name = application if at else subject
    found = await declared_document(reader, "Application", project, stream("app", project, name))
    standing = await of_application(reader, found.document, now)
    if not at:
        return standing
    wanted = [item for item in standing if item.cluster == cluster]
    if not wanted:
        raise await no_target(reader, TargetId(project, application, cluster))
    return wanted


def _unchanged(subject: Subject, suspension: Suspension) -> web.Response:
    return reply(
        {
            "position": suspension.position,
            "subject": subject.label,
            "changed": False,
            "detail": f"already suspended by {suspension.actor}: {suspension.reason}",
        }
    )


def _not_suspended(subject: Subject) -> Exception:
    if subject.above is not None:
        name = subject.label.partition("@")[0]
        return conflict(
            "suspended-above",
            f"{subject.label} is suspended through its application: resume {name}",
        )
    return conflict("not-suspended", f"{subject.label} is not suspended")


def _revision(body: dict[str, Any]) -> str:
    revision = body.get("revision") or ""
    if not isinstance(revision, str) or not re.fullmatch(r"([0-9a-f]{40})?", revision):
        raise bad_request("revision must be a commit's full id: 40 hexadecimal digits")
    return revision


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise bad_request(f"{name} must be true or false")
    return value


def _until(request: web.Request, body: dict[str, Any]) -> int:
    """Return when a suspension ends by itself, in microseconds since the epoch; 0 for never."""
    text = body.get("duration") or ""
    if not text:
        return 0
    try:
        length = seconds(text)
    except (ValueError, TypeError) as error:
        raise bad_request(f"duration: {error}") from error
    if not 0 < length <= _LONGEST_SUSPENSION:
        raise bad_request("duration must lie between 1ms and 10 years")
    return api_of(request).clock.now() + int(length * 1_000_000)


def _id(document: TargetDocument) -> TargetId:
    return TargetId(document.project, document.application, document.cluster)


def _desired_digests(situation: Situation) -> set[str]:
    digests = set()
    for desired in situation.inventory:
        kind = situation.kind(desired.ref)
        if kind is None or kind.code:
            continue
        observed = situation.observed.get(situation.placed(desired.ref, kind).identity)
        applied = observed.applied if observed else None
        if applied is not None and applied.desired != desired.digest:
            digests |= {applied.desired, desired.digest}
    return digests


def _unknown_kinds(situation: Situation) -> list[dict[str, str]]:
    unknown = {}
    for desired in situation.inventory:
        kind = situation.kind(desired.ref)
        if kind is None or kind.code:
            name = f"{desired.ref.api_version}/{desired.ref.kind}"
            unknown[name] = {
                "kind": name,
                "code": kind.code if kind else "not-observed",
                "message": kind.message if kind else "the cluster has not shown it yet",
            }
    return [unknown[name] for name in sorted(unknown)]
