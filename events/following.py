"""How any log is followed: page after page of the past, then whatever comes, without a hole."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

import anyio

from events.event import Event, Position
from events.log import LogCorrupt, LogUnavailable

_log = logging.getLogger(__name__)


class Signal:
    """Tells everybody who waits that something may have changed. It may be given too often."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def give(self) -> None:
        """Wake everybody who holds a ticket."""
        given, self._event = self._event, anyio.Event()
        given.set()

    def ticket(self) -> anyio.Event:
        """Take this before looking, and wait for it after: nothing in between is missed."""
        return self._event


class Readable(Protocol):
    """What following needs of a log."""

    async def read(self, after: Position, limit: int = 1000) -> Sequence[Event]:
        """Read what comes after a position, without a filter."""
        ...

    async def head(self) -> Position:
        """Return the last position."""
        ...


async def follow(
    log: Readable, after: Position, limit: int, changed: Signal, poll: float | None
) -> AsyncGenerator[Sequence[Event], None]:
    """Yield pages of what comes after a position, and wait where there is nothing yet.

    `changed` is a hint; without it the log is looked at every `poll` seconds (None: only when
    hinted). A log that cannot be reached is waited for. Raises `LogCorrupt` on a hole, and where
    the log ends before the position that was asked for.
    """
    position = after
    while True:
        ticket = changed.ticket()
        try:
            page = await log.read(position, limit)
            if not page:
                await _check_end(log, position)
        except LogUnavailable as error:
            _log.warning("following the log from %d: %s", position, error)
            page = ()
        if page:
            yield page
            position = page[-1].position
            continue
        with anyio.move_on_after(poll):
            await ticket.wait()


async def _check_end(log: Readable, position: Position) -> None:
    """Make sure that a log that shows nothing after a position really ends there."""
    head = await log.head()
    if head < position:
        raise LogCorrupt(
            f"the log ends at position {head}, and {position} was read from it before: "
            "an older copy of the database was put in place; restore the newest one"
        )
    if head > position and not await log.read(position, 1):
        raise LogCorrupt(f"position {position + 1} is missing, and {head} is there")


def check_dense(events: Sequence[Event], after: Position) -> None:
    """Raise `LogCorrupt` where events read without a filter do not follow on one another."""
    if events and (events[0].position != after + 1 or events[-1].position != after + len(events)):
        there = {event.position for event in events}
        missing = next(
            place for place in range(after + 1, events[-1].position) if place not in there
        )
        raise LogCorrupt(
            f"position {missing} is missing from the log: events were removed from the database; "
            "restore it from a backup"
        )
