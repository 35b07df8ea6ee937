"""Follows views that others keep: where all their shards are, and what they have folded.

To whoever waits for the views, or hears of what they fold, it is what a `Runner` is. It asks the
database where the shards are only while some are behind the log.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import cast

from anyio import TASK_STATUS_IGNORED
from anyio.abc import TaskStatus

from events.event import Event, Position
from events.log import EventLog, LogUnavailable
from projections.batch import Group
from projections.clock import Clock
from projections.errors import ViewsUnavailable
from projections.listeners import BACKLOG_LIMIT, Listeners, Subscription, Watermark
from projections.store import Session, Store

_log = logging.getLogger(__name__)
_LIMIT = 250
_QUICK, _SLOW = 0.002, 0.05
"""Seconds between looks at the shards: ever longer while they do not move."""
_PAUSE = 0.5
"""Seconds before another try while the database cannot be reached, or the views are built."""


class Follower:
    """Tells of views that are kept in shards. `watermark` is the lowest position of them."""

    def __init__(self, log: EventLog, store: Store, group: Group, clock: Clock) -> None:
        self._log, self._store, self._group, self._clock = log, store, group, clock
        self._listeners = Listeners()
        self.watermark = Watermark()

    def subscribe(self, limit: int = BACKLOG_LIMIT) -> Subscription:
        """Return what all shards have folded from now on, batch by batch; see `Runner`."""
        return self._listeners.subscribe(limit)

    async def run(self, *, task_status: TaskStatus[Position] = TASK_STATUS_IGNORED) -> None:
        """Follow until cancelled; `task_status` gets the position at which the views are live.

        A database that cannot be reached is tried again. Raises `LogCorrupt` on a hole.
        """
        told = False
        try:
            while True:
                try:
                    async with self._store.session() as session:
                        at = await self._lowest(session)
                        while at is None:
                            await self._clock.sleep(_SLOW)
                            at = await self._lowest(session)
                        if at > self.watermark.position:
                            self._listeners.miss(at)
                        self.watermark.advance(at)
                        if not told:
                            task_status.started(at)
                            told = True
                        await self._follow(session, self.watermark.position)
                except (ViewsUnavailable, LogUnavailable) as error:
                    _log.warning("the views are followed again in %g s: %s", _PAUSE, error)
                    await self._clock.sleep(_PAUSE)
        finally:
            self._listeners.end()

    async def _follow(self, session: Session, at: Position) -> None:
        following = cast(AsyncGenerator[Sequence[Event], None], self._log.follow(at, _LIMIT))
        async with aclosing(following) as batches:
            async for events in batches:
                await self._step(session, events)

    async def _step(self, session: Session, events: Sequence[Event]) -> None:
        """Tell of these events as they are folded everywhere."""
        pause = _QUICK
        while events:
            lowest = await self._lowest(session)
            folded = 0 if lowest is None else lowest - events[0].position + 1
            if folded <= 0:
                await self._clock.sleep(pause)
                pause = min(pause * 1.5, _SLOW)
                continue
            pause = _QUICK
            some, events = events[:folded], events[folded:]
            self.watermark.advance(some[-1].position)
            self._listeners.hear(some[-1].position, some)

    async def _lowest(self, session: Session) -> Position | None:
        """Return the lowest position of all shards of all views; None where some are not live."""
        (row,) = await session.fetch("lowest", list(self._group.views))
        return Position(row["position"]) if row["views"] == len(self._group.views) else None
