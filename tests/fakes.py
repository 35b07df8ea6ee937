"""Stand-ins that several tests share: time that only moves when it is told to."""

from __future__ import annotations

import heapq
import itertools
import uuid

import anyio
import anyio.lowlevel

from events.event import EventId, Micros

_SETTLE_TURNS = 50


class ManualClock:
    """A clock that implements `engine.ports.Clock` and moves by `advance`."""

    def __init__(self, start: int = 1_700_000_000_000_000) -> None:
        self._micros = start
        self._sleepers: list[tuple[int, int, anyio.Event]] = []
        self._count = itertools.count()

    def now(self) -> Micros:
        return Micros(self._micros)

    def monotonic(self) -> float:
        return self._micros / 1e6

    async def sleep(self, seconds: float) -> None:
        event = anyio.Event()
        due = self._micros + int(seconds * 1e6)
        heapq.heappush(self._sleepers, (due, next(self._count), event))
        if due > self._micros:
            await event.wait()
        else:
            await anyio.lowlevel.checkpoint()

    def random(self) -> float:
        return 0.5

    def event_id(self) -> EventId:
        return EventId(str(uuid.UUID(int=next(self._count) + (7 << 76) + (2 << 62))))

    async def advance(self, seconds: float) -> None:
        """Move time, wake who is due, and let everybody run until they wait again."""
        self._micros += int(seconds * 1e6)
        while self._sleepers and self._sleepers[0][0] <= self._micros:
            heapq.heappop(self._sleepers)[2].set()
        await self.settle()

    async def settle(self) -> None:
        """Let other tasks run for a while without moving time."""
        for _ in range(_SETTLE_TURNS):
            await anyio.lowlevel.checkpoint()
