"""An engine that loses its lease starts again by itself, and goes on where it was."""

from __future__ import annotations

from pathlib import Path

import anyio
import asyncpg
import pytest

from engine.cli.demo_repository import DemoRepository
from tests.line import Line

pytestmark = pytest.mark.anyio


async def test_an_engine_that_loses_its_lease_starts_again(tmp_path: Path, dsn: str) -> None:
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
        before = line.url
        connection = await asyncpg.connect(dsn)
        await connection.execute("UPDATE lease SET epoch = epoch + 1")
        await connection.execute("UPDATE lease SET expires_at = now() - interval '1 s'")
        await connection.close()
        with anyio.fail_after(60):
            while line.url == before:  # noqa: ASYNC110 - another thread of work says it
                await anyio.sleep(0.02)
        async with line.client():
            commit = repository.new_image()
            await line.synced("shop@dev", commit)
            started = await line.events(type="EngineStarted")
        assert [event["payload"]["epoch"] for event in started] == [1, 3]
