"""How fast a cluster is asked, in virtual time."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clusters.pace import Pace, Turns
from tests.fakes import ManualClock

pytestmark = pytest.mark.anyio
MOST = 16

_happenings = st.lists(
    st.tuples(
        st.floats(0, 5),
        st.booleans(),
        st.one_of(st.none(), st.floats(0.1, 200)),
    ),
    max_size=60,
)


@given(_happenings)
def test_the_pace_stays_in_its_bounds_and_what_the_server_asks_is_kept(
    happenings: list[tuple[float, bool, float | None]],
) -> None:
    pace, now = Pace(MOST), 0.0
    for passed, refused, asked in happenings:
        now += passed
        before = pace.limit
        if refused:
            pace.refused(now, now, asked)
            assert pace.limit <= before
            # What rounding takes, and no more.
            assert pace.pause(now) >= min(asked or 1.0, 60.0) - 1e-6
        else:
            pace.answered()
            assert pace.limit >= before
        assert 1 <= pace.limit <= MOST
        assert pace.pause(now) <= 60.0 + 1e-6


@given(_happenings)
def test_a_server_that_answers_again_gets_the_whole_pace_back(
    happenings: list[tuple[float, bool, float | None]],
) -> None:
    pace, now = Pace(MOST), 0.0
    for passed, refused, asked in happenings:
        now += passed
        pace.refused(now, now, asked) if refused else pace.answered()
    for _ in range(MOST * MOST):
        pace.answered()
    assert pace.limit == MOST
    assert pace.pause(now + 60.001) == 0.0


def test_refusals_of_one_round_lower_the_pace_once() -> None:
    pace = Pace(MOST)
    for _ in range(MOST):
        pace.refused(sent=1.0, now=2.0, asked=1.0)
    assert pace.limit == MOST // 2
    pace.refused(sent=3.0, now=4.0, asked=1.0)
    assert pace.limit == MOST // 4


@given(st.integers(1, MOST), st.integers(20, 200))
def test_a_server_that_takes_so_many_at_once_is_used_well_and_refuses_few(
    room: int, rounds: int
) -> None:
    """A server that serves `room` requests at a time and refuses those above."""
    pace, now = Pace(MOST), 0.0
    served = refusals = 0
    for _ in range(rounds):
        now += pace.pause(now) + 0.1
        flight = pace.limit
        served += min(flight, room)
        if now >= 3:
            refusals += max(0, flight - room)
        for _ in range(min(flight, room)):
            pace.answered()
        for _ in range(max(0, flight - room)):
            pace.refused(now, now + 0.1, 0.1)
        # It is never far above what the server takes, but for the first rounds.
        assert flight <= max(room + 2, MOST if now < 3 else 0)
    assert served >= rounds * (room / 2 - 1)
    assert refusals <= rounds


async def test_requests_go_in_their_order_and_no_more_than_the_pace_lets() -> None:
    clock = ManualClock()
    turns = Turns(clock, 2)
    order: list[int] = []
    flying = 0
    go = anyio.Event()

    async def one(number: int) -> None:
        nonlocal flying
        async with turns.turn():
            order.append(number)
            flying += 1
            assert flying <= 2
            await go.wait()
            flying -= 1

    async with anyio.create_task_group() as group:
        for number in range(6):
            group.start_soon(one, number)
        await clock.settle()
        assert order == [0, 1]
        go.set()
    assert order == list(range(6))


async def test_nothing_is_sent_before_the_time_that_the_server_named() -> None:
    clock = ManualClock()
    turns = Turns(clock, 4)
    async with turns.turn():
        turns.refused(clock.monotonic(), 7.0)
    sent: list[float] = []
    began = clock.monotonic()

    async def one() -> None:
        async with turns.turn():
            sent.append(clock.monotonic() - began)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(one)
        await clock.settle()
        await clock.advance(6.9)
        assert sent == []
        await clock.advance(0.2)
    assert len(sent) == 3


async def test_who_gives_up_waiting_leaves_no_place_taken() -> None:
    clock = ManualClock()
    turns = Turns(clock, 1)
    done: list[str] = []

    async def one(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            async with turns.turn():
                done.append(name)

    impatient = anyio.CancelScope()
    async with anyio.create_task_group() as group, turns.turn():
        group.start_soon(one, "impatient", impatient)
        group.start_soon(one, "patient", anyio.CancelScope())
        await clock.settle()
        impatient.cancel()
        await clock.settle()
    assert done == ["patient"]
    async with turns.turn():
        done.append("another")
    assert done == ["patient", "another"]
