"""The log as the engine's parts see it: each append is a span, timed, and each event carries its
traceparent.

So no part that appends has to think of traces, and none can forget to.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

from msgspec.structs import replace

from engine.telemetry import spans
from engine.telemetry.instruments import APPEND_DURATION
from engine.telemetry.lag import Lag
from engine.telemetry.spans import MAX_LINKS, Cause
from events.event import Blob, Digest, Event, EventId, NewEvent, Position, StreamName, Version
from events.log import Appended, EventLog, LogError

_MAX_NOTED = 50
"""Events of one append that its span lists; the others are counted."""
_log = logging.getLogger(__name__)


class TracedLog:
    """An `EventLog` in front of another. `lag` is told of what was appended."""

    def __init__(
        self, log: EventLog, monotonic: Callable[[], float], lag: Lag | None = None
    ) -> None:
        self._log, self._monotonic, self._lag = log, monotonic, lag

    @property
    def log_id(self) -> str:
        """Which log this is."""
        return self._log.log_id

    async def append(self, events: Sequence[NewEvent], blobs: Collection[Blob] = ()) -> Appended:
        """Append; see `EventLog.append`."""
        with spans.span("append", {"trueup.events": len(events)}):
            said = spans.traceparent()
            if said:
                events = [
                    event if event.traceparent else replace(event, traceparent=said)
                    for event in events
                ]
            began = self._monotonic()
            try:
                appended = await self._log.append(events, blobs)
            except LogError as error:
                APPEND_DURATION.record(self._monotonic() - began, {"error.type": error.code})
                raise
            APPEND_DURATION.record(self._monotonic() - began)
            if self._lag is not None:
                self._lag.appended(appended.last)
            if spans.is_recording():
                _note(events, appended)
            return appended

    async def read(
        self,
        after: Position,
        limit: int = 1000,
        *,
        stream: StreamName | None = None,
        types: Collection[str] | None = None,
    ) -> Sequence[Event]:
        """Read; see `EventLog.read`."""
        return await self._log.read(after, limit, stream=stream, types=types)

    async def read_at(self, positions: Collection[Position]) -> Sequence[Event]:
        """Read the events at these positions."""
        return await self._log.read_at(positions)

    async def find(self, event_id: EventId) -> Position | None:
        """Return where the event with this id is; see `EventLog.find`."""
        return await self._log.find(event_id)

    async def head(self) -> Position:
        """Return the last position."""
        return await self._log.head()

    async def version(self, stream: StreamName) -> Version:
        """Return a stream's version."""
        return await self._log.version(stream)

    async def position_at(self, micros: int) -> Position:
        """Return the last position recorded not after a time."""
        return await self._log.position_at(micros)

    def follow(self, after: Position, limit: int = 1000) -> AsyncIterator[Sequence[Event]]:
        """Follow; see `EventLog.follow`."""
        return self._log.follow(after, limit)

    async def put(self, blobs: Collection[Blob]) -> None:
        """Keep bodies ahead of the events that will name them."""
        await self._log.put(blobs)

    async def blobs(self, digests: Collection[Digest]) -> Mapping[Digest, bytes]:
        """Return the bodies under these digests."""
        return await self._log.blobs(digests)

    async def erase(self, digests: Collection[Digest]) -> None:
        """Erase bodies, for good."""
        await self._log.erase(digests)

    async def erased(self, digests: Collection[Digest]) -> frozenset[Digest]:
        """Return those of these digests whose bodies were erased."""
        return await self._log.erased(digests)


def cause(event: Event) -> Cause:
    """Return an event as a cause."""
    return Cause(event.position, event.traceparent)


async def link_to(log: EventLog, positions: Collection[int], how: str = "cause") -> None:
    """Link the current span to the traces in which the events at these positions were written.

    Reads the log only where the span is recorded. A log that cannot be read now costs the links,
    and nothing else.
    """
    wanted = sorted({Position(position) for position in positions if position})[-MAX_LINKS:]
    if not wanted or not spans.is_recording():
        return
    try:
        found = await log.read_at(wanted)
    except LogError as error:
        _log.debug("a span goes without links: %s", error)
        return
    spans.link([cause(event) for event in found], how)


def _note(events: Sequence[NewEvent], appended: Appended) -> None:
    placed = zip(events, appended.positions, appended.versions, strict=True)
    for event, position, version in list(placed)[:_MAX_NOTED]:
        spans.note(
            type(event.fact).__name__,
            {
                "trueup.position": position,
                "trueup.stream": event.stream,
                "trueup.version": version,
            },
        )
