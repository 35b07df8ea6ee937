"""Steering a target: what would be done, an approval of it, and going back to an earlier commit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from engine.decide import permission, stages
from engine.decide.compare import NOT_LISTED
from engine.decide.decision import findings
from engine.http.api import Api, api_of
from engine.http.moment import reading
from engine.http.problem import Refusal, bad_request, conflict, not_found
from engine.http.targets import no_target, target_id
from engine.http.wire import Query, body_of, only, plain, reply, whole
from engine.http.writes import Write, append, earlier, reason_of, settled
from engine.ports import NotRehearsed
from engine.situations import read_situation
from events.catalog import (
    DesiredRendered,
    Fact,
    OverrideApproved,
    PlanApproved,
    RevisionResolved,
    RollbackLifted,
    RolledBack,
)
from events.event import Position
from events.vocabulary import Action
from projections.asof import as_of
from projections.commits import COMMITS, commit_key
from projections.declared import DECLARED
from projections.desired import DESIRED, DesiredDocument
from projections.fold import TargetId
from projections.projection import Found, Reader
from projections.targets import TARGETS, TargetDocument
from projections.timeline import TIMELINE, commit_subject

routes = web.RouteTableDef()
_TARGET = "/v1/targets/{project}/{target}"
_REVISION = re.compile(r"[0-9a-f]{7,40}")
_PLAN = re.compile(r"sha256:[0-9a-f]{64}")


@routes.get(f"{_TARGET}/plan")
async def plan_target(request: web.Request) -> web.Response:
    """Show what would be done to a target now, and what keeps it from being done."""
    api, query = api_of(request), Query(request)
    target, at, dry_run = target_id(request), query.text("at"), query.text("dryRun")
    query.done()
    if dry_run not in ("", "server"):
        raise bad_request("dryRun must be server")
    if dry_run and at:
        raise Refusal(422, "dry-run-of-the-past", "a dry run is of now: it goes with no at")
    async with reading(api, at) as moment:
        situation = await read_situation(moment.reader, api.log, target, moment.now)
        if situation is None:
            raise await no_target(moment.reader, target)
    found = findings(situation)
    if found is None:
        raise conflict("nothing-to-plan", f"{target.label} has no desired state to compare with")
    if any(item.code == NOT_LISTED for item in found.held):
        raise conflict("not-observed", f"the cluster of {target.label} is not listed yet")
    actions = permission.proposed(found)
    left, permitted, approval = permission.permitted(situation, found)
    step = stages.step(situation, left, permitted)
    hold = permission.hold(situation, left, approval, hooks=step.hooks) or step.hold
    rehearsed = None
    if dry_run:
        rehearsed = await _rehearsed(api, target, situation.desired.commit, actions)
    return reply(
        {
            "target": target.label,
            "project": target.project,
            "plan": permission.plan_digest(situation, found, actions) if actions else None,
            "revision": situation.desired.commit,
            "actions": plain(actions),
            "hold": {"code": hold.code, "message": hold.message, "object": None} if hold else None,
            "held": [
                {"code": item.code, "message": item.message, "object": plain(item.ref)}
                for item in left.held
            ],
            "approved": approval is not None,
            "dryRun": rehearsed,
            "position": situation.seen,
        }
    )


async def _rehearsed(
    api: Api, target: TargetId, commit: str, actions: Sequence[Action]
) -> list[dict[str, Any]]:
    """Return what the cluster says that each action would come to, by dry runs."""
    try:
        answers = await api.rehearse(target, commit, actions)
    except NotRehearsed as error:
        raise Refusal(503, "no-dry-run", str(error)) from None
    return [
        {
            "outcome": answer.outcome.value,
            "message": answer.message,
            "managers": list(answer.managers),
            "mutated": plain(answer.mutated),
        }
        for answer in answers
    ]


@routes.post(f"{_TARGET}/approve")
async def approve(request: web.Request) -> web.Response:
    """Approve a plan that still fits the facts, or that a sync window was overridden."""
    api, target = api_of(request), target_id(request)
    body = await _body(request, "plan", "override")
    reason = reason_of(body, required=True)
    if before := await earlier(request):
        return _acted(target, before[-1].position)
    plan, override = body.get("plan"), body.get("override")
    if (plan is None) == (override is None):
        detail = "name a plan, or the position of an override: one of them"
        raise Refusal(422, "plan-or-override", detail)
    async with api.views.snapshot() as reader:
        found = await _target(reader, target)
        fact: Fact
        if override is not None:
            fact = _override(found.document, override, reason)
        else:
            if not isinstance(plan, str) or not _PLAN.fullmatch(plan):
                raise bad_request("plan must be a plan's digest: sha256: and 64 digits")
            situation = await read_situation(reader, api.log, target, api.clock.now())
            compared = findings(situation) if situation else None
            if situation is None or compared is None:
                raise conflict("nothing-to-plan", f"{target.label} has nothing to do")
            now = permission.plan_digest(situation, compared, permission.proposed(compared))
            if now != plan:
                raise conflict(
                    "plan-expired",
                    f"the plan no longer fits the facts of {target.label}: look at it again with "
                    f"`trueup plan {target.label}`",
                )
            fact = PlanApproved(plan, reason)
    return await _say(request, target, fact)


@routes.post(f"{_TARGET}/rollback")
async def rollback(request: web.Request) -> web.Response:
    """Go back to the desired state of an earlier commit; newer ones are masked until lifted."""
    api, target = api_of(request), target_id(request)
    body = await _body(request, "revision")
    reason = reason_of(body, required=True)
    revision = body.get("revision")
    if not isinstance(revision, str) or not _REVISION.fullmatch(revision):
        raise bad_request("revision must be a commit: its first 7 hexadecimal digits, or more")
    if before := await earlier(request):
        return reply(_done(target, before[-1].position) | {"revision": revision})
    async with api.views.snapshot() as reader:
        await _target(reader, target)
        commit = await commit_named(reader, target.project, revision)
    desired = await desired_at(api, target, commit)
    fact = RolledBack(commit, desired.position, desired.objects, desired.count, reason)
    appended = await append(request, [Write(target.stream, fact)])
    await settled(request, appended.last)
    return reply(_done(target, appended.last) | {"revision": commit})


@routes.post(f"{_TARGET}/lift-rollback")
async def lift_rollback(request: web.Request) -> web.Response:
    """Follow commits again."""
    api, target = api_of(request), target_id(request)
    reason = reason_of(await _body(request), required=True)
    if before := await earlier(request):
        return _acted(target, before[-1].position)
    async with api.views.snapshot() as reader:
        found = await _target(reader, target)
    pin = found.document.pin
    if pin is None:
        raise conflict("not-rolled-back", f"{target.label} is not rolled back")
    lifted = RollbackLifted(reason, after_failure=pin.by_policy)
    return await _say(request, target, lifted)


async def _body(request: web.Request, *more: str) -> dict[str, Any]:
    Query(request).done()
    body = await body_of(request)
    only(body, "reason", *more)
    return body


async def _say(request: web.Request, target: TargetId, fact: Fact) -> web.Response:
    appended = await append(request, [Write(target.stream, fact)])
    await settled(request, appended.last)
    return _acted(target, appended.last)


def _acted(target: TargetId, position: int) -> web.Response:
    return reply(_done(target, position))


def _done(target: TargetId, position: int) -> dict[str, Any]:
    return {"position": position, "subject": target.label, "changed": True}


async def _target(reader: Reader, target: TargetId) -> Found[TargetDocument]:
    found = await reader.get(TARGETS, target.stream)
    if found is None or not found.document.assigned:
        raise await no_target(reader, target)
    return found


def _override(document: TargetDocument, position: object, reason: str) -> OverrideApproved:
    waiting = [each.position for each in document.overrides]
    number = whole(position)
    if number is None or number not in waiting:
        known = f"; waiting: {', '.join(map(str, waiting))}" if waiting else ""
        raise conflict("no-such-override", f"no override at {position} waits for approval{known}")
    return OverrideApproved(number, reason)


async def commit_named(reader: Reader, project: str, revision: str) -> str:
    """Return the one known commit that begins so."""
    found = await reader.page(COMMITS, prefix=commit_key(project, revision), limit=2)
    if not found:
        raise not_found(f"no commit that begins with {revision} was seen in project {project}")
    if len(found) > 1:
        raise bad_request(f"several commits begin with {revision}: write more of it")
    return found[0].document.commit


async def desired_at(api: Api, target: TargetId, commit: str) -> DesiredDocument:
    """Return what the target's application was to be when its repository stood at a commit.

    The commit itself need not have touched the application: then an earlier render held.
    """
    async with api.views.snapshot() as reader:
        declared = await reader.get(DECLARED, target.app_stream)
        repository = declared.document.spec["source"]["repository"] if declared else ""
        source = f"repo/{target.project}/{repository}"
        positions = await reader.subjects(
            TIMELINE, commit_subject(commit), limit=500, newest_first=True
        )
    wanted = {RevisionResolved.__name__: source, DesiredRendered.__name__: target.app_stream}
    resolved = [
        event.position
        for event in await api.log.read_at(positions)
        if wanted.get(event.type) == event.stream
    ]
    if resolved:
        async with as_of(api.views, api.log, Position(max(resolved))) as past:
            found = await past.get(DESIRED, target.app_stream)
        if found is not None and found.document.position and found.document.failure is None:
            return found.document
    raise conflict(
        "no-such-revision",
        f"commit {commit[:12]} was never the good desired state of {target.application}: "
        f"see `trueup timeline application/{target.application}`",
    )
