"""Drift: its cases, open and past; what a person accepts of it; and taking over what is there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from engine.http.api import Api, api_of
from engine.http.moment import reading
from engine.http.problem import bad_request, conflict
from engine.http.targets import no_target, target_id
from engine.http.wire import Query, body_of, full, only, project_of, reply
from engine.http.writes import Write, append, earlier, reason_of, settled
from engine.resources.duration import seconds
from events.catalog import (
    AcceptanceEnded,
    AdoptionRequested,
    CorrectionFailed,
    DriftAccepted,
    Fact,
)
from events.codec import fact_of
from events.event import Position, stream
from projections.cases import CASES, CaseDocument
from projections.corrections import CORRECTIONS
from projections.declared import DECLARED
from projections.drift import DRIFT, DriftDocument
from projections.fold import TargetId
from projections.projection import Reader
from projections.targets import TARGETS

routes = web.RouteTableDef()
_TARGET = "/v1/targets/{project}/{target}"
_LONGEST = 10 * 366 * 86_400
_MANAGERS = 20


@routes.get("/v1/drift")
@routes.get("/v1/drift/{project}")
async def list_cases(request: web.Request) -> web.Response:
    """List drift cases by target and number: all, or those of one target, application, cluster."""
    api, query = api_of(request), Query(request)
    project = project_of(request)
    application, cluster = query.name("application"), query.name("cluster")
    state, after = query.text("state"), query.text("after")
    limit, at = query.limit(500), query.text("at")
    query.done()
    if (application or cluster) and not project:
        raise bad_request("application and cluster need a project in the path")
    if state not in ("", "open", "ended"):
        raise bad_request("state must be open or ended")
    where = {"state": state} if state else {}
    if application:
        where["application"] = stream("app", project, application)
    if cluster:
        where["cluster"] = stream("cluster", project, cluster)
    prefix = f"target/{project}/" if project else "target/"
    async with reading(api, at) as moment:
        found = await moment.reader.page(
            CASES, prefix=prefix, where=where, after=after, limit=limit
        )
        items = [_shown(item.document) for item in found]
        key = found[-1].key if len(found) == limit else None
        return reply({"items": items, "next": key, "position": moment.reader.position})


def _shown(case: CaseDocument) -> dict[str, Any]:
    return {**full(case), "target": f"{case.application}@{case.cluster}"}


@routes.post(f"{_TARGET}/accept")
async def accept(request: web.Request) -> web.Response:
    """Accept the differences of the open case as they are, for a while; or end that."""
    body = await _body(request, "case", "duration", "until", "end")
    return await accept_case(request, target_id(request), body)


async def accept_case(request: web.Request, target: TargetId, body: dict[str, Any]) -> web.Response:
    """Accept a target's open case as the fields of `body` say, or end that (`end`)."""
    api, reason = api_of(request), reason_of(body, required=True)
    if before := await earlier(request):
        return _acted(target, before[-1].position)
    async with api.views.snapshot() as reader:
        await _assigned(reader, target)
        found = await reader.get(DRIFT, target.stream)
    known = found.document if found else DriftDocument()
    fact: Fact
    if body.get("end") is True:
        if not any(each.holds(api.clock.now()) for each in known.accepted):
            raise conflict("nothing-accepted", f"no drift of {target.label} is accepted")
        fact = AcceptanceEnded(reason)
    else:
        fact = _acceptance(api, target, known, body, reason)
    return await _say(request, target, fact)


def _acceptance(
    api: Api, target: TargetId, known: DriftDocument, body: dict[str, Any], reason: str
) -> DriftAccepted:
    case = body.get("case") or ""
    if not isinstance(case, str):
        raise bad_request("case must be a case's id")
    if known.open is None or case not in ("", known.open.case):
        now = f"; open is {known.open.case}" if known.open else ""
        raise conflict("no-such-case", f"{target.label} has no open case {case}".rstrip() + now)
    if known.open.omitted:
        raise conflict(
            "case-too-large",
            f"{known.open.case} has {known.open.omitted} differences beyond those listed: say what "
            "is right in Git, in ignoreDifferences, or suspend the target",
        )
    return DriftAccepted(known.open.case, known.open.differences, reason, _until(api, body))


