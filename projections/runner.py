"""Keeps a group of views: reads the log, folds, stores; first the past, then live."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import cast

from anyio import TASK_STATUS_IGNORED
from anyio.abc import TaskStatus

from events.event import Event, Position
from events.log import EventLog, LogError, LogUnavailable
from projections.batch import Group
from projections.build import BatchSize, Pace, Report, catch_up, prepare
from projections.clock import Clock
from projections.errors import ViewsUnavailable
from projections.keeper import Keeper
from projections.listeners import BACKLOG_LIMIT, Listeners, Subscription, Watermark
from projections.store import Store

_log = logging.getLogger(__name__)
_LONG_PAST = 10_000
"""Events of which nobody is told one by one, and which are not stored batch by batch."""
_LIVE_LIMIT = 250
"""Events of a batch while live; the past is read in batches that adapt."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
"""Seconds before another try while the database cannot be reached."""


class Runner:
    """Folds one log into a group of views for as long as `epoch` keeps them.

    `watermark` is where the views are; hand it to `PostgresViews` in the same process. `report`
    hears of the progress of a build at start-up and of catching up. Of views in `shards` parts it
    keeps part `shard`; then somebody who leads lays them out (`projections.build.lay_out`).
    """

    def __init__(
        self,
        log: EventLog,
        store: Store,
        group: Group,
        clock: Clock,
        *,
        epoch: int,
        report: Report | None = None,
        shard: int = 0,
        shards: int = 1,
    ) -> None:
        self._log, self._store, self._group, self._clock = log, store, group, clock
        self._epoch, self._report = epoch, report
        self._shard, self._shards = shard, shards
        self._listeners = Listeners()
        self._pause = _FIRST_PAUSE
        self.watermark = Watermark()

    def subscribe(self, limit: int = BACKLOG_LIMIT) -> Subscription:
        """Return what is folded from now on, batch by batch.

        A subscriber more than `limit` events behind is told that it missed them.
        """
        return self._listeners.subscribe(limit)

    async def run(self, *, task_status: TaskStatus[Position] = TASK_STATUS_IGNORED) -> None:
        """Keep the views until cancelled; `task_status` gets the position at which they are live.

        Views that are new, or of another version than stored, are built before. A database that
        cannot be reached is tried again. Raises `FencedOut` when somebody else keeps the views,
        `LogCorrupt` on a hole.
        """
        told = False
        try:
            while True:
                try:
                    async with self._store.session(self._shard) as session:
                        slots = await prepare(
                            self._log,
                            session,
                            self._group,
                            self._clock,
                            epoch=self._epoch,
                            report=self._report,
                            shards=self._shards,
                        )
                        keeper = await Keeper.open(session, self._group, slots, self._clock)
                        self._resume(keeper.position)
                        if not told:
                            task_status.started(keeper.position)
                            told = True
                        await self._keep(keeper)
                except (ViewsUnavailable, LogUnavailable) as error:
                    _log.warning("the views wait %.2f s: %s", self._pause, error)
                    await self._clock.sleep(self._pause)
                    self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        finally:
            self._listeners.end()

    def _resume(self, position: Position) -> None:
        # A commit whose answer was lost moved the views without anybody having heard.
        if position > self.watermark.position:
            self._listeners.miss(position)
        self.watermark.advance(position)

    async def _keep(self, keeper: Keeper) -> None:
        await self._tell(keeper)
        await self._catch_up(keeper)
        following = cast(
            AsyncGenerator[Sequence[Event], None], self._log.follow(keeper.position, _LIVE_LIMIT)
        )
        async with aclosing(following) as batches:
            async for events in batches:
                await self._step(keeper, events)

    async def _catch_up(self, keeper: Keeper) -> None:
        size, pace = BatchSize(), Pace(self._group.views, self._clock, self._report)
        head = await self._log.head()
        if head - keeper.position > _LONG_PAST:
            await catch_up(self._log, keeper, head, self._clock, pace, self._resume)
            await self._tell(keeper)
        while True:
            began = self._clock.monotonic()
            events = await self._log.read(keeper.position, size.limit)
            if not events:
                return
            await self._step(keeper, events)
            size.learn(events, self._clock.monotonic() - began)
            head = max(head, keeper.position)
            pace.step(len(events), keeper.position, head)

    async def _step(self, keeper: Keeper, events: Sequence[Event]) -> None:
        await keeper.advance(events)
        self._pause = _FIRST_PAUSE
        self.watermark.advance(keeper.position)
        self._listeners.hear(keeper.position, events)
        await self._tell(keeper)

    async def _tell(self, keeper: Keeper) -> None:
        try:
            await keeper.tell(self._log)
        except LogError as error:
            # The views do not depend on it, and it is tried again with the next batch.
            _log.warning("what was parked could not be said in the log: %s", error)
