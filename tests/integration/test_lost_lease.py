"""An engine that loses its lease stands by, leads again when it can, and goes on where it was."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import asyncpg
import pytest

from engine.cli.demo_repository import DemoRepository
from engine.telemetry.log import TracedLog
from events.catalog import CorrectionApplied
from events.event import Blob, NewEvent
from events.log import Appended, LogUnavailable
from tests.line import Line

pytestmark = pytest.mark.anyio


async def test_an_engine_that_loses_its_lease_leads_again_at_the_same_address(
    tmp_path: Path, dsn: str
) -> None:
    line = Line(tmp_path, dsn, ["dev"])
    (tmp_path / "git").mkdir()
    repository = DemoRepository(line.git / "shop.git")
    repository.start(["dev"])
    url = {"url": repository.url, "interval": "1s"}
    source = {"repository": "shop", "path": "overlays/dev"}
    async with line.clusters_running(), line.engine():
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
        connection = await asyncpg.connect(dsn)
        await connection.execute("UPDATE lease SET epoch = epoch + 1")
        await connection.execute("UPDATE lease SET expires_at = now() - interval '1 s'")
        await connection.close()
        commit = repository.new_image()
        with anyio.fail_after(60):
            while not (started := await _started_twice(line)):  # noqa: ASYNC110 - over HTTP
                await anyio.sleep(0.05)
        await line.synced("shop@dev", commit)
        assert [event["payload"]["epoch"] for event in started] == [1, 3]


async def _started_twice(line: Line) -> list[dict[str, Any]]:
    try:
        started = await line.events(type="EngineStarted")
    except aiohttp.ClientError:
        return []  # it stands by, and serves nothing
    return started if len(started) == 2 else []


async def test_an_outcome_is_recorded_for_as_long_as_it_takes(
    tmp_path: Path, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = ["once"]
    append = TracedLog.append

    async def flaky(
        log: TracedLog, events: Sequence[NewEvent], blobs: Collection[Blob] = ()
    ) -> Appended:
        if refusals and isinstance(events[0].fact, CorrectionApplied):
            refusals.pop()
            raise LogUnavailable("gone")
        return await append(log, events, blobs)

    monkeypatch.setattr(TracedLog, "append", flaky)
    line = Line(tmp_path, dsn, ["dev"])
    (tmp_path / "git").mkdir()
    repository = DemoRepository(line.git / "shop.git")
    commit = repository.start(["dev"])
    async with line.clusters_running(), line.engine():
        await line.declare(
            {"kind": "Repository", "metadata": {"name": "shop"}, "spec": {"url": repository.url}},
            line.cluster("dev"),
            {
                "kind": "Application",
                "metadata": {"name": "shop"},
                "spec": {
                    "source": {"repository": "shop", "path": "overlays/dev"},
                    "targets": {"clusters": ["dev"]},
                },
            },
        )
        await line.synced("shop@dev", commit)
        planned = await line.events(type="CorrectionPlanned")
        applied = await line.events(type="CorrectionApplied")
    assert refusals == []
    assert [event["payload"]["plan"] for event in applied] == [planned[0]["position"]]
