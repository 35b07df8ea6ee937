"""The whole line: a commit in a real repository becomes a corrected cluster, on the record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.cli.demo_repository import SECOND_IMAGE, DemoRepository
from tests.line import Line

pytestmark = pytest.mark.anyio
CLUSTERS = ["dev", "prod"]
CANARY = "a-value-that-must-never-reach-the-log"


class Shop(Line):
    """A line with the demo's repository."""

    def __init__(self, folder: Path, dsn: str) -> None:
        super().__init__(folder, dsn, CLUSTERS)
        self.repository = DemoRepository(self.git / "shop.git")

    async def declare_shop(self) -> None:
        """Declare the repository, the clusters, and an application for each."""
        await self.declare(
            {
                "kind": "Repository",
                "metadata": {"name": "shop"},
                "spec": {"url": self.repository.url, "interval": "1s"},
            },
            *map(self.cluster, CLUSTERS),
            *(
                {
                    "kind": "Application",
                    "metadata": {"name": f"shop-{name}"},
                    "spec": {
                        "source": {"repository": "shop", "path": f"overlays/{name}"},
                        "targets": {"clusters": [name]},
                    },
                }
                for name in CLUSTERS
            ),
        )


@pytest.fixture
async def line(tmp_path: Path, dsn: str) -> AsyncIterator[Shop]:
    line = Shop(tmp_path, dsn)
    async with line.clusters_running():
        yield line


async def test_a_commit_is_rolled_out_and_the_next_one_too(line: Shop) -> None:
    first = line.repository.start(CLUSTERS)
    async with line.engine():
        await line.declare_shop()
        for name in CLUSTERS:
            await line.synced(f"shop-{name}@{name}", first)
        second = line.repository.new_image()
        await line.synced("shop-prod@prod", second)
        image = await line.kubectl(
            "prod", "-n", "shop", "get", "deploy", "shop", "-o", "jsonpath={..image}"
        )
        assert image == SECOND_IMAGE


async def test_a_live_edit_and_a_deletion_are_put_right_and_their_author_is_named(
    line: Shop,
) -> None:
    line.repository.start(CLUSTERS)
    async with line.engine():
        await line.declare_shop()
        await line.synced("shop-prod@prod")
        await line.kubectl("prod", "-n", "shop", "scale", "deploy/shop", "--replicas=9")
        (drift,) = await line.until("DriftDetected")
        (difference,) = drift["payload"]["differences"]
        assert difference["path"] == ".spec.replicas"
        assert (difference["before"], difference["after"]) == (2, 9)
        assert difference["manager"]
        await line.until("DriftResolved")
        story = [e["type"] for e in await line.events() if e["correlation"] == drift["correlation"]]
        assert story == ["DriftDetected", "CorrectionPlanned", "CorrectionApplied", "DriftResolved"]
        assert (
            await line.kubectl(
                "prod", "-n", "shop", "get", "deploy", "shop", "-o", "jsonpath={.spec.replicas}"
            )
            == "2"
        )
        await line.kubectl("prod", "-n", "shop", "delete", "configmap", "shop")
        resolved = await line.until("DriftResolved", 2)
        assert resolved[-1]["payload"]["how"] == "corrected"
        assert "shop" in await line.kubectl("prod", "-n", "shop", "get", "configmap", "shop")


async def test_a_restart_of_an_idle_engine_corrects_nothing(line: Shop) -> None:
    line.repository.start(CLUSTERS)
    async with line.engine():
        await line.declare_shop()
        for name in CLUSTERS:
            await line.synced(f"shop-{name}@{name}")
        before = len(await line.events(type="CorrectionPlanned"))
    async with line.engine():
        await line.until("EngineStarted", 2)
        await line.until("ClusterConnected", 4)
        second = line.repository.new_image()
        await line.synced("shop-prod@prod", second)
        await line.synced("shop-dev@dev", second)
        planned = await line.events(type="CorrectionPlanned")
    assert len(planned) == before + 2


async def test_a_secret_value_is_nowhere_in_the_log(line: Shop) -> None:
    line.repository.start(CLUSTERS)
    async with line.engine():
        await line.declare_shop()
        await line.synced("shop-prod@prod")
        live = await line.kubectl(
            "prod", "-n", "shop", "get", "secret", "shop", "-o", "jsonpath={.data.token}"
        )
        assert live
        written = str(await line.events())
    assert CANARY not in written
    assert live not in written


async def test_what_a_redacted_body_is_needed_for_goes_on_without_it(line: Shop) -> None:
    line.repository.start(CLUSTERS)
    async with line.engine():
        await line.declare_shop()
        await line.synced("shop-prod@prod")
        applied = [
            result
            for event in await line.events(type="CorrectionApplied")
            if event["stream"].endswith("shop-prod@prod")
            for result in event["payload"]["results"]
            if result["ref"]["kind"] == "ConfigMap"
        ]
        (result,) = applied
        for digest in (result["desired"], result["kept"], result["observed"]["body"]):
            path = f"/v1/blobs/{digest}/redact"
            assert (await line.call("POST", path, {"reason": "a password"}))["changed"]
        diff = await line.call("GET", "/v1/targets/default/shop-prod@prod/diff")
        assert diff["same"]
        # What was kept of it is gone, so the edit is put right without being told.
        edit = '{"data":{"greeting":"servus"}}'
        await line.kubectl("prod", "-n", "shop", "patch", "configmap", "shop", "-p", edit)
        (resolved,) = await line.until("DriftResolved")
        assert resolved["payload"]["how"] == "corrected"
        await line.kubectl("prod", "-n", "shop", "delete", "configmap", "shop")
        await line.until("DriftResolved", 2)
        told = await line.kubectl(
            "prod", "-n", "shop", "get", "configmap", "shop", "-o", "jsonpath={.data.greeting}"
        )
        assert told == "hello"
    async with line.engine():
        second = line.repository.new_image()
        await line.synced("shop-prod@prod", second)
