"""The past of a real run: every view as it stood, and every decision made again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from engine.replay import DECIDED, decisions, replay
from events.event import Event, Position
from events.log import EventLog
from events.postgres import open_log
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.asof import as_of
from projections.batch import Group
from projections.fold import TargetId
from projections.postgres import PostgresViews
from projections.projection import Reader
from projections.views import read_all
from tests.integration.test_line import CLUSTERS, Shop, line
from tests.keeping import everything, naive_documents, pool_of

__all__ = ["line"]  # a fixture
pytestmark = pytest.mark.anyio


class Past:
    """The log of an engine that has stopped, and its views."""

    def __init__(self, log: EventLog, views: PostgresViews, events: Sequence[Event]) -> None:
        self.log, self.views, self.events = log, views, events

    @asynccontextmanager
    async def at(self, position: int) -> AsyncIterator[Reader]:
        async with as_of(self.views, self.log, Position(position)) as reader:
            yield reader


@asynccontextmanager
async def past_of(dsn: str) -> AsyncIterator[Past]:
    async with open_log(dsn, packages=("events", "projections")) as log, pool_of(dsn) as pool:
        views = PostgresViews(pool, Group(DOCUMENT_VIEWS, SUBJECT_VIEWS))
        async with views.snapshot() as reader:
            position = reader.position
        yield Past(log, views, await everything(log, position))


async def story(line: Shop) -> None:
    """A life with a bit of everything: rolled out, edited, deleted, suspended, withdrawn."""
    line.repository.start(CLUSTERS)
    async with line.engine():
        await line.declare_shop()
        for name in CLUSTERS:
            await line.synced(f"shop-{name}@{name}")
        await line.kubectl("prod", "-n", "shop", "scale", "deploy/shop", "--replicas=9")
        await line.until("DriftResolved")
        await line.kubectl("prod", "-n", "shop", "delete", "configmap", "shop")
        await line.until("DriftResolved", 2)
        url = "/v1/targets/default/shop-dev@dev"
        await line.call("POST", f"{url}/suspend", {"reason": "freeze"})
        second = line.repository.new_image()
        await line.synced("shop-prod@prod", second)
        await line.until("ReconcileHeld")
        await line.call("POST", f"{url}/resume", {"reason": "thaw"})
        await line.synced("shop-dev@dev", second)
        await line.call("DELETE", "/v1/resources/application/default/shop-dev?cascade=true")
        await line.until("Withdrawn")
        await line.until("TargetUnassigned")


async def test_every_view_is_read_as_it_stood_at_every_position(line: Shop) -> None:
    await story(line)
    async with past_of(line.dsn) as past:
        seen = 0
        for position in range(len(past.events) + 1):
            async with past.at(position) as reader:
                for view in DOCUMENT_VIEWS:
                    expected, parked = naive_documents(view, past.events[:position])
                    assert not parked
                    found = await read_all(reader, view)
                    assert {
                        each.key: (each.position, each.document) for each in found
                    } == expected, (view.name, position)
                    seen += len(found)
        assert seen > 1000


async def test_every_decision_comes_out_the_same_on_the_facts_that_it_was_made_on(
    line: Shop,
) -> None:
    await story(line)
    async with past_of(line.dsn) as past:
        kinds: set[str] = set()
        for name in CLUSTERS:
            target = TargetId("default", f"shop-{name}", name)
            events = [event for event in past.events if event.stream == target.stream]
            recorded = decisions(events)
            assert len(recorded) > 3
            async for again in replay(past.log, past.views, target, recorded):
                assert again.same, (again.recorded, again.now)
                kinds.update(event.type for event in again.recorded.events)
        # These are made again in test_order.py.
        elsewhere = {"HookEnded", "HealthTimedOut", "RolledBack"}
        assert kinds == {fact.__name__ for fact in DECIDED} - elsewhere


async def test_a_decision_that_would_come_out_otherwise_is_told_with_both_results(
    line: Shop,
) -> None:
    await story(line)
    async with past_of(line.dsn) as past:
        target = TargetId("default", "shop-prod", "prod")
        events = [event for event in past.events if event.stream == target.stream]
        planned = next(each for each in decisions(events) if "CorrectionPlanned" in str(each.facts))
        altered = replace(planned, facts=planned.facts[:-1])
        (again,) = [each async for each in replay(past.log, past.views, target, [altered])]
        assert again.same is False
        assert len(again.now) == len(planned.facts)
        assert [field.path for field in again.differing] == [type(planned.facts[-1]).__name__]


async def test_a_decision_that_does_not_say_what_it_was_made_on_is_looked_for_nearby(
    line: Shop,
) -> None:
    await story(line)
    async with past_of(line.dsn) as past:
        target = TargetId("default", "shop-prod", "prod")
        events = [event for event in past.events if event.stream == target.stream]
        planned = next(each for each in decisions(events) if "CorrectionPlanned" in str(each.facts))
        silent = replace(planned, seen=Position(0))
        otherwise = replace(silent, facts=planned.facts[:-1])
        found, never = [
            each async for each in replay(past.log, past.views, target, [silent, otherwise])
        ]
        assert (found.same, found.recorded.seen) == (True, planned.seen)
        assert never.same is None
        assert "earlier release" in never.problem
