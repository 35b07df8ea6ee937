"""From what a cluster's reader saw to events: a batch is what queued up while the last one went.

What was handed over first is appended first. While the log cannot be reached, the reader waits
once the queue is full, and the same events are appended again until they are in.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterable

import anyio
from msgspec import Struct

from engine.bounded import MIB
from engine.clusters.backoff import Backoff
from engine.clusters.settings import ClusterSettings
from engine.ports import Clock
from engine.telemetry import spans
from engine.telemetry.instruments import OBSERVATIONS, broken_down
from events.catalog import Fact, ObjectsObserved
from events.event import Actor, Blob, Micros, NewEvent, StreamName
from events.log import EventLog, LogUnavailable
from events.vocabulary import Observation

_MAX_OBJECTS = 200
"""Objects in one event."""
_MAX_ITEMS = 1000
"""Observations and facts in one append."""
_MAX_BYTES = 16 * MIB
"""Bodies in one append; one item may go over."""
_QUEUE_ITEMS = 10_000
_QUEUE_BYTES = 64 * MIB

_logger = logging.getLogger(__name__)


class _Item(Struct, frozen=True):
    content: Fact | Observation
    source: str
    blobs: tuple[Blob, ...]
    at: Micros
    size: int


class Recorder:
    """Appends what one cluster's reader saw to that cluster's stream."""

    def __init__(
        self,
        log: EventLog,
        stream: StreamName,
        actor: Actor,
        clock: Clock,
        settings: ClusterSettings,
    ) -> None:
        self._log, self._stream, self._actor, self._clock = log, stream, actor, clock
        self._settings = settings
        self._queue: deque[_Item] = deque()
        self._bytes = 0
        self._added = 0
        self._done = 0
        self._changed = anyio.Condition()
        self._more = anyio.Event()

    @property
    def cluster(self) -> str:
        """The cluster's name."""
        return self._stream.rpartition("/")[2]

    def fact(self, fact: Fact) -> None:
        """Have a fact appended."""
        self._add(_Item(fact, "", (), self._clock.now(), 0))

    def observation(
        self, observation: Observation, source: str, blobs: Collection[Blob] = ()
    ) -> None:
        """Have an observation appended, with the bodies that it names."""
        size = sum(len(blob.body) for blob in blobs)
        self._add(_Item(observation, source, tuple(blobs), self._clock.now(), size))

    async def room(self) -> None:
        """Wait until the queue is not full."""
        if self._is_full():
            async with self._changed:
                while self._is_full():
                    await self._changed.wait()

    async def flush(self) -> None:
        """Wait until all that was handed over before this call is in the log."""
        target = self._added
        async with self._changed:
            while self._done < target:
                await self._changed.wait()

    async def run(self) -> None:
        """Append for ever. Raises what the log raises, except that it cannot be reached now.

        What an earlier run left unappended is dropped: the reader begins with what is recorded.
        """
        self._queue.clear()
        self._bytes, self._done = 0, self._added
        while True:
            while self._queue:
                items = self._take()
                blobs = {blob.digest: blob for item in items for blob in item.blobs}
                said: spans.Attributes = {
                    "k8s.cluster.name": self.cluster,
                    "trueup.observations": len(items),
                    "trueup.source": items[0].source,
                }
                seen = sum(isinstance(item.content, Observation) for item in items)
                OBSERVATIONS.add(seen, broken_down(self.cluster))
                with spans.span("observe", said, root=True, began=items[0].at):
                    await self._append(self._events(items), blobs.values())
                async with self._changed:
                    self._done += len(items)
                    self._changed.notify_all()
            self._more = anyio.Event()
            await self._more.wait()

    def _is_full(self) -> bool:
        return len(self._queue) >= _QUEUE_ITEMS or self._bytes >= _QUEUE_BYTES

    def _add(self, item: _Item) -> None:
        self._queue.append(item)
        self._bytes += item.size
        self._added += 1
        self._more.set()

    def _take(self) -> list[_Item]:
        items: list[_Item] = []
        size = 0
        while self._queue and len(items) < _MAX_ITEMS and size < _MAX_BYTES:
            item = self._queue.popleft()
            self._bytes -= item.size
            size += item.size
            items.append(item)
        return items

    def _events(self, items: Iterable[_Item]) -> list[NewEvent]:
        events: list[NewEvent] = []
        group: list[Observation] = []
        source, at = "", Micros(0)

        def close() -> None:
            if group:
                events.append(self._event(ObjectsObserved(tuple(group), source), at))
                group.clear()

        for item in items:
            if isinstance(item.content, Observation):
                if item.source != source or len(group) >= _MAX_OBJECTS:
                    close()
                if not group:
                    source, at = item.source, item.at
                group.append(item.content)
            else:
                close()
                events.append(self._event(item.content, item.at))
        close()
        return events

    def _event(self, fact: Fact, at: Micros) -> NewEvent:
        return NewEvent(
            event_id=self._clock.event_id(),
            stream=self._stream,
            fact=fact,
            actor=self._actor,
            occurred_at=at,
        )

    async def _append(self, events: list[NewEvent], blobs: Collection[Blob]) -> None:
        backoff = Backoff(self._clock, self._settings)
        while True:
            try:
                await self._log.append(events, blobs)
            except LogUnavailable as error:
                _logger.warning(
                    "the log cannot be reached; observations of %s wait: %s", self._stream, error
                )
                await self._clock.sleep(backoff.next())
            else:
                return
