"""What gauges tell of a fleet, counted from its views."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from engine.fleet import Fleet, ages
from engine.telemetry import instruments
from engine.telemetry.instruments import Breakdown, Gauge
from events.catalog import (
    ClusterConnected,
    ClusterLost,
    Declared,
    DriftDetected,
    DriftResolved,
    Fact,
    HealthChanged,
    TargetAssigned,
)
from events.event import Actor, NewEvent, StreamName
from events.memory import MemoryLog
from events.vocabulary import Difference, DifferenceKind, Health, ObjectRef
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.batch import Group
from projections.memory import MemoryViews
from tests.fakes import ManualClock

pytestmark = pytest.mark.anyio
DRIFT = Difference(DifferenceKind.CHANGED, ObjectRef("v1", "ConfigMap", "a", "b"), ".data.x", 1, 2)


class Told:
    """A fleet in memory, and what its gauges tell."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.log = MemoryLog(self.clock.now)
        self.views = MemoryViews(self.log, Group(DOCUMENT_VIEWS, SUBJECT_VIEWS))
        self.fleet = Fleet(self.views, self.clock)
        self.fleet.tell()

    async def happen(self, stream: str, *facts: Fact) -> None:
        await self.log.append(
            [
                NewEvent(
                    event_id=self.clock.event_id(),
                    stream=StreamName(stream),
                    fact=fact,
                    actor=Actor("engine:test"),
                    occurred_at=self.clock.now(),
                )
                for fact in facts
            ]
        )
        await self.views.reached(await self.log.head())

    async def count(self) -> None:
        await self.clock.advance(11)
        await self.fleet.refresh()

    @staticmethod
    def value(gauge: Gauge, **labels: Any) -> float:
        wanted = {key.replace("__", "."): value for key, value in labels.items()}
        (found,) = [value for value, own in gauge.read() if wanted.items() <= own.items()]
        return found


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    yield Told()
    for made in instruments.ALL:
        if isinstance(made, Gauge):
            made.ask(None)


@pytest.fixture
def by_cluster() -> Iterator[None]:
    Breakdown.cluster = True
    yield
    Breakdown.cluster = False


async def test_clusters_are_counted_by_whether_they_answer(told: Told) -> None:
    spec = {"kubeconfig": "/k", "context": "c"}
    for name in ("a", "b", "c"):
        await told.happen(f"cluster/default/{name}", Declared("Cluster", spec))
    await told.happen("cluster/default/a", ClusterConnected("v1"))
    await told.happen("cluster/default/b", ClusterConnected("v1"), ClusterLost("tls", "no"))
    await told.count()
    states = ("connected", "lost", "unknown")
    counted = [told.value(instruments.CLUSTERS, trueup__cluster__state=word) for word in states]
    assert counted == [1, 1, 1]


async def test_targets_are_counted_by_state_and_health(told: Told) -> None:
    for name in ("a", "b"):
        await told.happen(f"target/default/{name}@x", TargetAssigned(name, "x", "default"))
    await told.happen("target/default/a@x", HealthChanged(Health.DEGRADED))
    await told.count()
    assert told.value(instruments.TARGETS, trueup__target__state="pending") == 2
    assert told.value(instruments.TARGETS, trueup__target__state="failed") == 0
    assert told.value(instruments.HEALTHS, trueup__health="degraded") == 1


async def test_the_oldest_open_drift_gets_older_without_an_event(told: Told) -> None:
    await told.happen("target/default/a@x", TargetAssigned("a", "x", "default"))
    await told.happen("target/default/a@x", DriftDetected("case-1", (DRIFT,)))
    await told.count()
    await told.clock.advance(60)
    assert told.value(instruments.DRIFT_OPEN) == 1
    assert told.value(instruments.DRIFT_AGE) == 71
    await told.happen("target/default/a@x", DriftResolved("case-1", "reverted"))
    await told.count()
    assert told.value(instruments.DRIFT_OPEN) == 0
    assert told.value(instruments.DRIFT_AGE) == 0


async def test_what_was_counted_a_moment_ago_is_not_counted_again(told: Told) -> None:
    await told.count()
    await told.happen("target/default/a@x", TargetAssigned("a", "x", "default"))
    await told.fleet.refresh()
    assert told.value(instruments.TARGETS, trueup__target__state="pending") == 0
    await told.count()
    assert told.value(instruments.TARGETS, trueup__target__state="pending") == 1


async def test_clusters_are_told_apart_only_where_asked(told: Told, by_cluster: None) -> None:
    await told.happen("target/default/a@x", TargetAssigned("a", "x", "default"))
    await told.count()
    named = {"trueup__target__state": "pending", "k8s__cluster__name": "x"}
    assert told.value(instruments.TARGETS, **named) == 1
    assert ages([("x", 3.0), ("y", 5.0)]) == [
        (3.0, {"k8s.cluster.name": "x"}),
        (5.0, {"k8s.cluster.name": "y"}),
    ]


def test_of_many_clusters_the_oldest_observation_is_told() -> None:
    assert ages([("x", 3.0), ("y", 5.0)]) == [(5.0, {})]
    assert ages([]) == []
