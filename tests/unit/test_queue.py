"""How targets take turns."""

from __future__ import annotations

import asyncio
from collections import Counter

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.reconcile.queue import TargetQueue
from events.event import Micros
from projections.fold import TargetId
from tests.fakes import ManualClock

pytestmark = pytest.mark.anyio


def target(name: str, cluster: str = "prod") -> TargetId:
    return TargetId("default", name, cluster)


def queue_of(
    clock: ManualClock, *, total: int = 99, per_cluster: int = 99, per_application: int = 99
) -> TargetQueue:
    return TargetQueue(clock, total=total, per_cluster=per_cluster, per_application=per_application)


async def all_taken(queue: TargetQueue) -> list[TargetId]:
    """Take whatever can be taken now."""
    taken: list[TargetId] = []
    with anyio.move_on_after(0):
        while True:
            taken.append(await queue.take())
    return taken


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_a_target_added_twice_while_it_waits_comes_once(clock: ManualClock) -> None:
    queue = queue_of(clock, total=4, per_cluster=4)
    queue.add(target("a"))
    queue.add(target("a"))
    assert await queue.take() == target("a")
    assert queue.depth == 0


async def test_a_target_added_while_it_is_worked_on_comes_again_only_afterwards(
    clock: ManualClock,
) -> None:
    queue = queue_of(clock, total=4, per_cluster=4)
    queue.add(target("a"))
    await queue.take()
    queue.add(target("a"))
    assert queue.depth == 0
    queue.done(target("a"))
    assert await queue.take() == target("a")


async def test_a_cluster_with_all_its_places_taken_takes_nobody_elses(clock: ManualClock) -> None:
    queue = queue_of(clock, total=8, per_cluster=2)
    for name in "abcd":
        queue.add(target(name, "slow"))
    queue.add(target("z", "quick"))
    taken = [await queue.take() for _ in range(3)]
    assert [t.cluster for t in taken].count("slow") == 2
    assert target("z", "quick") in taken


async def test_clusters_take_turns(clock: ManualClock) -> None:
    queue = queue_of(clock, total=8, per_cluster=8)
    for name in "abc":
        queue.add(target(name, "one"))
    for name in "abc":
        queue.add(target(name, "two"))
    assert [(await queue.take()).cluster for _ in range(4)] == ["one", "two", "one", "two"]


async def test_what_a_person_asked_for_goes_first_in_its_line(clock: ManualClock) -> None:
    queue = queue_of(clock, total=8, per_cluster=8)
    for name in "abc":
        queue.add(target(name))
    queue.add(target("c"), first=True)
    assert [(await queue.take()).application for _ in range(3)] == ["c", "a", "b"]


async def test_a_sole_waiting_target_moved_to_the_front_is_still_taken_once(
    clock: ManualClock,
) -> None:
    queue = queue_of(clock, total=8, per_cluster=8)
    queue.add(target("a"))
    queue.add(target("a"), first=True)
    queue.add(target("b", "other"))
    assert {await queue.take(), await queue.take()} == {target("a"), target("b", "other")}
    assert queue.depth == 0


async def test_clusters_that_hang_take_nobody_elses_turn_for_long(clock: ManualClock) -> None:
    queue = queue_of(clock, total=8, per_cluster=2)
    hanging = [target(name, f"hangs-{number}") for number in range(20) for name in "abc"]
    for each in hanging:
        queue.add(each)
    taken: list[TargetId] = []

    async def work() -> None:
        while True:
            each = await queue.take()
            taken.append(each)
            if each not in hanging:
                queue.done(each)

    async with anyio.create_task_group() as group:
        group.start_soon(queue.run_timers)
        group.start_soon(work)
        await clock.settle()
        assert len(taken) == 8
        for number in range(100):
            queue.add(target(f"shop-{number}", "well"))
        for _ in range(6):
            await clock.advance(5.0)
        group.cancel_scope.cancel()
    # Each that hangs keeps its cluster's places, and no other; all others had their turns.
    assert sum(each not in hanging for each in taken) == 100
    assert sum(each in hanging for each in taken) == 40


async def test_an_application_on_clusters_that_hang_goes_on_with_the_others(
    clock: ManualClock,
) -> None:
    queue = queue_of(clock, per_application=2)
    for cluster in ("hangs-1", "hangs-2", "well"):
        queue.add(target("wide", cluster))
    async with anyio.create_task_group() as group:
        group.start_soon(queue.run_timers)
        assert len(await all_taken(queue)) == 2
        await clock.settle()
        await clock.advance(5.0)
        assert await all_taken(queue) == [target("wide", "well")]
        group.cancel_scope.cancel()


async def test_what_a_person_asks_for_of_a_target_at_work_goes_first_afterwards(
    clock: ManualClock,
) -> None:
    queue = queue_of(clock, total=1)
    queue.add(target("a"))
    await queue.take()
    queue.add(target("b"))
    queue.add(target("a"), first=True)
    queue.add(target("a"))
    queue.done(target("a"))
    assert await queue.take() == target("a")


class Settable(ManualClock):
    """A clock of which only the wall's time can be set back."""

    back = 0

    def now(self) -> Micros:
        return Micros(super().now() - self.back)


async def test_a_delayed_target_comes_when_its_time_has_come(clock: ManualClock) -> None:
    queue = queue_of(clock, total=8, per_cluster=8)
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


