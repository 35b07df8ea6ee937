"""What a fact says, in a line, for whoever tells of events: the command line, the pages.

Pure. The line may hold what strangers wrote: whoever shows it makes it harmless first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from events import catalog as c
from events.catalog import Fact


def said(fact: Fact) -> str:
    """Say what happened, in a line, without the reason that a person gave for it."""
    return (
        _said_of_desired(fact)
        or _said_of_cluster(fact)
        or _said_of_target(fact)
        or _said_of_notification(fact)
        or _plainly(fact)
    )


def given_reason(fact: Fact | None) -> str:
    """Return the reason that a person gave for a fact; "" where there is none to add."""
    return "" if isinstance(fact, c.TargetUnassigned) else str(getattr(fact, "reason", ""))


def _short(commit: str) -> str:
    return commit[:10]


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _said_of_desired(fact: Fact) -> str:
    match fact:
        case c.Declared():
            where = f" in {fact.file} at {_short(fact.commit)}" if fact.owner else ""
            return f"{fact.kind} declared{where}"
        case c.Withdrawn():
            where = f" at {_short(fact.commit)}" if fact.commit else ""
            return f"{fact.kind} withdrawn{where}" + (", its objects too" if fact.cascade else "")
        case c.ConfigurationApplied():
            news = f"{fact.changed} changed, {fact.withdrawn} withdrawn"
            resources = _count(fact.resources, "resource")
            return f"configuration of {_short(fact.commit)} in force: {resources}, {news}"
        case c.ConfigurationRefused():
            count = _count(len(fact.problems) + fact.omitted, "problem")
            return f"configuration of {_short(fact.commit)} refused, {count}; the last one stays"
        case c.ActorForgotten():
            return f"the name of {fact.actor} forgotten"
        case c.CommitSeen():
            return f"commit {_short(fact.commit)} {fact.subject!r}"
        case c.RefMoved():
            forced = " by force" if fact.forced else ""
            before = f" from {_short(fact.previous)}" if fact.previous else ""
            skipped = f", {_count(fact.skipped, 'commit')} unrecorded" if fact.skipped else ""
            return f"{fact.ref} moved{forced}{before} to {_short(fact.commit)}{skipped}"
        case c.SourceFailed():
            return f"cannot be read: {fact.message} ({fact.code})"
        case c.SourceRecovered():
            return "can be read again"
        case c.SourceChecked():
            found = f"failed ({fact.failed})" if fact.failed else f"at {_short(fact.commit)}"
            return f"looked at as asked for at #{fact.requested}: {found}"
        case c.RevisionResolved():
            touched = _count(len(fact.rendered), "application")
            failed = f", {len(fact.failed)} failed" if fact.failed else ""
            return f"{_short(fact.commit)} resolved: {touched} rendered{failed}"
        case c.DesiredRendered():
            return f"{_short(fact.commit)} rendered: {_count(fact.count, 'object')}"
        case c.RenderFailed():
            place = f" in {fact.file}" if fact.file else ""
            line = f":{fact.line}" if fact.line else ""
            return f"{_short(fact.commit)} does not render{place}{line}: {fact.message}"
    return ""


def _said_of_cluster(fact: Fact) -> str:
    match fact:
        case c.ClusterConnected():
            return f"cluster answers, {fact.server_version}"
        case c.ClusterLost():
            return f"cluster lost: {fact.message} ({fact.code})"
        case c.ObjectsObserved():
            return f"{_count(len(fact.objects), 'object')} observed ({fact.source})"
        case c.ObservationGap():
            return f"{fact.kind}: what happened meanwhile was not seen"
        case c.KindUnreadable():
            return f"{fact.kind} cannot be listed: {fact.message} ({fact.code})"
        case c.KindReadable():
            return f"{fact.kind} is observed"
        case c.ObservationConfirmed():
            return f"listed afresh: {_count(fact.objects, 'object')}"
    return ""


def _extras(fact: c.SyncRequested) -> str:
    revision = f" to {_short(fact.revision)}" if fact.revision else ""
    prune = ", deletions confirmed" if fact.prune else ""
    return revision + prune + (", sync windows overridden" if fact.override else "")


def _taken(fact: c.AdoptionRequested) -> str:
    named = (*fact.managers, *fact.owners)
    return f", also from {', '.join(named)}" if named else ""


def _said_of_target(fact: Fact) -> str:
    match fact:
        case c.TargetAssigned():
            return f"assigned to {fact.cluster}, namespace {fact.namespace}"
        case c.TargetUnassigned():
            left = "its objects are deleted" if fact.cascade else "its objects stay"
            return f"unassigned ({fact.reason}), {left}"
        case c.SyncRequested():
            return f"sync requested{_extras(fact)}"
        case c.OverrideApproved():
            return f"override of a sync window at #{fact.request} approved"
        case c.PlanApproved():
            return f"plan {fact.plan[7:19]} approved"
        case c.RolledBack():
            return f"rolled back to {_short(fact.commit)}; newer commits are masked"
        case c.RollbackLifted():
            return "rollback lifted: commits are followed again"
        case c.Suspended():
            until = datetime.fromtimestamp(fact.until / 1e6, UTC) if fact.until else None
            return f"suspended until {until:%Y-%m-%d %H:%M:%S} UTC" if until else "suspended"
        case c.Resumed():
            return "resumed"
        case c.DriftDetected():
            count = len(fact.differences) + fact.omitted
            return f"drift: {_count(count, 'difference')} that no commit explains"
        case c.DriftResolved():
            by = f" by the correction at #{fact.correction}" if fact.correction else ""
            return f"drift ended: {fact.how}{by}"
        case c.DriftAccepted():
            until = datetime.fromtimestamp(fact.until / 1e6, UTC) if fact.until else None
            ends = f"until {until:%Y-%m-%d %H:%M:%S} UTC" if until else "until further notice"
            return f"drift accepted {ends}: {_count(len(fact.differences), 'difference')}"
        case c.AcceptanceEnded():
            return "drift is accepted no longer"
        case c.AdoptionRequested():
            return f"take-over requested{_taken(fact)}"
        case c.CorrectionPlanned():
            again = f", attempt {fact.attempt}" if fact.attempt > 1 else ""
            actions = _count(len(fact.actions), "action")
            more = f", {fact.remaining} more to follow" if fact.remaining else ""
            what = f"{actions} to {_short(fact.commit)}{again}{more}"
            stage = f", {fact.stage}" if fact.stage else ""
            return f"correction planned ({fact.cause}{stage}): {what}"
        case c.CorrectionApplied():
            return f"correction of #{fact.plan} done: {_outcomes(fact.results)}"
        case c.CorrectionFailed():
            retry = "" if fact.retry_at else ", no retry"
            return f"correction of #{fact.plan} failed ({fact.code}){retry}: {fact.message}"
        case c.HookEnded():
            end = "has run" if fact.succeeded else f"failed: {fact.message}"
            return f"{fact.hook} hook {fact.ref} {end}"
        case c.HealthTimedOut():
            why = f": {fact.message}" if fact.message else ""
            return f"{fact.health} at {_short(fact.commit)}, and not healthy in time{why}"
        case c.CorrectionAbandoned():
            return f"correction of #{fact.plan} abandoned"
        case c.TargetSynced():
            return f"synced to {_short(fact.commit)}"
        case c.ReconcileHeld():
            return f"held ({fact.code}): {fact.message}"
        case c.HoldLifted():
            return f"no longer held ({fact.code})"
        case c.HealthChanged():
            return f"health is {fact.health}" + (f": {fact.message}" if fact.message else "")
    return ""


def _said_of_notification(fact: Fact) -> str:
    match fact:
        case c.NotificationDelivered():
            again = f" at attempt {fact.attempt}" if fact.attempt > 1 else ""
            return f"told of #{fact.position} ({fact.kind}){again}"
        case c.NotificationPassed():
            return f"nothing to tell up to #{fact.through}"
        case c.NotificationFailed():
            return f"cannot tell of #{fact.position} ({fact.code}), trying again: {fact.message}"
        case c.NotificationRefused():
            return f"#{fact.position} ({fact.kind}) is not wanted ({fact.code}): {fact.message}"
        case c.NotificationStopped():
            return f"stopped at #{fact.position}: {fact.message}"
        case c.NotificationReplayRequested():
            return f"to tell everything from #{fact.start} on"
        case c.NotificationTestRequested():
            return "test requested"
        case c.NotificationTested():
            return f"test failed ({fact.code}): {fact.message}" if fact.code else "test delivered"
    return ""


def _plainly(fact: Fact) -> str:
    match fact:
        case c.BodyRedacted():
            return "body erased"
        case c.TokenCreated():
            return "token made"
        case c.TokenRevoked():
            return "token revoked"
        case c.EngineStarted():
            return f"engine {fact.version} started, epoch {fact.epoch}"
        case c.EngineStopped():
            return "engine stopped in order"
        case c.ProjectionParked():
            return f"view {fact.view} no longer folds {fact.key}: {fact.message}"
    return f"{type(fact).__name__} {msgspec.json.encode(fact).decode()}"


def _outcomes(results: Iterable[Any]) -> str:
    counts = Counter(result.outcome for result in results)
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "nothing to do"
