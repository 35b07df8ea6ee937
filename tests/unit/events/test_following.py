"""Following a log that changes while it is looked at, breaks, or loses what it had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing

import pytest

from events import following
from events.event import START, Event, Position
from events.following import Signal
from events.log import LogCorrupt, LogUnavailable
from events.memory import MemoryLog
from tests.appending import new

pytestmark = pytest.mark.anyio


class Scripted(MemoryLog):
    """Does something before each read."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        super().__init__(lambda: 0)
        self.steps = list(steps)

    async def read(self, after: Position, limit: int = 1000, **filters: object) -> Sequence[Event]:
        if self.steps:
            await self.steps.pop(0)()  # type: ignore[misc]
        return await super().read(after, limit)


async def test_what_comes_between_the_look_and_the_wait_is_not_missed() -> None:
    async def append() -> None:
        await log.append([new()])

    log = Scripted()

    async def read_then_append() -> None:
        log.steps.append(nothing)
        page = await log.read(START)
        assert not page
        await append()

    async def nothing() -> None: ...

    # Nothing but the signal wakes the follower, and it is given before the follower waits.
    log.steps.append(read_then_append)
    async with aclosing(following.follow(log, START, 10, log._changed, None)) as pages:
        assert [event.position for event in await anext(pages)] == [1]


async def test_a_log_that_cannot_be_reached_is_waited_for() -> None:
    async def refuse() -> None:
        raise LogUnavailable("not now")

    log = Scripted(refuse, refuse)
    await log.append([new()])
    async with aclosing(following.follow(log, START, 10, Signal(), 0.001)) as pages:
        assert len(await anext(pages)) == 1


async def test_a_hole_at_the_end_of_what_was_read_is_found() -> None:
    class Lossy(MemoryLog):
        async def read(self, after: Position, limit: int = 1, **filters: object) -> Sequence[Event]:
            return []

    log = Lossy(lambda: 0)
    await log.append([new()])
    async with aclosing(following.follow(log, START, 10, Signal(), None)) as pages:
        with pytest.raises(LogCorrupt, match="position 1 is missing"):
            await anext(pages)


async def test_time_in_memory_never_runs_backwards() -> None:
    times = [50, 20, 70]
    log = MemoryLog(lambda: times.pop(0))
    for _ in range(3):
        await log.append([new()])
    assert [event.recorded_at for event in await log.read(START)] == [50, 50, 70]
