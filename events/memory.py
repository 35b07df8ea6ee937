"""The log in memory: for tests and simulations, held to the same contract tests as Postgres'."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence

from anyio.lowlevel import checkpoint

from events import following
from events.batching import Known, Row, State, decide, prepare
from events.event import (
    ABSENT,
    START,
    Blob,
    Digest,
    Event,
    EventId,
    Micros,
    NewEvent,
    Position,
    StreamName,
    Version,
)
from events.limits import check_blobs, check_page, clamp, digest_bytes, places
from events.log import Appended


class MemoryLog:
    """An `EventLog` that is gone with the process. `clock` gives UTC microseconds."""

    def __init__(
        self, clock: Callable[[], int], log_id: str = "00000000-0000-4000-8000-000000000000"
    ) -> None:
        self._clock = clock
        self._log_id = log_id
        self._events: list[Event] = []
        self._streams: defaultdict[StreamName, list[Event]] = defaultdict(list)
        self._ids: dict[EventId, Known] = {}
        self._blobs: dict[Digest, bytes] = {}
        self._erased: set[Digest] = set()
        self._changed = following.Signal()

    @property
    def log_id(self) -> str:
        """Which log this is."""
        return self._log_id

    async def append(self, events: Sequence[NewEvent], blobs: Collection[Blob] = ()) -> Appended:
        """Append all of `events` or none; see `EventLog.append`."""
        command = prepare(events, blobs)
        await checkpoint()
        streams = {event.stream for event in events}
        versions = {name: Version(len(self._streams[name])) for name in streams}
        now = max(self._clock(), self._events[-1].recorded_at if self._events else 0)
        decision = decide([command], State(Position(len(self._events)), now, versions, self._ids))
        outcome = decision.outcomes[0]
        if not isinstance(outcome, Appended):
            raise outcome
        self._keep(command.blobs)
        for row in decision.rows:
            event = _event(row, Micros(now))
            self._events.append(event)
            self._streams[event.stream].append(event)
            self._ids[event.event_id] = Known(row.position, row.version, row.content)
        if decision.rows:
            self._changed.give()
        return outcome

    async def read(
        self,
        after: Position,
        limit: int = 1000,
        *,
        stream: StreamName | None = None,
        types: Collection[str] | None = None,
    ) -> Sequence[Event]:
        """Read at most `limit` events after a position; see `EventLog.read`."""
        check_page(after, limit)
        await checkpoint()
        if stream is None and types is None:
            return self._events[after : after + limit]
        source = self._events[after:] if stream is None else self._streams.get(stream, [])
        wanted = (
            event
            for event in source
            if event.position > after and (types is None or event.type in types)
        )
        return [event for event, _ in zip(wanted, range(limit), strict=False)]

    async def read_at(self, positions: Collection[Position]) -> Sequence[Event]:
        """Read the events at these positions, in order."""
        wanted = places(positions)
        await checkpoint()
        return [self._events[place - 1] for place in wanted if place <= len(self._events)]

    async def find(self, event_id: EventId) -> Position | None:
        """Return where the event with this id is, None where it is nowhere."""
        await checkpoint()
        known = self._ids.get(event_id)
        return known.position if known else None

    async def head(self) -> Position:
        """Return the last position, `START` for an empty log."""
        await checkpoint()
        return Position(len(self._events))

    async def version(self, stream: StreamName) -> Version:
        """Return a stream's version, `ABSENT` for one without events."""
        await checkpoint()
        return Version(len(self._streams[stream])) if stream in self._streams else ABSENT

    async def position_at(self, micros: int) -> Position:
        """Return the last position recorded not after a time (UTC microseconds)."""
        await checkpoint()
        limit = clamp(micros)
        return max(
            (event.position for event in self._events if event.recorded_at <= limit), default=START
        )

    async def follow(
        self, after: Position, limit: int = 1000
    ) -> AsyncGenerator[Sequence[Event], None]:
        """Yield batches of what comes after a position; see `EventLog.follow`."""
        check_page(after, limit)
        async for page in following.follow(self, after, limit, self._changed, None):
            yield page

    async def put(self, blobs: Collection[Blob]) -> None:
        """Keep bodies ahead of the events that will name them."""
        check_blobs(blobs)
        await checkpoint()
        self._keep(blobs)

    def _keep(self, blobs: Collection[Blob]) -> None:
        self._blobs.update((b.digest, b.body) for b in blobs if b.digest not in self._erased)

    async def blobs(self, digests: Collection[Digest]) -> Mapping[Digest, bytes]:
        """Return the bodies under these digests; those that are not there are left out."""
        for digest in digests:
            digest_bytes(digest)
        await checkpoint()
        return {digest: self._blobs[digest] for digest in digests if digest in self._blobs}

    async def erase(self, digests: Collection[Digest]) -> None:
        """Erase bodies, for good; see `EventLog.erase`."""
        for digest in digests:
            digest_bytes(digest)
        await checkpoint()
        for digest in digests:
            if self._blobs.pop(digest, None) is not None:
                self._erased.add(digest)

    async def erased(self, digests: Collection[Digest]) -> frozenset[Digest]:
        """Return those of these digests whose bodies were erased."""
        for digest in digests:
            digest_bytes(digest)
        await checkpoint()
        return frozenset(self._erased.intersection(digests))


def _event(row: Row, recorded_at: Micros) -> Event:
    item, new = row.prepared, row.prepared.new
    return Event(
        position=row.position,
        stream=new.stream,
        version=row.version,
        event_id=new.event_id,
        type=item.type,
        schema=item.schema,
        recorded_at=recorded_at,
        occurred_at=new.occurred_at,
        actor=new.actor,
        causation=new.causation,
        correlation=new.correlation,
        traceparent=new.traceparent,
        payload=item.payload,
    )
