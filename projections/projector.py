"""Keeps as many shards of the views as are its: one process of several, on this machine or others.

Each that takes part holds a place, `projector/N`, under a lease. Shard S is kept by the one whose
rank among those that are there is S modulo their number, under a lease of its own, `views/S`, whose
epoch fences whoever kept it before at every commit. So shards move when one comes or goes: one that
ended is succeeded at once on the same machine, any other when its leases end.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack

import anyio
from anyio.abc import TaskGroup

from events.log import EventLog, LogUnavailable
from projections.batch import Group
from projections.build import Report
from projections.clock import Clock
from projections.errors import FencedOut, ViewsNotReady, ViewsUnavailable
from projections.lease import IsGone, Lease, LeaseLost, hold, holders
from projections.runner import Runner
from projections.store import Pool, Store

_log = logging.getLogger(__name__)
SHARD, PLACE = "views/", "projector/"
SECONDS = 5.0
"""For how long a lease is good."""
_LOOK = 0.5
"""Seconds between looks at who is there."""
_PASSING = (FencedOut, LeaseLost, LogUnavailable, ViewsNotReady, ViewsUnavailable, TimeoutError)


class Projector:
    """Takes its share of the shards of a group of views, as `owner`, and folds them.

    Somebody who leads lays the views out (`projections.build.lay_out`); until then, and while there
    is one shard alone, which the engine keeps itself, it waits. `is_gone` says whether an owner has
    ended for certain. `kept` are the shards that are folded here now.
    """

    def __init__(
        self,
        log: EventLog,
        pool: Pool,
        group: Group,
        clock: Clock,
        owner: str,
        *,
        is_gone: IsGone,
        seconds: float = SECONDS,
        report: Report | None = None,
    ) -> None:
        self._log, self._pool, self._group, self._clock = log, pool, group, clock
        self._owner, self._is_gone, self._seconds = owner, is_gone, seconds
        self._report = report
        self._tasks: dict[tuple[int, int], anyio.CancelScope] = {}
        self._place: Lease | None = None
        self.kept: set[int] = set()

    async def run(self) -> None:
        """Keep shards until cancelled, and then give them back.

        What cannot be reached is tried again. Raises `LogCorrupt` on a hole.
        """
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._leave)
            group = await stack.enter_async_context(anyio.create_task_group())
            while True:
                try:
                    await self._look(group)
                except ViewsUnavailable as error:
                    _log.warning("shards cannot be looked at: %s", error)
                await self._clock.sleep(_LOOK)

    async def _look(self, group: TaskGroup) -> None:
        shards = await self._layout()
        wanted: set[tuple[int, int]] = set()
        if shards > 1:
            if self._place is None or self._place.lost.is_set():
                await self._join(group, shards)
            wanted = {(shard, shards) for shard in await self._share(shards)}
        for key in self._tasks.keys() - wanted:
            self._tasks.pop(key).cancel()
        for key in wanted - self._tasks.keys():
            self._tasks[key] = anyio.CancelScope()
            group.start_soon(self._keep, *key, self._tasks[key])

    async def _layout(self) -> int:
        """Return how many shards there are; 0 while it is being decided."""
        async with Store(self._pool).session() as session:
            rows = await session.fetch("layout", list(self._group.views))
        return rows[0]["shards"] if len(rows) == 1 else 0

    async def _join(self, group: TaskGroup, shards: int) -> None:
        """Take the first free place, if there is one: there are no more of them than shards."""
        for place in range(shards):
            name = f"{PLACE}{place}"
            lease = await Lease.take(self._pool, name, self._owner, self._seconds, self._is_gone)
            if lease is not None:
                self._place = lease
                group.start_soon(lease.keep)
                return

    async def _share(self, shards: int) -> list[int]:
        """Return the shards that are ours, by who is there."""
        if self._place is None:
            return []
        there = sorted(
            int(name.removeprefix(PLACE))
            for name, held in (await holders(self._pool, PLACE)).items()
            if held.seconds_left > 0 and not self._is_gone(held.owner)
        )
        ours = int(self._place.name.removeprefix(PLACE))
        if ours not in there:
            return []
        rank = there.index(ours)
        return [shard for shard in range(shards) if shard % len(there) == rank]

    async def _keep(self, shard: int, shards: int, scope: anyio.CancelScope) -> None:
        """Fold one shard for as long as it is ours."""
        with scope:
            while True:
                try:
                    await self._fold(shard, shards)
                except _PASSING as error:
                    _log.warning("shard %d of %d waits: %s", shard, shards, error)
                    await self._clock.sleep(_LOOK)

    async def _fold(self, shard: int, shards: int) -> None:
        name = f"{SHARD}{shard}"
        held = hold(self._pool, name, self._owner, self._seconds, is_gone=self._is_gone)
        async with held as lease:
            _log.info("keeping shard %d of %d (epoch %d)", shard, shards, lease.epoch)
            self.kept.add(shard)
            try:
                await Runner(
                    self._log,
                    Store(self._pool),
                    self._group,
                    self._clock,
                    epoch=lease.epoch,
                    report=self._report,
                    shard=shard,
                    shards=shards,
                ).run()
            finally:
                self.kept.discard(shard)

    async def _leave(self) -> None:
        """Give our place back, so that the others need not wait for its end."""
        if self._place is None:
            return
        with anyio.move_on_after(self._seconds, shield=True):
            try:
                await self._place.release()
            except ViewsUnavailable as error:
                _log.warning("the place %s could not be given back: %s", self._place.name, error)
