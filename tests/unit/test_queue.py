"""How targets take turns."""

from __future__ import annotations

import anyio
import pytest

from engine.queue import TargetQueue
from projections.fold import TargetId
from tests.fakes import ManualClock

pytestmark = pytest.mark.anyio


def target(name: str, cluster: str = "prod") -> TargetId:
    return TargetId("default", name, cluster)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_a_target_added_twice_while_it_waits_comes_once(clock: ManualClock) -> None:
    queue = TargetQueue(clock, total=4, per_cluster=4)
    queue.add(target("a"))
    queue.add(target("a"))
    assert await queue.take() == target("a")
    assert queue.depth == 0


async def test_a_target_added_while_it_is_worked_on_comes_again_only_afterwards(
    clock: ManualClock,
) -> None:
    queue = TargetQueue(clock, total=4, per_cluster=4)
    queue.add(target("a"))
    await queue.take()
    queue.add(target("a"))
    assert queue.depth == 0
    queue.done(target("a"))
    assert await queue.take() == target("a")


async def test_a_cluster_with_all_its_places_taken_takes_nobody_elses(clock: ManualClock) -> None:
    queue = TargetQueue(clock, total=8, per_cluster=2)
    for name in "abcd":
        queue.add(target(name, "slow"))
    queue.add(target("z", "quick"))
    taken = [await queue.take() for _ in range(3)]
    assert [t.cluster for t in taken].count("slow") == 2
    assert target("z", "quick") in taken


async def test_clusters_take_turns(clock: ManualClock) -> None:
    queue = TargetQueue(clock, total=8, per_cluster=8)
    for name in "abc":
        queue.add(target(name, "one"))
    for name in "abc":
        queue.add(target(name, "two"))
    assert [(await queue.take()).cluster for _ in range(4)] == ["one", "two", "one", "two"]


async def test_what_a_person_asked_for_goes_first_in_its_line(clock: ManualClock) -> None:
    queue = TargetQueue(clock, total=8, per_cluster=8)
    for name in "abc":
        queue.add(target(name))
    queue.add(target("c"), first=True)
    assert [(await queue.take()).application for _ in range(3)] == ["c", "a", "b"]


async def test_a_sole_waiting_target_moved_to_the_front_is_still_taken_once(
    clock: ManualClock,
) -> None:
    queue = TargetQueue(clock, total=8, per_cluster=8)
    queue.add(target("a"))
    queue.add(target("a"), first=True)
    queue.add(target("b", "other"))
    assert {await queue.take(), await queue.take()} == {target("a"), target("b", "other")}
    assert queue.depth == 0


async def test_a_delayed_target_comes_when_its_time_has_come(clock: ManualClock) -> None:
    queue = TargetQueue(clock, total=8, per_cluster=8)
    async with anyio.create_task_group() as group:
        group.start_soon(queue.run_timers)
        queue.add_at(target("a"), clock.now() + 5_000_000)
        queue.add_at(target("a"), clock.now() + 2_000_000)
        await clock.settle()
        await clock.advance(1.9)
        assert queue.depth == 0
        await clock.advance(0.2)
        assert await queue.take() == target("a")
        await clock.advance(10)
        assert queue.depth == 0
        group.cancel_scope.cancel()
