"""How fast one cluster is asked: as fast as it answers, and less where it says it is too much.

The way of TCP: each round of answers lets one more request be in flight, each round with a refusal
(429) halves them. Until the time that the server names with it, none is sent at all.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from engine.ports import Clock

_UNSAID = 1.0
"""Seconds until it is asked again, where the server does not say."""
_PAUSE = 60.0
"""A server that wants to be left alone for longer is asked again after so many seconds."""


class Pace:
    """How many requests may be in flight, and from when on. Pure; times are monotonic seconds."""

    def __init__(self, most: int) -> None:
        self._most = self._window = float(most)
        self._not_before = -math.inf
        self._lowered = -math.inf

    @property
    def limit(self) -> int:
        """How many requests may be in flight: from 1 to the most."""
        return int(self._window)

    def pause(self, now: float) -> float:
        """Return how many seconds nothing may be sent."""
        return max(0.0, self._not_before - now)

    def answered(self) -> None:
        """Take note of an answer that is no refusal."""
        self._window = min(self._most, self._window + 1 / self._window)

    def refused(self, sent: float, now: float, asked: float | None) -> None:
        """Take note of a refusal of what was sent at a time; `asked` is the server's Retry-After.

        What was sent before the last one told is of the same round, and is answered for already.
        """
        self._not_before = max(self._not_before, now + min(asked or _UNSAID, _PAUSE))
        if sent > self._lowered:
            self._window = max(1.0, self._window / 2)
            self._lowered = now


class Turns:
    """Lets requests to one cluster go in the order that they came, at its pace."""

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self._pace = Pace(most)
        self._flying = 0
        self._line: deque[anyio.Event] = deque()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a place; what happens inside is in flight."""
        await self._arrive()
        try:
            yield
        finally:
            self._flying -= 1
            self._call()

    def answered(self) -> None:
        """Take note of an answer that is no refusal."""
        self._pace.answered()
        self._call()

    def refused(self, sent: float, asked: float | None) -> None:
        """Take note of a refusal (429) of what was sent at a time."""
        self._pace.refused(sent, self._clock.monotonic(), asked)

    async def _arrive(self) -> None:
        if self._line or self._flying >= self._pace.limit:
            called = anyio.Event()
            self._line.append(called)
            try:
                await called.wait()
            except BaseException:
                # Called just when it was cancelled, it has a place to give back.
                if called.is_set():
                    self._flying -= 1
                else:
                    self._line.remove(called)
                self._call()
                raise
        else:
            self._flying += 1
        try:
            while pause := self._pace.pause(self._clock.monotonic()):
                await self._clock.sleep(pause)
        except BaseException:
            self._flying -= 1
            self._call()
            raise

    def _call(self) -> None:
        """Give the free places to those that wait longest."""
        while self._line and self._flying < self._pace.limit:
            self._flying += 1
            self._line.popleft().set()
