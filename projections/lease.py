"""Who may act: one holder at a time, by Postgres' clock, fenced by an epoch that only grows."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
from msgspec import Struct

from projections.errors import ViewError, ViewsUnavailable
from projections.queries import QUERIES
from projections.store import Connection, Pool, connected, reachable

_log = logging.getLogger(__name__)
_MARGIN = 0.1
"""The part of the time to live by which we take a lease for lost before Postgres does."""
_RENEWALS = 4
"""How often a lease is renewed in the time that it is good for."""
_LONGEST_WAIT = 1.0
"""Seconds between a standby's looks: a lease may be released long before it expires."""

IsGone = Callable[[str], bool]
"""Whether an owner has ended, for certain: it holds nothing any more, and will do nothing more."""


def _nobody(owner: str) -> bool:
    return False


class LeaseLost(ViewError):
    """The lease may be another's by now: stop, and do nothing more under it."""

    code = "lease-lost"

    def __init__(self, name: str, owner: str, epoch: int) -> None:
        super().__init__(
            f"{owner} no longer holds the lease {name} (epoch {epoch}): it was not renewed in time"
        )
        self.name, self.owner, self.epoch = name, owner, epoch


class Holder(Struct, frozen=True):
    """Who holds a lease, or held it last; `seconds_left` is negative once it is free."""

    owner: str
    epoch: int
    seconds_left: float


def steady() -> float:
    """Seconds that never run backwards and, where the system can say so, count while it sleeps."""
    return time.clock_gettime(_STEADY)