async def test_times_that_were_put_forward_are_not_kept_until_they_come(clock: ManualClock) -> None:
    queue = queue_of(clock)
    async with anyio.create_task_group() as group:
        group.start_soon(queue.run_timers)
        for _ in range(500):
            queue.add_at(target("held"), Micros(clock.now() + 3_600_000_000))
            queue.add_at(target("held"), Micros(clock.now() + 1_000_000))
            await clock.advance(1)
            assert await queue.take() == target("held")
            queue.done(target("held"))
        assert len(queue._later) <= 200
        queue.add_at(target("held"), Micros(clock.now() + 3_600_000_000))
        await clock.advance(3_601)
        assert await queue.take() == target("held")
        group.cancel_scope.cancel()


async def test_a_delayed_target_waits_no_longer_when_the_clock_is_set_back() -> None:
    clock = Settable()
    queue = queue_of(clock, total=8, per_cluster=8)
    async with anyio.create_task_group() as group:
        group.start_soon(queue.run_timers)
        queue.add_at(target("a"), clock.now() + 90_000_000)
        await clock.settle()
        clock.back = 3_600_000_000
        await clock.advance(60)
        assert queue.depth == 0
        await clock.advance(31)
        assert await queue.take() == target("a")
        group.cancel_scope.cancel()


async def test_an_application_with_all_its_places_taken_takes_nobody_elses(
    clock: ManualClock,
) -> None:
    queue = queue_of(clock, per_application=2)
    for cluster in "abcd":
        queue.add(target("wide", cluster))
        queue.add(target(f"other-{cluster}", cluster))
    taken = [t.application for t in await all_taken(queue)]
    assert taken.count("wide") == 2
    assert len(taken) == 6
    assert queue.depth == 2


async def test_what_was_set_aside_comes_when_its_application_has_a_place(
    clock: ManualClock,
) -> None:
    queue = queue_of(clock, per_application=1)
    for cluster in "abc":
        queue.add(target("wide", cluster))
    seen = []
    while queue.depth:
        taken = await all_taken(queue)
        assert len(taken) == 1
        seen += taken
        queue.done(taken[0])
    assert [t.cluster for t in seen] == ["a", "b", "c"]


async def test_a_target_set_aside_whose_cluster_is_full_keeps_no_other_waiting(
    clock: ManualClock,
) -> None:
    queue = queue_of(clock, per_cluster=1, per_application=1)
    queue.add(target("wide", "a"))
    (first,) = await all_taken(queue)
    queue.add(target("wide", "hung"))
    queue.add(target("wide", "b"))
    assert await all_taken(queue) == []
    queue.add(target("narrow", "hung"))
    assert await all_taken(queue) == [target("narrow", "hung")]
    queue.done(first)
    assert await all_taken(queue) == [target("wide", "b")]
    queue.done(target("wide", "b"))
    assert await all_taken(queue) == []
    queue.done(target("narrow", "hung"))
    assert await all_taken(queue) == [target("wide", "hung")]


async def test_what_a_person_asked_for_goes_first_among_those_set_aside(
    clock: ManualClock,
) -> None:
    queue = queue_of(clock, per_application=1)
    for cluster in "abc":
        queue.add(target("wide", cluster))
    (first,) = await all_taken(queue)
    queue.add(target("wide", "c"), first=True)
    queue.done(first)
    assert await all_taken(queue) == [target("wide", "c")]


async def test_neither_those_set_aside_nor_the_lines_are_starved(clock: ManualClock) -> None:
    queue = queue_of(clock, total=2, per_application=1)
    for number in range(4):
        queue.add(target("wide", f"w{number}"))
    working = await all_taken(queue)
    order = []
    for number in range(8):
        queue.add(target(f"small{number}", "busy"))
        working += await all_taken(queue)
        order.append(working[0].application)
        queue.done(working.pop(0))
    assert order.count("wide") >= 3
    assert len(order) - order.count("wide") >= 3


STEPS = st.lists(
    st.tuples(st.sampled_from("pqr"), st.sampled_from("abc"), st.booleans()) | st.integers(0, 5),
    max_size=40,
)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), STEPS)
def test_limits_are_kept_and_everybody_comes_whatever_the_order(
    total: int, per_cluster: int, per_application: int, steps: list[tuple[str, str, bool] | int]
) -> None:
    async def walk() -> None:
        queue = queue_of(
            ManualClock(), total=total, per_cluster=per_cluster, per_application=per_application
        )
        working: list[TargetId] = []
        came: set[TargetId] = set()
        added: set[TargetId] = set()

        async def settle() -> None:
            taken = await all_taken(queue)
            came.update(taken)
            working.extend(taken)
            assert len(set(working)) == len(working) <= total
            for limit, names in (
                (per_cluster, [t.cluster for t in working]),
                (per_application, [t.application for t in working]),
            ):
                assert max(Counter(names).values(), default=0) <= limit

        for step in steps:
            if not isinstance(step, int):
                name, cluster, first = step
                added.add(target(name, cluster))
                queue.add(target(name, cluster), first=first)
            elif step < len(working):
                queue.done(working.pop(step))
            await settle()
        while working:
            queue.done(working.pop())
            await settle()
        assert came == added
        assert queue.depth == queue.working == 0

    asyncio.run(walk())
