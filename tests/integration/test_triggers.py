"""Whom news concerns."""

from __future__ import annotations

import pytest

from engine.process.clock import SystemClock
from engine.reconcile.triggers import targets_of
from events.catalog import RefMoved, RevisionResolved, SyncRequested, TargetAssigned
from events.event import Actor, NewEvent, Position, StreamName
from events.memory import MemoryLog
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.batch import Group
from projections.memory import MemoryViews

pytestmark = pytest.mark.anyio
TARGET = StreamName("target/default/web@prod")


async def test_a_target_with_an_open_request_hears_that_its_commit_is_resolved() -> None:
    clock = SystemClock()
    log = MemoryLog(clock.now)
    views = MemoryViews(log, Group(DOCUMENT_VIEWS, SUBJECT_VIEWS))
    facts = [
        (TARGET, TargetAssigned("web", "prod", "default")),
        (TARGET, SyncRequested("now")),
        (StreamName("repo/default/web"), RefMoved("refs/heads/main", "a" * 40)),
        (StreamName("repo/default/web"), RevisionResolved("a" * 40)),
    ]
    await log.append(
        [
            NewEvent(
                event_id=clock.event_id(),
                stream=stream,
                fact=fact,
                actor=Actor("user:ada"),
                occurred_at=clock.now(),
            )
            for stream, fact in facts
        ]
    )
    resolved = await log.read(Position(3))
    await views.reached(await log.head())
    async with views.snapshot() as reader:
        found = [woken.target.label async for woken in targets_of(reader, resolved)]
    assert found == ["web@prod"]
