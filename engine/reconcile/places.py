"""The places of all targets' requests: so many at a time, whichever clusters they go to."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

import anyio

from engine.ports import Clock

_PATIENCE = 5.0
"""Seconds until a request without an answer no longer counts among those of all targets."""


class Places:
    """So many places, given in the order in which they were asked for.

    A place that is held for long is given to others while somebody waits: who waits for an answer
    does nothing, and were it counted, clusters that hang would soon have all places. `run` must be
    running for that.
    """

    def __init__(self, total: int, clock: Clock) -> None:
        self._total, self._clock = total, clock
        self._held: OrderedDict[object, float] = OrderedDict()
        self._line: deque[tuple[object, anyio.Event]] = deque()
        self._waited_for = anyio.Event()

    @property
    def held(self) -> int:
        """How many places are taken."""
        return len(self._held)

    async def run(self) -> NoReturn:
        """Give what is held for too long to those that wait."""
        while True:
            while not self._line:
                self._waited_for = anyio.Event()
                await self._waited_for.wait()
            oldest, since = next(iter(self._held.items()))
            left = since + _PATIENCE - self._clock.monotonic()
            if left > 0:
                await self._clock.sleep(left)
            else:
                self._give(oldest)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold a place."""
        place = object()
        if self._line or len(self._held) >= self._total:
            await self._wait(place)
        else:
            self._held[place] = self._clock.monotonic()
        try:
            yield
        finally:
            self._give(place)

    async def _wait(self, place: object) -> None:
        called = anyio.Event()
        waiting = (place, called)
        self._line.append(waiting)
        self._waited_for.set()
        try:
            await called.wait()
        except BaseException:
            if called.is_set():
                # Called just when it was cancelled, it has a place to give back.
                self._give(place)
            else:
                self._line.remove(waiting)
            raise

    def _give(self, place: object) -> None:
        """Give a place to whoever waits longest; nothing where it was given before."""
        if self._held.pop(place, None) is None:
            return
        while self._line and len(self._held) < self._total:
            other, called = self._line.popleft()
            self._held[other] = self._clock.monotonic()
            called.set()
