"""Leases: one holder at a time, by Postgres' clock, each with a higher epoch."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from projections.errors import ViewsUnavailable
from projections.lease import Lease, LeaseLost, hold, holder
from projections.store import Pool
from tests.keeping import pool_of

pytestmark = pytest.mark.anyio
LONG = 60.0


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    async with pool_of(dsn) as pool:
        yield pool


async def expire(pool: Pool, name: str = "engine") -> None:
    """Let a lease run out, as if its time had passed."""
    await pool.execute("UPDATE lease SET expires_at = now() - interval '1 s' WHERE name = $1", name)


async def test_a_free_lease_is_taken_and_a_held_one_is_not(pool: Pool) -> None:
    assert await holder(pool, "engine") is None
    first = await Lease.try_acquire(pool, "engine", "one", LONG)
    assert first is not None
    assert first.epoch == 1
    assert await Lease.try_acquire(pool, "engine", "two", LONG) is None
    other = await Lease.try_acquire(pool, "another", "two", LONG)
    assert other is not None
    held = await holder(pool, "engine")
    assert held is not None
    assert (held.owner, held.epoch) == ("one", 1)
    assert 0 < held.seconds_left <= LONG
    first.check()


async def test_every_change_of_hands_has_a_higher_epoch(pool: Pool) -> None:
    epochs = []
    for owner in ("one", "two", "one"):
        lease = await Lease.acquire(pool, "engine", owner, LONG)
        epochs.append(lease.epoch)
        await lease.release()
    await Lease.acquire(pool, "engine", "one", LONG)
    await expire(pool)
    epochs.append((await Lease.acquire(pool, "engine", "two", LONG)).epoch)
    assert epochs == [1, 2, 3, 5]


async def test_of_many_who_ask_at_once_one_gets_it(pool: Pool) -> None:
    got: list[Lease] = []

    async def ask(owner: str) -> None:
        lease = await Lease.try_acquire(pool, "engine", owner, LONG)
        if lease is not None:
            got.append(lease)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(ask, f"engine-{number}")
    assert len(got) == 1


async def test_a_standby_takes_over_when_the_lease_is_released(pool: Pool) -> None:
    order: list[str] = []

    async def second() -> None:
        async with hold(pool, "engine", "two", LONG) as lease:
            order.append(f"two has epoch {lease.epoch}")

    async with anyio.create_task_group() as tasks, hold(pool, "engine", "one", LONG) as lease:
        order.append(f"one has epoch {lease.epoch}")
        tasks.start_soon(second)
        await anyio.lowlevel.checkpoint()
        order.append("one gives up")
    assert order == ["one has epoch 1", "one gives up", "two has epoch 2"]


async def test_a_standby_takes_over_when_the_lease_runs_out(pool: Pool) -> None:
    lost = await Lease.acquire(pool, "engine", "killed", 0.2)
    with anyio.fail_after(10):
        lease = await Lease.acquire(pool, "engine", "two", LONG)
    assert lease.epoch == 2
    with pytest.raises(LeaseLost, match="killed no longer holds the lease engine"):
        lost.check()
    await lost.release()  # no longer its own to give back
    lease.check()
    assert await Lease.try_acquire(pool, "engine", "three", LONG) is None


async def test_a_held_lease_is_renewed_for_longer_than_it_is_good_for(pool: Pool) -> None:
    async with hold(pool, "engine", "one", 0.6) as lease:
        with anyio.move_on_after(1.5):
            assert await _acquire_or_wait(pool) is None
        lease.check()
        held = await holder(pool, "engine")
        assert held is not None
        assert (held.owner, held.epoch) == ("one", lease.epoch)


async def _acquire_or_wait(pool: Pool) -> Lease:
    return await Lease.acquire(pool, "engine", "two", LONG)


async def test_whoever_loses_the_lease_is_stopped_and_told(pool: Pool) -> None:
    thieves: list[Lease] = []

    async def one() -> None:
        async with hold(pool, "engine", "one", 0.8):
            await expire(pool)
            thieves.append(await Lease.acquire(pool, "engine", "two", LONG))
            with anyio.fail_after(10):
                await anyio.sleep_forever()

    with pytest.raises(LeaseLost):
        await one()
    thieves[0].check()
    held = await holder(pool, "engine")
    assert held is not None
    assert held.owner == "two"


async def test_without_a_database_the_lease_is_lost_before_another_can_have_it(dsn: str) -> None:
    async def one() -> None:
        async with pool_of(dsn) as pool, hold(pool, "engine", "one", 0.8):
            pool.terminate()
            with anyio.fail_after(10):
                await anyio.sleep_forever()

    async with pool_of(dsn) as other:
        with pytest.raises(LeaseLost):
            await one()
        held = await holder(other, "engine")
        assert held is not None
        assert held.seconds_left > 0


async def test_check_goes_by_the_local_clock_with_a_margin(pool: Pool) -> None:
    time = 100.0
    lease = await Lease.try_acquire(pool, "engine", "one", LONG, clock=lambda: time)
    assert lease is not None
    time += LONG * 0.85
    lease.check()
    time += LONG * 0.06
    with pytest.raises(LeaseLost):
        lease.check()
    assert lease.lost.is_set()
    time -= LONG
    with pytest.raises(LeaseLost):
        lease.check()  # once lost it stays lost


async def test_what_the_body_raises_comes_out_as_it_is_and_the_lease_is_free(pool: Pool) -> None:
    with pytest.raises(KeyError, match="broken"):
        async with hold(pool, "engine", "one", LONG):
            raise KeyError("broken")
    assert await Lease.try_acquire(pool, "engine", "two", LONG) is not None


async def test_a_cancelled_holder_gives_the_lease_back(pool: Pool) -> None:
    with anyio.CancelScope() as scope:
        async with hold(pool, "engine", "one", LONG):
            scope.cancel()
            await anyio.sleep_forever()
    assert await Lease.try_acquire(pool, "engine", "two", LONG) is not None


async def test_a_lease_needs_a_time_to_live_and_a_database(dsn: str) -> None:
    async with pool_of(dsn) as pool:
        with pytest.raises(ValueError, match="time to live of more than 0"):
            await Lease.try_acquire(pool, "engine", "one", 0)
        pool.terminate()
        with pytest.raises(ViewsUnavailable):
            await Lease.try_acquire(pool, "engine", "one", LONG)


async def test_a_lease_whose_owner_is_gone_is_taken_over_at_once(pool: Pool) -> None:
    first = await Lease.try_acquire(pool, "engine", "dead", LONG)
    assert first is not None
    with anyio.fail_after(10):
        second = await Lease.acquire(
            pool, "engine", "next", LONG, is_gone=lambda owner: owner == "dead"
        )
    assert second.epoch == first.epoch + 1
    second.check()


async def test_of_many_who_find_the_owner_gone_one_takes_over_and_keeps_it(pool: Pool) -> None:
    assert await Lease.try_acquire(pool, "engine", "dead", LONG)
    got: list[Lease] = []

    async def ask(owner: str) -> None:
        with anyio.move_on_after(1):
            got.append(
                await Lease.acquire(
                    pool, "engine", owner, LONG, is_gone=lambda held: held == "dead"
                )
            )

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(ask, f"engine-{number}")
    assert [lease.epoch for lease in got] == [2]
