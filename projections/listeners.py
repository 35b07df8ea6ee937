"""Who waits for the views: until they reach a position, or to hear of every batch."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from itertools import count
from types import TracebackType

import anyio
from msgspec import Struct

from events.event import START, Event, Position

BACKLOG_LIMIT = 10_000
"""How many events a subscriber may be behind before it misses some."""


class Folded(Struct, frozen=True):
    """A batch that all views have folded: they are at `position` now, or further.

    `missed` (and no events) means that the subscriber was slow and events up to `position` were
    left out: look at everything.
    """

    position: Position
    events: Sequence[Event]
    missed: bool = False


class Watermark:
    """The position that all views have reached, and who waits for a higher one."""

    def __init__(self) -> None:
        self._position = START
        self._waiting: list[tuple[Position, int, anyio.Event]] = []
        self._number = count()

    @property
    def position(self) -> Position:
        """The highest position that was reached so far."""
        return self._position

    def advance(self, position: Position) -> None:
        """Note that the views have reached a position, and wake who waited for it."""
        self._position = max(self._position, position)
        while self._waiting and self._waiting[0][0] <= self._position:
            heapq.heappop(self._waiting)[2].set()

    async def reach(self, position: Position) -> None:
        """Wait until the views have reached a position."""
        if position <= self._position:
            return
        event = anyio.Event()
        entry = (position, next(self._number), event)
        heapq.heappush(self._waiting, entry)
        try:
            await event.wait()
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)
                heapq.heapify(self._waiting)


class Subscription:
    """What the views fold from now on, batch by batch: `async for` over `Folded`.

    Ends when the runner ends. Close it when done (`async with` does).
    """

    def __init__(self, listeners: Listeners, limit: int) -> None:
        self._listeners, self._limit = listeners, limit
        self._backlog: deque[Folded] = deque()
        self._behind = 0
        self._wake = anyio.Event()
        self._ended = False

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Folded:
        while not self._backlog:
            if self._ended:
                raise StopAsyncIteration
            self._wake = anyio.Event()
            await self._wake.wait()
        item = self._backlog.popleft()
        self._behind -= len(item.events)
        return item

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hear no more; what was heard already can still be read."""
        self._listeners.remove(self)
        self.end()

    def hear(self, folded: Folded) -> None:
        """Take a batch; past the limit it and all that waits are missed."""
        if self._behind + len(folded.events) > self._limit:
            self.miss(folded.position)
            return
        self._behind += len(folded.events)
        self._backlog.append(folded)
        self._wake.set()

    def miss(self, position: Position) -> None:
        """Drop what waits and say so."""
        self._backlog.clear()
        self._behind = 0
        self._backlog.append(Folded(position, (), missed=True))
        self._wake.set()

    def end(self) -> None:
        """Let the subscriber come to its end once it has read everything."""
        self._ended = True
        self._wake.set()


class Listeners:
    """All subscriptions of one runner."""

    def __init__(self) -> None:
        self._subscriptions: list[Subscription] = []
        self._ended = False

    def subscribe(self, limit: int = BACKLOG_LIMIT) -> Subscription:
        """Return what is folded from now on; the subscriber may be `limit` events behind."""
        subscription = Subscription(self, limit)
        if self._ended:
            subscription.end()
        else:
            self._subscriptions.append(subscription)
        return subscription

    def hear(self, position: Position, events: Sequence[Event]) -> None:
        """Tell everyone of a batch."""
        folded = Folded(position, events)
        for subscription in self._subscriptions:
            subscription.hear(folded)

    def miss(self, position: Position) -> None:
        """Tell everyone that batches up to a position were folded unheard."""
        for subscription in self._subscriptions:
            subscription.miss(position)

    def end(self) -> None:
        """Tell everyone that there is no more to hear."""
        self._ended = True
        for subscription in self._subscriptions:
            subscription.end()
        self._subscriptions.clear()

    def remove(self, subscription: Subscription) -> None:
        """Forget a subscription; one that is not known is no matter."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
