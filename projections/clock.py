"""The time that the machinery of the views needs; `engine.ports.Clock` is one.

Pure.
"""

from __future__ import annotations

from typing import Protocol

from events.event import EventId, Micros


class Clock(Protocol):
    """Time, and ids made of it, so that tests can have their own."""

    def now(self) -> Micros:
        """Wall time, UTC microseconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def event_id(self) -> EventId:
        """A fresh UUIDv7."""
        ...
