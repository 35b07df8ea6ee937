"""How a target stands, in the words of those who ask. Pure."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from engine.decide.situation import Situation
from events.vocabulary import Health
from projections.targets import SOFT_HOLDS, WAITS


class SyncState(StrEnum):
    """Whether a target is as it should be."""

    SYNCED = "synced"
    PENDING = "pending"
    """Something is known to be coming: a look, a render, a correction, a retry."""
    OUT_OF_SYNC = "out-of-sync"
    HELD = "held"
    SUSPENDED = "suspended"
    FAILED = "failed"
    UNASSIGNED = "unassigned"


class TargetStatus(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One target. `revision` is the commit that it is in, `desired_revision` the one to be in.

    Times are UTC microseconds, 0 for never. `seen` is the position at which the views were read.
    """

    project: str
    target: str
    application: str
    cluster: str
    sync: SyncState
    reason: str
    code: str
    revision: str
    desired_revision: str
    health: Health
    health_message: str
    differences: int
    """How many differences the open drift case has."""
    objects: int
    """How many objects are desired."""
    position: int
    """The position of the target's last event."""
    seen: int
    synced_at: int = 0
    retry_at: int = 0


def status(situation: Situation) -> TargetStatus:
    """Say how a target stands."""
    target, desired = situation.target, situation.desired
    sync, code, reason = _sync(situation)
    case = situation.drift.open
    last = situation.corrections.last
    return TargetStatus(
        project=target.project,
        target=situation.id.label,
        application=target.application,
        cluster=target.cluster,
        sync=sync,
        reason=reason,
        code=code,
        revision=_revision(situation),
        desired_revision=target.pin.commit if target.pin else situation.source.commit,
        health=target.health,
        health_message=target.health_message,
        differences=len(case.differences) + case.omitted if case else 0,
        objects=desired.count,
        position=target.position,
        seen=situation.seen,
        synced_at=target.synced.at if target.synced else 0,
        retry_at=last.retry_at if last and sync is SyncState.FAILED else 0,
    )


def satisfied(status: TargetStatus, wanted: str, revision: str, after: int) -> bool:
    """Whether a target is `synced` or `healthy`, at a revision (or its prefix), seen past a point.

    A request or a declaration at or before `seen` that is not answered yet leaves a target
    pending, so this never holds for what was before it.
    """
    return (
        status.seen >= after
        and status.sync is SyncState.SYNCED
        and status.revision.startswith(revision)
        and (wanted == "synced" or status.health is Health.HEALTHY)
    )


def _revision(situation: Situation) -> str:
    """Return the commit that the target is in: also a later one that does not touch it."""
    synced, desired = situation.target.synced, situation.desired
    if synced is None:
        return ""
    if situation.target.pin:
        return synced.commit
    at_desired = synced.desired == desired.position and desired.failure is None
    return situation.source.resolved if at_desired and situation.is_current else synced.commit


def _sync(situation: Situation) -> tuple[SyncState, str, str]:
    target, desired = situation.target, situation.desired
    last, case = situation.corrections.last, situation.drift.open
    synced, hold, suspension = target.synced, target.hold, situation.suspension
    failure = desired.failure
    if not target.assigned:
        return SyncState.UNASSIGNED, "unassigned", target.unassigned
    if situation.corrections.plan:
        plan = situation.corrections.plan
        number, every = len(plan.actions), len(plan.actions) + plan.remaining
        some = f"{number} of {every}" if plan.remaining else f"{number}"
        objects = "object" if every == 1 else "objects"
        return SyncState.PENDING, "correcting", f"correcting {some} {objects}"
    if suspension:
        return SyncState.SUSPENDED, "suspended", f"by {suspension.actor}: {suspension.reason}"
    if failure:
        message = f"commit {failure.commit[:12]}: {failure.message}"
        return SyncState.FAILED, failure.code, message
    if situation.source.failure and not situation.source.commit:
        return SyncState.FAILED, situation.source.failure.code, situation.source.failure.message
    if (
        last
        and last.code not in ("", "abandoned")
        and (synced is None or last.position > synced.position)
    ):
        return SyncState.FAILED, last.code, last.message
    if hold and hold.code not in SOFT_HOLDS:
        sync = SyncState.PENDING if hold.code in WAITS else SyncState.HELD
        return sync, hold.code, hold.message
    if case:
        return SyncState.OUT_OF_SYNC, "drift", f"{len(case.differences)} differences"
    if not situation.is_current:
        return SyncState.PENDING, "resolving", "the commit is not rendered yet"
    if situation.open_request:
        return SyncState.PENDING, "requested", "a sync was requested"
    if synced and synced.desired == desired.position:
        if hold:
            return SyncState.SYNCED, hold.code, hold.message
        if target.pin:
            return SyncState.SYNCED, "rolled-back", f"by {target.pin.actor}: {target.pin.reason}"
        return SyncState.SYNCED, "", ""
    return SyncState.PENDING, "observing", "waiting for the cluster to be observed"
