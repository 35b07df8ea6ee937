"""Who waits for the views: watermarks and subscriptions."""

from __future__ import annotations

import anyio
import pytest

from events.event import Event, Position
from events.memory import MemoryLog
from projections.listeners import Listeners, Subscription, Watermark
from tests.toy_views import CLOCK, moved

pytestmark = pytest.mark.anyio


@pytest.fixture
async def events() -> list[Event]:
    log = MemoryLog(CLOCK.now)
    await log.append([moved("m") for _ in range(20)])
    return list(await log.read(Position(0)))


async def read(subscription: Subscription, count: int) -> list[tuple[int, int, bool]]:
    """Read batches as (position, how many events, missed)."""
    found = []
    with anyio.fail_after(5):
        for _ in range(count):
            batch = await anext(subscription)
            found.append((int(batch.position), len(batch.events), batch.missed))
    return found


async def test_everyone_hears_everything_in_order(events: list[Event]) -> None:
    listeners = Listeners()
    both = [listeners.subscribe(), listeners.subscribe()]
    listeners.hear(Position(2), events[:2])
    listeners.hear(Position(5), events[2:5])
    listeners.end()
    for subscription in both:
        assert await read(subscription, 2) == [(2, 2, False), (5, 3, False)]
        assert [batch async for batch in subscription] == []


async def test_a_slow_subscriber_is_told_that_it_missed_events_and_hears_what_follows(
    events: list[Event],
) -> None:
    listeners = Listeners()
    slow, quick = listeners.subscribe(limit=4), listeners.subscribe()
    for first in range(0, 8, 2):
        listeners.hear(Position(first + 2), events[first : first + 2])
    assert await read(slow, 2) == [(6, 0, True), (8, 2, False)]
    assert await read(quick, 4) == [(2, 2, False), (4, 2, False), (6, 2, False), (8, 2, False)]
    listeners.hear(Position(18), events[8:18])  # more at once than it may be behind
    listeners.hear(Position(20), events[18:20])
    assert await read(slow, 2) == [(18, 0, True), (20, 2, False)]


async def test_reading_makes_room_again(events: list[Event]) -> None:
    listeners = Listeners()
    subscription = listeners.subscribe(limit=2)
    for first in range(0, 20, 2):
        listeners.hear(Position(first + 2), events[first : first + 2])
        assert await read(subscription, 1) == [(first + 2, 2, False)]


async def test_a_subscriber_that_waits_is_woken(events: list[Event]) -> None:
    listeners = Listeners()
    found: list[tuple[int, int, bool]] = []

    async def wait(subscription: Subscription) -> None:
        found.extend(await read(subscription, 1))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, listeners.subscribe())
        await anyio.lowlevel.checkpoint()
        listeners.hear(Position(1), events[:1])
    assert found == [(1, 1, False)]


async def test_who_left_hears_no_more_and_who_comes_too_late_hears_nothing(
    events: list[Event],
) -> None:
    listeners = Listeners()
    async with listeners.subscribe() as subscription:
        listeners.hear(Position(1), events[:1])
    listeners.hear(Position(2), events[1:2])
    assert [batch.position async for batch in subscription] == [1]
    listeners.end()
    assert [batch async for batch in listeners.subscribe()] == []


async def test_a_watermark_wakes_whom_it_has_reached_and_never_falls() -> None:
    watermark, woken = Watermark(), []

    async def wait(position: int) -> None:
        await watermark.reach(Position(position))
        woken.append(position)

    async with anyio.create_task_group() as tasks:
        for position in (3, 1, 2):
            tasks.start_soon(wait, position)
        await anyio.lowlevel.checkpoint()
        watermark.advance(Position(2))
        watermark.advance(Position(1))
        assert watermark.position == 2
        await watermark.reach(Position(2))
        with anyio.move_on_after(0) as scope:
            await watermark.reach(Position(9))
        assert scope.cancelled_caught
        assert sorted(woken) == [1, 2]
        watermark.advance(Position(3))
    assert woken[-1] == 3
