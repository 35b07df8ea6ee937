"""A cluster whose store was emptied or put back, while no watch said so: all is made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.cli.demo_repository import DemoRepository
from tests.line import Line

pytestmark = pytest.mark.anyio


async def test_a_store_that_is_emptied_behind_silent_watches_is_filled_again(
    tmp_path: Path, dsn: str
) -> None:
    line = Line(tmp_path, dsn, ["dev"])
    line.git.mkdir()
    repository = DemoRepository(line.git / "shop.git")
    repository.start(["dev"])
    url = {"url": repository.url, "interval": "1s"}
    source = {"repository": "shop", "path": "overlays/dev"}
    async with line.clusters_running(), line.engine():
        store = line.simulator.cluster("dev").store
        version, objects = store.version, store.everything()
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
        # The watches go on from versions that this store will have only later.
        store.fill(version, objects)
        store.drop_watches()
        await line.synced("shop@dev", repository.greeting("good day"))
        shown = await line.kubectl("dev", "-n", "shop", "get", "deploy,svc,sa,cm,secret", "-o=name")
        assert {name.partition("/")[0] for name in shown.split()} == {
            "deployment.apps",
            "service",
            "serviceaccount",
            "configmap",
            "secret",
        }
        await line.until_status("shop@dev", "synced")
        assert await line.events(type="ObservationGap")
