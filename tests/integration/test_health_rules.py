"""Health rules in CEL on a cluster: what they say is recorded, also of what was there before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from engine.process.clock import SystemClock
from events.catalog import Declared
from events.event import Actor, NewEvent, stream
from events.postgres import open_log
from tests.integration.test_line import CLUSTERS, Shop
from tests.integration.test_steering import PROD, TARGET

pytestmark = pytest.mark.anyio


@pytest.fixture
async def shop(tmp_path: Path, dsn: str) -> AsyncIterator[Shop]:
    shop = Shop(tmp_path, dsn)
    async with shop.clusters_running(), shop.engine():
        yield shop


def ruled(shop: Shop, **rule: str) -> dict[str, Any]:
    resource = shop.cluster("prod")
    resource["spec"]["health"] = [{"kind": "ConfigMap", **rule}]
    return resource


async def until_health(shop: Shop, health: str) -> str:
    with anyio.fail_after(30):
        while True:
            status = (await shop.call("GET", PROD))["status"]
            if status["health"] == health:
                return str(status["healthMessage"])
            await shop.until("HealthChanged")


async def test_a_rule_decides_and_another_rule_decides_anew(shop: Shop) -> None:
    first = shop.repository.start(CLUSTERS)
    await shop.declare_shop()
    await shop.synced(TARGET, first)
    await until_health(shop, "healthy")
    waits = "'it says ' + object.data.greeting"
    await shop.declare(ruled(shop, healthy="object.data.greeting == 'welcome'", message=waits))
    assert "it says hello" in await until_health(shop, "progressing")
    await shop.synced(TARGET, shop.repository.greeting("welcome"))
    await until_health(shop, "healthy")
    await shop.declare(ruled(shop, degraded="object.data.greeting == 'welcome'"))
    await until_health(shop, "degraded")
    await shop.declare(ruled(shop, healthy="object.data.nothing == ''"))
    assert "no field nothing" in await until_health(shop, "unknown")


async def test_a_rule_that_was_taken_away_just_before_a_crash_is_forgotten_all_the_same(
    tmp_path: Path, dsn: str
) -> None:
    shop = Shop(tmp_path, dsn)
    async with shop.clusters_running():
        async with shop.engine():
            first = shop.repository.start(CLUSTERS)
            await shop.declare_shop()
            await shop.synced(TARGET, first)
            await shop.declare(ruled(shop, degraded="true"))
            await until_health(shop, "degraded")
        # As an engine would have it that died between the word and the second look.
        spec = shop.cluster("prod")["spec"]
        async with open_log(dsn) as log:
            event = NewEvent(
                event_id=SystemClock().event_id(),
                stream=stream("cluster", "default", "prod"),
                fact=Declared("Cluster", spec, {}),
                actor=Actor("user:admin"),
                occurred_at=SystemClock().now(),
            )
            await log.append([event])
        async with shop.engine():
            await until_health(shop, "healthy")


async def test_a_rule_that_cannot_be_read_is_refused_where_it_stands(shop: Shop) -> None:
    shop.repository.start(CLUSTERS)
    body = [{"apiVersion": "trueup.dev/v1", **ruled(shop, healthy="object.data.")}]
    async with shop.session.post("/v1/resources", json=body) as answer:
        assert answer.status == 422
        said = await answer.text()
    assert "spec.health[0].healthy" in said
    assert "no CEL expression" in said
