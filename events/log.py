"""The log: append, read, follow. Everything that happened goes through `EventLog.append`.

Any visible set of events is a prefix of the log, so a reader that asks for what comes after its
checkpoint can miss nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from events.event import Blob, Digest, Event, EventId, NewEvent, Position, StreamName, Version


class LogError(Exception):
    """What can go wrong with the log. `code` is stable; the message says what to do."""

    code = "log"


class WrongVersion(LogError):
    """A stream was not at the version that an append expected; nothing of it was written."""

    code = "wrong-version"

    def __init__(self, stream: StreamName, expected: Version, actual: Version) -> None:
        super().__init__(f"{stream} is at version {actual}, not {expected}: read it and try again")
        self.stream, self.expected, self.actual = stream, expected, actual


class IdReused(LogError):
    """An event id came back with other content: a fault of the caller, never a retry."""

    code = "event-id-reused"


class LogUnavailable(LogError):
    """The log cannot be reached now; whether the append happened may be unknown.

    Appending the same events again is safe: the ids tell.
    """

    code = "log-unavailable"


class LogCorrupt(LogError):
    """The log breaks its own promise (a hole, a missing blob): stop, and look."""

    code = "log-corrupt"


class Appended(Struct, frozen=True, gc=False):
    """Where events went: `positions[i]` and `versions[i]` are those of the i-th event given."""

    positions: tuple[Position, ...]
    versions: tuple[Version, ...]

    @property
    def last(self) -> Position:
        """The highest position."""
        return max(self.positions)


class BodyErased(LogError):
    """A body that is needed was redacted: nobody can read it any more."""

    code = "body-redacted"

    def __init__(self, digest: Digest) -> None:
        stream = f"body/default/{digest.removeprefix('sha256:')}"
        super().__init__(
            f"the body {digest} was redacted; `trueup events --stream {stream}` says why"
        )
        self.digest = digest


class EventLog(Protocol):
    """An append-only log of events, with the bodies that they name by digest."""

    @property
    def log_id(self) -> str:
        """Which log this is: a UUID made with it, never changed."""
        ...

    async def append(self, events: Sequence[NewEvent], blobs: Collection[Blob] = ()) -> Appended:
        """Append all of `events`, in order, or none; `blobs` are durable before or with them.

        The same events again (by id) return their first positions and write nothing. Raises
        `WrongVersion`, `IdReused` or `LogUnavailable`; ValueError for an empty append.
        """
        ...

    async def read(
        self,
        after: Position,
        limit: int = 1000,
        *,
        stream: StreamName | None = None,
        types: Collection[str] | None = None,
    ) -> Sequence[Event]:
        """Read at most `limit` events after a position, in order, of one stream or some types."""
        ...

    async def read_at(self, positions: Collection[Position]) -> Sequence[Event]:
        """Read the events at these positions, in order; unknown positions are left out."""
        ...

    async def find(self, event_id: EventId) -> Position | None:
        """Return where the event with this id is; None where no such id is remembered."""
        ...

    async def head(self) -> Position:
        """Return the last position, `START` for an empty log."""
        ...

    async def version(self, stream: StreamName) -> Version:
        """Return a stream's version, `ABSENT` for one without events."""
        ...

    async def position_at(self, micros: int) -> Position:
        """Return the last position recorded not after a time (UTC microseconds)."""
        ...

    def follow(self, after: Position, limit: int = 1000) -> AsyncIterator[Sequence[Event]]:
        """Yield batches (never empty) of what comes after a position: first the past, then live.

        Raises `LogCorrupt` on a hole. Close it (`contextlib.aclosing`) when done.
        """
        ...

    async def put(self, blobs: Collection[Blob]) -> None:
        """Keep bodies ahead of the events that will name them."""
        ...

    async def blobs(self, digests: Collection[Digest]) -> Mapping[Digest, bytes]:
        """Return the bodies under these digests; those that are not there are left out."""
        ...

    async def erase(self, digests: Collection[Digest]) -> None:
        """Erase bodies, for good: they are not kept again either. Unknown digests are left out.

        Every event stays, and so does the proof: it is over digests.
        """
        ...

    async def erased(self, digests: Collection[Digest]) -> frozenset[Digest]:
        """Return those of these digests whose bodies were erased."""
        ...
