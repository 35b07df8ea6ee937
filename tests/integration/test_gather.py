"""Situations that are read together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from engine.decide.situation import Situation
from engine.process.clock import SystemClock
from engine.reconcile.gather import Situations
from events.catalog import DesiredRendered, TargetAssigned
from events.event import Actor, NewEvent, StreamName
from events.log import LogCorrupt
from events.memory import MemoryLog
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.batch import Group
from projections.fold import TargetId
from projections.memory import MemoryViews
from projections.views import PresentReader

pytestmark = pytest.mark.anyio
CLOCK = SystemClock()
COUNT = 40


class CountedViews(MemoryViews):
    """Views that count how often they are read."""

    snapshots = 0

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[PresentReader]:
        self.snapshots += 1
        async with super().snapshot() as reader:
            yield reader


@pytest.fixture
async def log() -> MemoryLog:
    """A log with some targets; of the application `broken` a body is missing."""
    log = MemoryLog(CLOCK.now)
    facts = [
        (f"target/default/{name}@prod", TargetAssigned(name, "prod", "default")) for name in names()
    ]
    missing = DesiredRendered("a" * 40, 1, "inputs", "plain/1", "sha256:" + "0" * 64, 1)
    await log.append(
        [
            NewEvent(
                event_id=CLOCK.event_id(),
                stream=StreamName(stream),
                fact=fact,
                actor=Actor("user:ada"),
                occurred_at=CLOCK.now(),
            )
            for stream, fact in [*facts, ("app/default/broken", missing)]
        ]
    )
    return log


def names() -> list[str]:
    return ["broken", *(f"shop-{number}" for number in range(COUNT))]


async def read(
    views: MemoryViews, log: MemoryLog, targets: list[str]
) -> dict[str, Situation | Exception | None]:
    """Ask for all at once; return what each came to."""
    situations = Situations(views, log, CLOCK)
    found: dict[str, Situation | Exception | None] = {}

    async def one(name: str) -> None:
        try:
            found[name], _ = await situations.of(TargetId("default", name, "prod"))
        except LogCorrupt as error:
            found[name] = error

    await views.reached(await log.head())
    async with anyio.create_task_group() as readers:
        readers.start_soon(situations.run)
        async with anyio.create_task_group() as group:
            for name in targets:
                group.start_soon(one, name)
        readers.cancel_scope.cancel()
    return found


async def test_targets_that_ask_at_once_are_read_in_few_snapshots(log: MemoryLog) -> None:
    views = CountedViews(log, Group(DOCUMENT_VIEWS, SUBJECT_VIEWS))
    found = await read(views, log, [*names()[1:], "nobody"])
    assert views.snapshots <= 5
    assert found.pop("nobody") is None
    for name, situation in found.items():
        assert isinstance(situation, Situation)
        assert situation.id.application == name


async def test_what_ails_one_target_is_told_to_nobody_else(log: MemoryLog) -> None:
    views = CountedViews(log, Group(DOCUMENT_VIEWS, SUBJECT_VIEWS))
    found = await read(views, log, names())
    assert isinstance(found.pop("broken"), LogCorrupt)
    assert {type(situation) for situation in found.values()} == {Situation}
