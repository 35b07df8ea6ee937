"""Dry runs: what a cluster says of a plan before anything of it is done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.cli.demo_repository import _DEPLOYMENT as DEPLOYMENT
from engine.cli.demo_repository import _REST as REST
from engine.cli.demo_repository import FIRST_IMAGE
from tests.integration.test_line import CLUSTERS, Shop
from tests.integration.test_steering import PROD, TARGET, application, image

pytestmark = pytest.mark.anyio


@pytest.fixture
async def shop(tmp_path: Path, dsn: str) -> AsyncIterator[Shop]:
    shop = Shop(tmp_path, dsn)
    async with shop.clusters_running(), shop.engine():
        yield shop


async def contents(shop: Shop) -> str:
    """Return what was declared of what is in the shop's namespace."""
    path = (
        "jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.uid} {.spec} {.data};{end}"
    )
    return await shop.kubectl("prod", "-n", "shop", "get", "cm,svc,deploy,sa", "-o", path)


async def test_a_plan_is_rehearsed_and_nothing_is_written(shop: Shop) -> None:
    first = shop.repository.start(CLUSTERS)
    await shop.declare_shop()
    await shop.synced(TARGET, first)
    await shop.declare(application(mode="manual"))
    shop.repository.new_image()
    await shop.until_status(TARGET, "held", "manual")
    before = await contents(shop)
    plan = await shop.call("GET", f"{PROD}/plan?dryRun=server")
    assert [item["outcome"] for item in plan["dryRun"]] == ["changed"] * len(plan["actions"])
    assert await contents(shop) == before
    assert await image(shop) == FIRST_IMAGE
    assert (await shop.call("GET", f"{PROD}/plan"))["dryRun"] is None
    for query, status in (("dryRun=client", 400), ("dryRun=server&at=5", 422)):
        async with shop.session.get(f"{PROD}/plan?{query}") as answer:
            assert answer.status == status


async def test_where_one_object_would_be_refused_none_is_sent(shop: Shop) -> None:
    first = shop.repository.start(CLUSTERS)
    await shop.declare_shop()
    await shop.synced(TARGET, first)
    await shop.declare(application(dryRun=True))
    before = await contents(shop)
    # A selector cannot be changed; what is new beside it would be taken.
    deployment = DEPLOYMENT.replace("{app: shop}", "{app: other}") % FIRST_IMAGE
    more = REST + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: fine}\ndata: {a: '1'}\n"
    shop.repository.commit("Break it", {"base/deployment.yaml": deployment, "base/rest.yaml": more})
    failed = next(
        event
        for event in await shop.until("CorrectionFailed", len(CLUSTERS))
        if event["stream"] == f"target/default/{TARGET}"
    )
    payload = failed["payload"]
    outcomes = {item["ref"]["kind"]: item["outcome"] for item in payload["results"]}
    assert outcomes["Deployment"] == "invalid"
    assert {outcome for kind, outcome in outcomes.items() if kind != "Deployment"} == {"skipped"}
    assert "dry run" in payload["message"]
    assert await contents(shop) == before
