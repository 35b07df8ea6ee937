"""How the requests of many targets share their places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import anyio
import pytest

from engine.ports import Answer, ClusterPort
from engine.reconcile.act import Done, carry_out
from engine.reconcile.places import Places
from events.catalog import CorrectionPlanned, Facts
from events.vocabulary import Action, ObjectRef, Outcome, Verb
from projections.lease import LeaseLost
from tests.fakes import ManualClock

pytestmark = pytest.mark.anyio
DELETED = Answer(outcome=Outcome.DELETED)


class NoBodies:
    async def of(
        self, plan: CorrectionPlanned, application: str, actions: Sequence[Action]
    ) -> dict[str, dict[str, Any]]:
        return {}


class Port:
    """A cluster that answers once it is told to."""

    def __init__(self) -> None:
        self.sent = 0
        self.answers = anyio.Event()

    async def delete(self, ref: ObjectRef, *_: str) -> Answer:
        self.sent += 1
        await self.answers.wait()
        return DELETED


def plan(number: int) -> CorrectionPlanned:
    refs = [ObjectRef("v1", "ConfigMap", "shop", f"c{index}") for index in range(number)]
    actions = tuple(Action(Verb.DELETE, ref, "withdrawn") for ref in refs)
    return CorrectionPlanned("a" * 40, Facts(0), actions, "withdrawal")


async def carried_out(
    port: Port,
    places: Places,
    number: int,
    check_lease: Callable[[], None] = lambda: None,
) -> Done:
    return await carry_out(
        plan(number),
        "default/shop",
        cast(ClusterPort, port),
        NoBodies(),
        places=places,
        width=8,
        check_lease=check_lease,
    )


async def test_a_cluster_that_hangs_takes_nobody_elses_place_for_long() -> None:
    clock = ManualClock()
    places = Places(4, clock)
    hangs, well = Port(), Port()
    well.answers.set()
    async with anyio.create_task_group() as group:
        group.start_soon(places.run)
        group.start_soon(carried_out, hangs, places, 4)
        await clock.settle()
        group.start_soon(carried_out, well, places, 100)
        await clock.settle()
        assert (hangs.sent, well.sent) == (4, 0)
        await clock.advance(5.0)
        assert (hangs.sent, well.sent) == (4, 100)
        hangs.answers.set()
        await clock.settle()
        group.cancel_scope.cancel()
    assert places.held == 0


async def test_no_more_requests_are_sent_at_once_than_there_are_places() -> None:
    clock = ManualClock()
    places, port = Places(3, clock), Port()
    async with anyio.create_task_group() as group:
        group.start_soon(carried_out, port, places, 8)
        await clock.settle()
        assert port.sent == 3
        port.answers.set()
    assert (port.sent, places.held) == (8, 0)


async def test_a_worker_that_stalled_past_its_lease_sends_nothing_more() -> None:
    clock = ManualClock()
    places, port = Places(3, clock), Port()
    lost = False

    def check() -> None:
        if lost:
            raise LeaseLost("engine", "zombie", 1)

    async def stall() -> None:
        nonlocal lost
        async with anyio.create_task_group() as group:
            group.start_soon(carried_out, port, places, 100, check)
            await clock.settle()
            assert port.sent == 3
            # The clusters answered while it slept: those requests are done, and no other begins.
            lost = True
            port.answers.set()

    with pytest.raises(ExceptionGroup) as caught:
        await stall()
    assert caught.group_contains(LeaseLost)
    assert (port.sent, places.held) == (3, 0)