_STEADY: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Lease:
    """A lease that was acquired. `epoch` is higher than that of every holder before.

    `lost` is set once it cannot be relied on any more. `ttl` is in seconds.
    """

    def __init__(
        self,
        pool: Pool,
        name: str,
        owner: str,
        ttl: float,
        epoch: int,
        asked: float,
        clock: Callable[[], float],
    ) -> None:
        self._pool, self._ttl, self._clock = pool, ttl, clock
        self.name, self.owner, self.epoch = name, owner, epoch
        self.lost = anyio.Event()
        self._until = self._good_until(asked)

    @classmethod
    async def acquire(
        cls,
        pool: Pool,
        name: str,
        owner: str,
        ttl: float,
        clock: Callable[[], float] = steady,
        is_gone: IsGone = _nobody,
    ) -> Lease:
        """Wait until the lease is free, or its owner gone, and take it.

        Raises `ViewsUnavailable`.
        """
        waiting = False
        while True:
            lease = await cls.try_acquire(pool, name, owner, ttl, clock)
            if lease is not None:
                return lease
            held = await holder(pool, name)
            if held and held.seconds_left > 0 and is_gone(held.owner):
                _log.info("%s is gone: its lease %s is taken over", held.owner, name)
                await _free(pool, name, held.epoch)
                continue
            left = held.seconds_left if held else 0.0
            if held and not waiting:
                _log.info("standing by: %s holds the lease %s", held.owner, name)
                waiting = True
            await anyio.sleep(min(max(left, 0.01), _LONGEST_WAIT))

    @classmethod
    async def take(
        cls, pool: Pool, name: str, owner: str, ttl: float, is_gone: IsGone = _nobody
    ) -> Lease | None:
        """Take the lease if it is free, or its owner gone; else None. Raises `ViewsUnavailable`."""
        lease = await cls.try_acquire(pool, name, owner, ttl)
        if lease is None and (held := await holder(pool, name)) and is_gone(held.owner):
            await _free(pool, name, held.epoch)
            lease = await cls.try_acquire(pool, name, owner, ttl)
        return lease

    @classmethod
    async def try_acquire(
        cls,
        pool: Pool,
        name: str,
        owner: str,
        ttl: float,
        clock: Callable[[], float] = steady,
    ) -> Lease | None:
        """Take the lease if it is free, None if it is not. Raises `ViewsUnavailable`."""
        if ttl <= 0:
            raise ValueError(f"a lease needs a time to live of more than 0 s, not {ttl}")
        asked = clock()
        async with connected(pool) as connection:
            with reachable():
                epoch = await connection.fetchval(
                    QUERIES["acquire_lease"], name, owner, timedelta(seconds=ttl)
                )
        return None if epoch is None else cls(pool, name, owner, ttl, epoch, asked, clock)

    def check(self) -> None:
        """Raise `LeaseLost` unless the lease is ours for certain. Asks only the local clock."""
        if self.lost.is_set() or self._clock() >= self._until:
            self.lost.set()
            raise LeaseLost(self.name, self.owner, self.epoch)

    async def keep(self) -> None:
        """Renew for as long as that goes well; return once the lease is lost."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._expire)
            while not self.lost.is_set():
                try:
                    # A connection of its own: a pool that is used up must not cost us the lease.
                    async with connected(self._pool) as connection:
                        await self._renew(connection)
                except ViewsUnavailable as error:
                    _log.warning("the lease %s could not be renewed: %s", self.name, error)
                    await self._wait(self._ttl / _RENEWALS / 4)
            tasks.cancel_scope.cancel()

    async def _renew(self, connection: Connection) -> None:
        while not self.lost.is_set():
            await self._wait(min(self._ttl / _RENEWALS, self._until - self._clock()))
            asked = self._clock()
            with reachable():
                epoch = await connection.fetchval(
                    QUERIES["renew_lease"], self.name, self.epoch, timedelta(seconds=self._ttl)
                )
            if epoch is None:
                self.lost.set()
            else:
                self._until = self._good_until(asked)

    async def _expire(self) -> None:
        """Set `lost` in time even while a renewal hangs."""
        while not self.lost.is_set():
            left = self._until - self._clock()
            if left <= 0:
                self.lost.set()
            else:
                await self._wait(left)

    async def _wait(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self.lost.wait()

    async def release(self) -> None:
        """Give the lease back, so that a standby need not wait. Raises `ViewsUnavailable`."""
        self.lost.set()
        await _free(self._pool, self.name, self.epoch)

    def _good_until(self, asked: float) -> float:
        # Counted from before the question: Postgres counts from when it got it.
        return asked + self._ttl * (1 - _MARGIN)


async def _free(pool: Pool, name: str, epoch: int) -> None:
    """End a lease where it is still that of this epoch."""
    async with connected(pool) as connection:
        with reachable():
            await connection.execute(QUERIES["release_lease"], name, epoch)


async def holder(pool: Pool, name: str) -> Holder | None:
    """Return who holds a lease; None where nobody ever did. Raises `ViewsUnavailable`."""
    async with connected(pool) as connection:
        with reachable():
            row = await connection.fetchrow(QUERIES["holder"], name)
    return None if row is None else Holder(row["owner"], row["epoch"], row["seconds_left"])


async def holders(pool: Pool, prefix: str) -> dict[str, Holder]:
    """Return who holds, or held last, leases whose names begin so. Raises `ViewsUnavailable`."""
    async with connected(pool) as connection:
        with reachable():
            rows = await connection.fetch(QUERIES["holders"], prefix)
    return {row["name"]: Holder(row["owner"], row["epoch"], row["seconds_left"]) for row in rows}


@asynccontextmanager
async def hold(
    pool: Pool,
    name: str,
    owner: str,
    ttl: float,
    clock: Callable[[], float] = steady,
    is_gone: IsGone = _nobody,
) -> AsyncIterator[Lease]:
    """Wait for the lease, then hold it for as long as the body runs; released at its end.

    It is taken over at once from an owner that `is_gone`. When the lease is lost the body is
    cancelled and `LeaseLost` raised. Raises `ViewsUnavailable`.
    """
    lease = await Lease.acquire(pool, name, owner, ttl, clock, is_gone)
    lost = False

    async def watch(scope: anyio.CancelScope) -> None:
        nonlocal lost
        await lease.lost.wait()
        lost = True
        scope.cancel()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lease.keep)
            tasks.start_soon(watch, tasks.cancel_scope)
            yield lease
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # What the body raises comes out as it went in.
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from group.exceptions[0].__cause__
    finally:
        with anyio.move_on_after(ttl, shield=True):
            try:
                await lease.release()
            except ViewsUnavailable as error:
                _log.warning("the lease %s could not be released: %s", name, error)
    if lost:
        raise LeaseLost(name, owner, lease.epoch)
