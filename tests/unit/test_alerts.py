"""Which facts are alerts: each beginning, and the end that belongs to it."""

from __future__ import annotations

import pytest

from engine.notify.selection import concerns, subject_of
from engine.notify.send import LONGEST_WAIT, End, judged
from engine.resources.model import NotificationSpec
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
    TargetSynced,
)
from events.codec import encode, type_of
from events.event import Actor, Event, EventId, Micros, Position, StreamName, Version
from events.vocabulary import ConfigurationProblem
from projections.alerts import ALERT_TYPES, Alert, alert_of

TARGET, APP, CLUSTER, REPO = (
    "target/default/shop@prod",
    "app/default/shop",
    "cluster/default/prod",
    "repo/default/shop",
)
SHA = "5ca1ab1e" * 5
NOW = 1_700_000_000_000_000


def alert(stream: str, fact: Fact) -> Alert | None:
    name, schema = type_of(fact)
    event = Event(
        position=Position(7),
        stream=StreamName(stream),
        version=Version(1),
        event_id=EventId("7"),
        type=name,
        schema=schema,
        recorded_at=Micros(NOW),
        occurred_at=Micros(NOW),
        actor=Actor("engine:test"),
        causation=None,
        correlation="",
        traceparent="",
        payload=encode(fact),
    )
    return alert_of(event, fact)


def failed(attempt: int) -> CorrectionFailed:
    return CorrectionFailed(1, (), "forbidden", "no", attempt)


@pytest.mark.parametrize(
    ("stream", "begins", "ends", "kind", "subject"),
    [
        (TARGET, DriftDetected("x", ()), DriftResolved("x", "corrected"), "drift", "shop@prod"),
        (TARGET, failed(3), CorrectionApplied(1, (), 4), "failed", "shop@prod"),
        (TARGET, ReconcileHeld("manual", "m"), HoldLifted("manual"), "held", "shop@prod"),
        (
            TARGET,
            RolledBack(SHA, 1, "", 1, "degraded 5m after the sync", instead=2),
            RollbackLifted("mended", after_failure=True),
            "failed",
            "shop@prod",
        ),
        (
            CLUSTER,
            ClusterLost("unreachable", "m"),
            ClusterConnected("v1.36.0", after_loss=True),
            "cluster-lost",
            "cluster/prod",
        ),
        (REPO, SourceFailed("timeout", "m"), SourceRecovered(), "failed", "repository/shop"),
        (
            APP,
            RenderFailed(SHA, 1, "", "bad", "m"),
            DesiredRendered(SHA, 1, "", "plain", "", 0, after_failure=True),
            "failed",
            "application/shop",
        ),
        (
            REPO,
            ConfigurationRefused(SHA, 1, (ConfigurationProblem("a.yaml", 1, "", "m"),)),
            ConfigurationApplied(SHA, 1, 1, after_refusal=True),
            "failed",
            "repository/shop",
        ),
    ],
)
def test_each_alert_has_its_end(
    stream: str, begins: Fact, ends: Fact, kind: str, subject: str
) -> None:
    first, last = alert(stream, begins), alert(stream, ends)
    assert first is not None
    assert last is not None
    assert (first.kind, first.subject) == (kind, subject)
    assert (last.kind, last.condition) == ("recovered", first.condition)
    for fact in (begins, ends):
        assert type(fact).__name__ in ALERT_TYPES


@pytest.mark.parametrize(
    ("stream", "fact"),
    [
        (TARGET, failed(1)),
        (TARGET, failed(2)),
        (TARGET, failed(4)),
        (TARGET, CorrectionApplied(1, ())),
        (TARGET, CorrectionApplied(1, (), 3)),
        (TARGET, ReconcileHeld("manual", "m", again=True)),
        (TARGET, ReconcileHeld("cluster-lost", "m")),
        (TARGET, HoldLifted("cluster-lost")),
        (TARGET, TargetSynced(SHA, 1, "")),
        # A person asked for these.
        (TARGET, RolledBack(SHA, 1, "", 1, "back")),
        (TARGET, RollbackLifted("on")),
        (CLUSTER, ClusterConnected("v1.36.0")),
        (APP, DesiredRendered(SHA, 1, "", "plain", "", 0)),
        (REPO, ConfigurationApplied(SHA, 1, 1)),
    ],
)
def test_what_is_as_it_should_be_is_no_alert(stream: str, fact: Fact) -> None:
    assert alert(stream, fact) is None


def test_a_notification_is_for_its_own_project_unless_it_says_otherwise() -> None:
    found = alert("target/team/shop@prod", DriftDetected("x", ()))
    assert found is not None
    for spec, project, wanted in (
        (NotificationSpec(), "team", True),
        (NotificationSpec(), "default", False),
        (NotificationSpec(projects=("*",)), "default", True),
        (NotificationSpec(projects=("team", "other")), "default", True),
        (NotificationSpec(projects=("other",)), "default", False),
        (NotificationSpec(events=("held",)), "team", False),
        (NotificationSpec(applications=("shop",), clusters=("prod",)), "team", True),
        (NotificationSpec(applications=("web",)), "team", False),
        (NotificationSpec(clusters=("dev",)), "team", False),
    ):
        assert concerns(spec, project, found, {}) is wanted
        if wanted:
            assert subject_of(spec, project) in ("alerts", "alerts/team")


@pytest.mark.parametrize(
    ("status", "retry_after", "end", "wait"),
    [
        (204, "", End.TAKEN, 0),
        (429, "30", End.FAILED, 30),
        (503, "99999999999999999999", End.FAILED, LONGEST_WAIT),
        (503, "Tue, 14 Nov 2023 22:14:20 GMT", End.FAILED, 60),
        (503, "Tue, 14 Nov 2000 22:14:20 GMT", End.FAILED, 0),
        (503, "soon", End.FAILED, 0),
        (503, "-1", End.FAILED, 0),
        (400, "", End.REFUSED, 0),
        (404, "", End.FAILED, 0),
        (308, "", End.FAILED, 0),
    ],
)
def test_answers_are_told_apart(status: int, retry_after: str, end: End, wait: float) -> None:
    sent = judged(status, retry_after, NOW)
    assert (sent.end, sent.retry_after) == (end, wait)
