"""Ties gauges to what they tell, and makes the page of metrics."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from engine.decide.decision import PLAN_CAUSES
from engine.fleet import Fleet, ParkedViews, ages
from engine.http.api import Workload
from engine.notify.send import End
from engine.ports import Clock
from engine.reconcile.queue import TargetQueue
from engine.telemetry import instruments
from engine.telemetry.instruments import Breakdown, broken_down
from engine.telemetry.lag import Lag
from engine.telemetry.sdk import Telemetry
from engine.worlds import ClusterWorld
from events.log import LogError
from projections.errors import ViewError
from projections.listeners import Watermark

logger = logging.getLogger(__name__)
_COUNT_TIME = 5.0
"""Seconds that counting the fleet may take, before the page goes out with what was counted last."""
_COUNT_EVERY = 30.0
"""Seconds between counts where metrics are sent, and nobody fetches a page."""


class Measuring:
    """What one engine measures."""

    def __init__(self, telemetry: Telemetry, clock: Clock, labels: Iterable[str]) -> None:
        self._telemetry, self._clock = telemetry, clock
        self._fleet: Fleet | None = None
        self._ask_unsigned: Callable[[], Awaitable[tuple[int, float]]] | None = None
        self._unsigned = 0.0
        self._queue: TargetQueue | None = None
        self.lag = Lag(clock.monotonic)
        Breakdown.cluster = "cluster" in labels
        Breakdown.application = "application" in labels
        instruments.LEADING.ask(lambda: [(0, {})])

    @asynccontextmanager
    async def leading(
        self,
        views: ParkedViews,
        watermark: Watermark,
        unsigned: Callable[[], Awaitable[tuple[int, float]]],
    ) -> AsyncIterator[None]:
        """Tell of the log, the views and the fleet, for as long as this engine has the lease.

        `unsigned` is asked how many events are not signed, and for how many seconds.
        """
        self._ask_unsigned = unsigned
        instruments.UNSIGNED_AGE.ask(lambda: [(self._unsigned, {})])
        self.lag.tell(lambda: watermark.position)
        self._fleet = Fleet(views, self._clock)
        self._fleet.tell()
        instruments.LEADING.ask(lambda: [(1, {})])
        _begin_counters()
        try:
            async with anyio.create_task_group() as group:
                self._keep_counted(group)
                yield
                group.cancel_scope.cancel()
        finally:
            for instrument in instruments.ALL:
                if isinstance(instrument, instruments.Gauge) and instrument not in _OWN:
                    instrument.ask(None)
            instruments.LEADING.ask(lambda: [(0, {})])
            self._fleet = self._ask_unsigned = None

    def works_on(
        self, queue: TargetQueue, clusters: ClusterWorld, caches: Mapping[str, Callable[[], int]]
    ) -> None:
        """Tell of the work, too; `caches` give the bytes that each has."""
        self._queue = queue
        instruments.QUEUE_DEPTH.ask(lambda: [(queue.depth, {})])
        instruments.QUEUE_WORKING.ask(lambda: [(queue.working, {})])
        instruments.OBSERVATION_AGE.ask(lambda: ages(clusters.ages()))
        instruments.CACHES.ask(
            lambda: [(weight(), {"trueup.cache": name}) for name, weight in caches.items()]
        )

    def workload(self) -> Workload | None:
        """Return what there is to do; None where nothing is done here."""
        return Workload(self._queue.depth, self._queue.working) if self._queue else None

    async def page(self, accept: str) -> tuple[bytes, str]:
        """Return the page for Prometheus in the form that an Accept header asks for."""
        await self._count()
        return self._telemetry.page(accept)

    def _keep_counted(self, group: TaskGroup) -> None:
        if self._telemetry.is_pushed:
            group.start_soon(self._keep_counting)

    async def _keep_counting(self) -> None:
        while True:
            await self._count()
            await self._clock.sleep(_COUNT_EVERY)

    async def _count(self) -> None:
        if self._fleet is None or self._ask_unsigned is None:
            return
        try:
            with anyio.fail_after(_COUNT_TIME):
                _, self._unsigned = await self._ask_unsigned()
                await self._fleet.refresh()
        except (LogError, ViewError, TimeoutError) as error:
            # The other metrics are what tells why; they must not wait for the database.
            logger.warning("the fleet could not be counted for metrics: %s", error)


def _begin_counters() -> None:
    """Have counters begin at zero: of a series that begins at one, no increase is seen."""
    for part in ("reconcile", "task"):
        instruments.FAULTS.add(0, {"trueup.part": part})
    instruments.KEPT_FORMS_READ.add(0)
    for end in End:
        instruments.NOTIFICATIONS.add(0, {"trueup.outcome": end.value})
    if not broken_down("any", "any"):
        for outcome in ("applied", "failed"):
            for cause in PLAN_CAUSES:
                labels = {"trueup.outcome": outcome, "trueup.cause": cause}
                instruments.CORRECTIONS.add(0, labels)


def batch(events: int, seconds: float) -> None:
    """Measure a batch that the log's writer tried."""
    instruments.BATCH_EVENTS.record(events)
    instruments.BATCH_DURATION.record(seconds)


_OWN = (instruments.MEMORY, instruments.CPU_TIME, instruments.LEADING)
"""What an engine tells without the lease, too."""
