"""How tasks are kept, and how keyed work is done."""

from __future__ import annotations

import anyio
import pytest

from engine.process.supervise import Children, GatheredWork, KeyedWork, TryLater
from events.log import LogUnavailable
from projections.errors import ViewsUnavailable
from tests.fakes import ManualClock

pytestmark = pytest.mark.anyio


async def test_a_key_is_worked_on_once_at_a_time_and_again_when_asked_meanwhile() -> None:
    clock, started, release = ManualClock(), [], anyio.Event()

    async def handle(key: str) -> None:
        started.append(key)
        await release.wait()

    work = KeyedWork("test", handle, width=2, clock=clock)
    async with anyio.create_task_group() as group:
        group.start_soon(work.run)
        work.add("a")
        await clock.settle()
        work.add("a")
        work.add("a")
        await clock.settle()
        assert started == ["a"]
        release.set()
        await clock.settle()
        assert started == ["a", "a"]
        assert work.is_idle
        group.cancel_scope.cancel()


async def test_a_fault_is_tried_again_later_and_does_not_stop_other_keys() -> None:
    clock, tries, seen = ManualClock(), [], []

    async def handle(key: str) -> None:
        if key == "bad":
            tries.append(clock.monotonic())
            if len(tries) < 3:
                raise RuntimeError("not yet")
        seen.append(key)

    work = KeyedWork("test", handle, width=2, clock=clock)
    async with anyio.create_task_group() as group:
        group.start_soon(work.run)
        work.add("bad")
        work.add("good")
        await clock.settle()
        assert seen == ["good"]
        for _ in range(8):
            await clock.advance(1)
        assert seen == ["good", "bad"]
        assert tries[2] - tries[1] > tries[1] - tries[0] > 0
        group.cancel_scope.cancel()


async def test_what_waits_is_worked_on_together_each_key_once_and_no_more_than_the_most() -> None:
    clock, batches, release = ManualClock(), [], anyio.Event()

    async def handle(keys: list[str]) -> None:
        batches.append(keys)
        await release.wait()

    work = GatheredWork("test", handle, most=2, clock=clock)
    async with anyio.create_task_group() as group:
        work.add("a")
        group.start_soon(work.run)
        await clock.settle()
        for key in "abcb":
            work.add(key)
        release.set()
        await clock.settle()
        assert batches == [["a"], ["a", "b"], ["c"]]
        group.cancel_scope.cancel()


async def test_a_batch_that_fails_is_tried_again_later_with_what_has_come_since() -> None:
    clock, batches = ManualClock(), []

    async def handle(keys: list[str]) -> None:
        batches.append(keys)
        if len(batches) == 1:
            raise RuntimeError("not yet")

    work = GatheredWork("test", handle, most=10, clock=clock)
    async with anyio.create_task_group() as group:
        work.add("a")
        group.start_soon(work.run)
        await clock.settle()
        work.add("b")
        await clock.settle()
        assert batches == [["a"]]
        await clock.advance(1)
        assert batches == [["a"], ["a", "b"]]
        group.cancel_scope.cancel()


async def test_a_child_that_fails_is_started_again_and_one_that_is_removed_is_not() -> None:
    clock, runs = ManualClock(), []

    async def run() -> None:
        runs.append(clock.monotonic())
        raise RuntimeError("down")

    async with anyio.create_task_group() as group:
        children = Children(group, clock)
        await children.put("repo", run)
        await clock.settle()
        await clock.advance(0.5)
        assert len(runs) == 2
        await children.remove("repo")
        await clock.advance(100)
        assert len(runs) == 2
        group.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("error", "has_traceback"),
    [
        (LogUnavailable("away"), False),
        (ViewsUnavailable("away"), False),
        (TimeoutError(), False),
        (TryLater("busy"), False),
        (ValueError("a fault"), True),
    ],
)
async def test_what_passes_by_itself_is_no_fault(
    error: Exception, has_traceback: bool, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    tries = 0

    async def handle(key: str) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise error

    work = KeyedWork("work", handle, width=1, clock=clock)
    async with anyio.create_task_group() as group:
        group.start_soon(work.run)
        work.add("a")
        await clock.settle()
        await clock.advance(60)
        await clock.advance(60)
        group.cancel_scope.cancel()
    assert tries == 3
    assert [record.exc_info is not None for record in caplog.records] == [has_traceback] * 2
