"""What an engine holds in memory does not grow with what it has been through."""

from __future__ import annotations

import gc
from collections import Counter
from itertools import pairwise
from pathlib import Path

import aiohttp
import anyio
import asyncpg
import pytest

from engine.cli.demo_repository import DemoRepository
from tests.line import Line

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

CACHED = {
    "engine.objects.fieldset.FieldSet",
    "engine.objects.kept.Kept",
    "engine.render.files.Plan",
}
"""What caches hold that have bounds: forms of objects as they were applied, and renders."""


async def begun(folder: Path, line: Line) -> DemoRepository:
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


def alive() -> Counter[str]:
    """Count what is alive of ours and of what we use, by type."""
    gc.collect()
    rooms = ("engine.", "events.", "projections.", "aiohttp.web", "asyncpg.pool.", "anyio.")
    return Counter(
        name
        for each in gc.get_objects()
        if (name := f"{type(each).__module__}.{type(each).__qualname__}").startswith(rooms)
        and not name.startswith("engine.simulator")
    )


async def test_terms_leave_nothing_behind(tmp_path: Path, dsn: str) -> None:
    line = Line(tmp_path, dsn, ["dev"])
    async with line.clusters_running(), line.engine():
        repository = await begun(tmp_path, line)
        counts = []
        for term in range(2, 7):
            connection = await asyncpg.connect(dsn)
            await connection.execute(
                "UPDATE lease SET epoch = epoch + 1, expires_at = now() - interval '1 s'"
            )
            await connection.close()
            with anyio.fail_after(60):
                while not await led(line, term):  # noqa: ASYNC110 - over HTTP
                    await anyio.sleep(0.05)
            await line.synced("shop@dev", repository.greeting(f"term {term}"))
            counts.append(alive())
        grown = {
            name: [count[name] for count in counts]
            for name in counts[-1]
            if name not in CACHED
            and all(before[name] < after[name] for before, after in pairwise(counts))
        }
        assert grown == {}


async def led(line: Line, terms: int) -> bool:
    try:
        return len(await line.events(type="EngineStarted")) >= terms
    except aiohttp.ClientError:
        return False  # it stands by, and serves nothing


async def test_work_leaves_nothing_behind(tmp_path: Path, dsn: str) -> None:
    line = Line(tmp_path, dsn, ["dev"])
    target = "/v1/targets/default/shop@dev"
    async with line.clusters_running(), line.engine():
        repository = await begun(tmp_path, line)
        counts = []
        for turn in range(1, 7):
            for _ in range(2):
                await line.kubectl("dev", "-n", "shop", "delete", "configmap", "shop")
                await line.until("DriftResolved", len(await line.events(type="DriftDetected")))
                await line.call("POST", f"{target}/sync", {"reason": "to see what is left"})
            await line.simulated("dev", "POST", "expire")
            await line.simulated("dev", "POST", "drop-watches")
            await line.call("GET", f"{target}?at=10")
            await line.synced("shop@dev", repository.greeting(f"turn {turn}"))
            counts.append(alive())
        grown = {
            name: [count[name] for count in counts]
            for name in counts[-1]
            if name not in CACHED
            and all(before[name] < after[name] for before, after in pairwise(counts))
        }
        assert grown == {}
