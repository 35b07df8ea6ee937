"""The machine's own time and chance: the only clock outside of tests."""

from __future__ import annotations

import random
import secrets
import time
import uuid

import anyio

from events.event import EventId, Micros


class SystemClock:
    """Implements `engine.ports.Clock`."""

    def now(self) -> Micros:
        """Wall time, UTC microseconds."""
        return Micros(time.time_ns() // 1000)

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await anyio.sleep(seconds)

    def random(self) -> float:
        """A number in [0, 1), for jitter."""
        return random.random()  # noqa: S311 (jitter is no secret)

    def event_id(self) -> EventId:
        """A fresh UUIDv7 (RFC 9562, section 5.7): 48 bits of milliseconds, 74 of chance."""
        milliseconds = time.time_ns() // 1_000_000
        chance = secrets.randbits(74)
        value = (milliseconds & ((1 << 48) - 1)) << 80 | 0x7 << 76
        value |= (chance >> 62) << 64 | 0b10 << 62 | chance & ((1 << 62) - 1)
        return EventId(str(uuid.UUID(int=value)))
