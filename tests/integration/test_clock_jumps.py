"""The engine's clock jumps by an hour, forward and back: nothing is stuck, and nothing storms."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine import compose
from engine.cli.demo_repository import DemoRepository
from engine.process.clock import SystemClock
from events.event import Micros
from tests.line import Line

pytestmark = pytest.mark.anyio
HOUR = 3_600_000_000


class Jumping(SystemClock):
    """The system's clock, so many microseconds ahead; monotonic time goes on as it does."""

    ahead = 0

    def now(self) -> Micros:
        return Micros(super().now() + Jumping.ahead)


@pytest.fixture
async def line(tmp_path: Path, dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Line]:
    monkeypatch.setattr(compose, "SystemClock", Jumping)
    monkeypatch.setattr(Jumping, "ahead", 0)
    line = Line(tmp_path, dsn, ["dev"], retry_base=3)
    async with line.clusters_running(), line.engine():
        yield line


async def begin(line: Line) -> DemoRepository:
    repository = DemoRepository(line.git / "shop.git")
    repository.start(["dev"])
    url = {"url": repository.url, "interval": "1s"}
    source = {"repository": "shop", "path": "overlays/dev"}
    await line.declare(
        {"kind": "Repository", "metadata": {"name": "shop"}, "spec": url},
        line.cluster("dev"),
        {
            "kind": "Application",
            "metadata": {"name": "shop"},
            "spec": {"source": source, "targets": {"clusters": ["dev"]}},
        },
    )
    await line.synced("shop@dev")
    return repository


@pytest.mark.parametrize(("before", "after"), [(0, HOUR), (HOUR, 0), (0, -HOUR)])
async def test_what_failed_before_the_clock_jumped_is_tried_again_soon_and_once(
    line: Line, before: int, after: int
) -> None:
    repository = await begin(line)
    Jumping.ahead = before
    fault = {"action": "fail", "code": 500, "verbs": ["patch"], "name": "shop", "times": 1}
    await line.simulated("dev", "POST", "faults", fault)
    commit = repository.greeting("good day")
    await line.until("CorrectionFailed")
    Jumping.ahead = after
    await line.synced("shop@dev", commit)
    assert len(await line.events(type="CorrectionPlanned")) == 3


async def test_drift_commits_and_the_lease_are_as_ever_over_jumps(line: Line) -> None:
    repository = await begin(line)
    for number, ahead in enumerate((HOUR, 0, -HOUR, 0)):
        Jumping.ahead = ahead
        await line.synced("shop@dev", repository.greeting(f"jump {number}"))
        await line.kubectl("dev", "-n", "shop", "delete", "configmap", "shop")
        await line.until("DriftResolved", number + 1)
    planned = await line.events(type="CorrectionPlanned")
    assert len(planned) == 1 + 2 * 4
    assert len(await line.events(type="EngineStarted")) == 1, "the lease was kept"
