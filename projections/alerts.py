"""What people want to be told of: which events are alerts, filed so that they are found again.

Pure. An event says by itself whether it is an alert, so the same alerts are found from any
position on, however often.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from events.catalog import (
    ClusterConnected,
    ClusterLost,
    ConfigurationApplied,
    ConfigurationRefused,
    CorrectionApplied,
    CorrectionFailed,
    DesiredRendered,
    DriftDetected,
    DriftResolved,
    Fact,
    HoldLifted,
    ReconcileHeld,
    RenderFailed,
    RollbackLifted,
    RolledBack,
    SourceFailed,
    SourceRecovered,
)
from events.event import Event
from projections.fold import names, target_of
from projections.targets import WAITS

ALL = "alerts"
"""The subject of every alert."""
FAILED_IN_A_ROW = 3
"""How many attempts of a correction fail before that is an alert: most pass by themselves."""
_TOLD_ELSEWHERE = WAITS | {"cluster-lost", "render-failed", "source-failed", "dependency"}
"""Holds that pass by themselves, or follow from an alert of its own: they would be a flood."""
_DIFFERENCES = 3


class AlertKind(StrEnum):
    """What an alert is about."""

    DRIFT = "drift"
    FAILED = "failed"
    HELD = "held"
    CLUSTER_LOST = "cluster-lost"
    RECOVERED = "recovered"


class Alert(Struct, frozen=True):
    """Something worth telling. `condition` is what it begins or ends.

    `about` is the stream that it is about; `application`, `cluster` and `repository` are "" where
    it is about none. `at` is in microseconds. No message quotes a field's value.
    """

    kind: AlertKind
    condition: str
    position: int
    at: int
    about: str
    project: str
    code: str
    message: str
    application: str = ""
    cluster: str = ""
    repository: str = ""
    commit: str = ""
    correlation: str = ""
    traceparent: str = ""

    @property
    def subject(self) -> str:
        """What it is about, as people write it: `shop@prod`, `cluster/prod`."""
        if self.application and self.cluster:
            return f"{self.application}@{self.cluster}"
        if self.application:
            return f"application/{self.application}"
        if self.cluster:
            return f"cluster/{self.cluster}"
        return f"repository/{self.repository}"


class _Told(Struct, frozen=True):
    kind: AlertKind
    condition: str
    code: str
    message: str
    commit: str = ""


def alert_of(event: Event, fact: Fact) -> Alert | None:
    """Return the alert that an event is; None where it is none."""
    kind, project, name = event.stream.split("/", 2)
    told = _told(fact)
    if told is None or kind not in ("target", "app", "cluster", "repo"):
        return None
    application = cluster = repository = ""
    if kind == "target":
        target = target_of(event.stream)
        application, cluster = target.application, target.cluster
    elif kind == "app":
        application = name
    elif kind == "cluster":
        cluster = name
    else:
        repository = name
    return Alert(
        kind=told.kind,
        condition=told.condition,
        position=event.position,
        at=event.recorded_at,
        about=event.stream,
        project=project,
        code=told.code,
        message=told.message,
        application=application,
        cluster=cluster,
        repository=repository,
        commit=told.commit,
        correlation=event.correlation,
        traceparent=event.traceparent,
    )


def _told(fact: Fact) -> _Told | None:
    return _told_of_target(fact) or _told_of_others(fact)


def _told_of_target(fact: Fact) -> _Told | None:
    match fact:
        case DriftDetected():
            return _Told(AlertKind.DRIFT, "drift", "drift", _drift(fact))
        case DriftResolved():
            return _Told(AlertKind.RECOVERED, "drift", fact.how, f"drift ended: {fact.how}")
        case CorrectionFailed() if fact.attempt == FAILED_IN_A_ROW:
            message = f"{fact.attempt} corrections in a row failed: {fact.message}"
            return _Told(AlertKind.FAILED, "correction", fact.code, message)
        case CorrectionApplied() if fact.attempt > FAILED_IN_A_ROW:
            message = f"corrected at attempt {fact.attempt}"
            return _Told(AlertKind.RECOVERED, "correction", "applied", message)
        case ReconcileHeld() if not fact.again and fact.code not in _TOLD_ELSEWHERE:
            return _Told(AlertKind.HELD, "hold", fact.code, fact.message)
        case RolledBack() if fact.instead:
            message = f"rolled back to {fact.commit[:12]}: {fact.reason}"
            return _Told(AlertKind.FAILED, "rollback", "rolled-back", message, fact.commit)
        case RollbackLifted(after_failure=True):
            message = "it follows its commits again"
            return _Told(AlertKind.RECOVERED, "rollback", "lifted", message)
        case HoldLifted() if fact.code not in _TOLD_ELSEWHERE:
            return _Told(AlertKind.RECOVERED, "hold", fact.code, f"no longer held ({fact.code})")
    return None


def _told_of_others(fact: Fact) -> _Told | None:
    failed, recovered = AlertKind.FAILED, AlertKind.RECOVERED
    match fact:
        case ClusterLost():
            return _Told(AlertKind.CLUSTER_LOST, "connection", fact.code, fact.message)
        case ClusterConnected(after_loss=True):
            return _Told(recovered, "connection", "connected", "the cluster answers again")
        case SourceFailed():
            message = f"the repository cannot be read: {fact.message}"
            return _Told(failed, "source", fact.code, message)
        case SourceRecovered():
            return _Told(recovered, "source", "readable", "the repository can be read again")
        case RenderFailed():
            place = f" ({fact.file}:{fact.line})" if fact.file else ""
            message = f"the commit does not render: {fact.message}{place}"
            return _Told(failed, "render", fact.code, message, fact.commit)
        case DesiredRendered(after_failure=True):
            return _Told(recovered, "render", "rendered", "it renders again", fact.commit)
        case ConfigurationRefused():
            first = fact.problems[0]
            message = f"the configuration is refused: {first.file}:{first.line}: {first.message}"
            return _Told(failed, "configuration", "refused", message, fact.commit)
        case ConfigurationApplied(after_refusal=True):
            message = "the configuration is in force again"
            return _Told(recovered, "configuration", "in-force", message, fact.commit)
    return None


def _drift(fact: DriftDetected) -> str:
    count = len(fact.differences) + fact.omitted
    places = [f"{item.ref} {item.path}".strip() for item in fact.differences[:_DIFFERENCES]]
    more = f" and {count - len(places)} more" if count > len(places) else ""
    noun = "difference" if count == 1 else "differences"
    return f"{count} {noun} that no commit explains: {', '.join(places)}{more}"


def alerts_subject(project: str) -> str:
    """Return the subject of a project's alerts."""
    return f"{ALL}/{project}"


ALERT_TYPES = names(
    (
        DriftDetected,
        DriftResolved,
        CorrectionFailed,
        CorrectionApplied,
        ReconcileHeld,
        HoldLifted,
        RolledBack,
        RollbackLifted,
        ClusterLost,
        ClusterConnected,
        SourceFailed,
        SourceRecovered,
        RenderFailed,
        DesiredRendered,
        ConfigurationRefused,
        ConfigurationApplied,
    )
)
"""The types of events that can be alerts."""


class AlertsView:
    """Positions of alerts: of all, and by project."""

    name = "alerts"
    version = 2
    types: frozenset[str] | None = ALERT_TYPES

    def subjects(self, event: Event, fact: Fact) -> Iterable[str]:
        """Name `alerts` and the project's, where the event is an alert."""
        found = alert_of(event, fact)
        return (ALL, alerts_subject(found.project)) if found is not None else ()


ALERTS = AlertsView()