def _until(api: Api, body: dict[str, Any]) -> int:
    """Return when an acceptance ends, in microseconds since the epoch; 0 where nobody said."""
    now = api.clock.now()
    duration, until = body.get("duration") or "", body.get("until") or ""
    if duration and until:
        raise bad_request("say duration or until, and not both")
    try:
        if duration:
            end = now + int(seconds(duration) * 1_000_000)
        elif until:
            when = datetime.fromisoformat(until)
            end = int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1_000_000)
        else:
            return 0
    except (ValueError, TypeError, OverflowError) as error:
        raise bad_request(f"no time that can be read: {error}") from error
    if not now < end <= now + _LONGEST * 1_000_000:
        raise bad_request("it must end in the future, within 10 years")
    return end


@routes.post(f"{_TARGET}/adopt")
async def adopt(request: web.Request) -> web.Response:
    """Take over what is there and managed by other tools; nothing in the objects changes by it."""
    api, target = api_of(request), target_id(request)
    body = await _body(request, "managers")
    reason = reason_of(body, required=True)
    if before := await earlier(request):
        return _acted(target, before[-1].position)
    managers = body.get("managers") or []
    if (
        not isinstance(managers, list)
        or len(managers) > _MANAGERS
        or not all(isinstance(name, str) and 0 < len(name) <= 128 for name in managers)
    ):
        raise bad_request(f"managers must be at most {_MANAGERS} names of field managers")
    async with api.views.snapshot() as reader:
        await _assigned(reader, target)
        claimed = await _claimed(api, reader, target)
        owners = [name for name in claimed if not await _claims(reader, target, name)]
    still = sorted(set(claimed) - set(owners))
    if still:
        raise conflict(
            "claimed",
            f"{target.project}/{target.application} and {still[0]} both declare the object: "
            f"remove it from one of them",
        )
    return await _say(
        request, target, AdoptionRequested(reason, tuple(sorted(set(managers))), tuple(owners))
    )


async def _claimed(api: Api, reader: Reader, target: TargetId) -> Sequence[str]:
    """Name the applications that own what the last correction of a target could not have."""
    found = await reader.get(CORRECTIONS, target.stream)
    last = found.document.last if found else None
    if last is None or not last.code:
        return ()
    (event,) = await api.log.read_at([Position(last.position)])
    fact = fact_of(event)
    if not isinstance(fact, CorrectionFailed):
        return ()
    managers = {name for result in fact.results for name in result.managers}
    return sorted(name.partition(":")[2] for name in managers if name.startswith("trueup:"))


async def _claims(reader: Reader, target: TargetId, name: str) -> bool:
    """Whether an application (`project/name`) still goes to a target's cluster."""
    project, _, application = name.partition("/")
    declared = await reader.get(DECLARED, stream("app", project, application))
    if declared is None or declared.document.withdrawn:
        return False
    theirs = await reader.get(TARGETS, TargetId(project, application, target.cluster).stream)
    return theirs is not None and theirs.document.assigned


async def _body(request: web.Request, *more: str) -> dict[str, Any]:
    Query(request).done()
    body = await body_of(request)
    only(body, "reason", *more)
    return body


async def _assigned(reader: Reader, target: TargetId) -> None:
    found = await reader.get(TARGETS, target.stream)
    if found is None or not found.document.assigned:
        raise await no_target(reader, target)


async def _say(request: web.Request, target: TargetId, fact: Fact) -> web.Response:
    appended = await append(request, [Write(target.stream, fact)])
    await settled(request, appended.last)
    return _acted(target, appended.last)


def _acted(target: TargetId, position: int) -> web.Response:
    return reply({"position": position, "subject": target.label, "changed": True})
