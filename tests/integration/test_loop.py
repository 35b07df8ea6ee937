"""Nothing blocks the event loop: the whole line, the API and the pages, under a guard."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from engine.cli.demo_repository import DemoRepository
from engine.http.local import read_private
from tests.blocking import nothing_blocks
from tests.line import Line

pytestmark = pytest.mark.anyio
PAGES = (
    "/",
    "/targets/default/shop@dev",
    "/applications/default/shop",
    "/clusters/default/dev",
    "/repositories/default/shop",
    "/applications",
    "/objects/default/dev/shop/ConfigMap/shop",
    "/timeline",
    "/events/1",
    "/views",
    "/go?to=shop@dev",
    "/static/style.css",
)
API = (
    "/healthz",
    "/readyz",
    "/v1/openapi.json",
    "/v1/version",
    "/v1/targets",
    "/v1/applications",
    "/v1/targets/default/shop@dev",
    "/v1/targets/default/shop@dev/diff",
    "/v1/targets?at=5",
    "/v1/events",
    "/v1/timeline?subject=shop@dev",
    "/v1/doctor",
    "/v1/views",
)


async def test_what_blocks_is_seen(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"open by\n.*private"), nothing_blocks():
        read_private(tmp_path / "key")


async def test_the_whole_line_blocks_nothing(tmp_path: Path, dsn: str) -> None:
    (tmp_path / "git").mkdir()
    repository = DemoRepository(tmp_path / "git" / "shop.git")
    repository.start(["dev"])
    line = Line(tmp_path, dsn, ["dev"])
    url = {"url": repository.url, "interval": "1s"}
    source = {"repository": "shop", "path": "overlays/dev"}
    async with line.clusters_running(), line.engine():
        with nothing_blocks():
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
            commit = await anyio.to_thread.run_sync(repository.new_image)
            await line.synced("shop@dev", commit)
            await line.kubectl("dev", "-n", "shop", "delete", "configmap", "shop")
            await line.until("DriftResolved")
            for verb in ("suspend", "resume", "sync"):
                path = f"/v1/targets/default/shop@dev/{verb}"
                await line.call("POST", path, {"reason": "to see whether it blocks"})
            await _look(line, commit)
            await line.simulated("dev", "POST", "expire")
            await line.simulated("dev", "POST", "drop-watches")
            await line.until("ObservationGap")


async def _look(line: Line, commit: str) -> None:
    refused = []
    async with line.browser() as browser:
        pages = (*PAGES, f"/commits/default/{commit}")
        for session, paths in ((line.session, API), (browser, pages)):
            for path in paths:
                async with session.get(path) as answer:
                    await answer.read()
                if answer.status != 200:
                    refused.append((path, answer.status))
    assert not refused
