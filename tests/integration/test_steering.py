"""What people decide about a target: plans approved, windows overridden, deletions, rollbacks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.cli.demo_repository import FIRST_IMAGE, SECOND_IMAGE
from tests.integration.test_line import CLUSTERS, Shop
from tests.repositories import Repository

pytestmark = pytest.mark.anyio
TARGET, PROD = "shop-prod@prod", "/v1/targets/default/shop-prod@prod"
SHUT = {"kind": "deny", "schedule": "* * * * *", "duration": "1h"}


@pytest.fixture
async def shop(tmp_path: Path, dsn: str) -> AsyncIterator[Shop]:
    shop = Shop(tmp_path, dsn)
    async with shop.clusters_running(), shop.engine():
        yield shop


def application(**sync: Any) -> dict[str, Any]:
    return {
        "kind": "Application",
        "metadata": {"name": "shop-prod"},
        "spec": {
            "source": {"repository": "shop", "path": "overlays/prod"},
            "targets": {"clusters": ["prod"]},
            "sync": sync,
        },
    }


async def image(shop: Shop) -> str:
    path = "jsonpath={..image}"
    return await shop.kubectl("prod", "-n", "shop", "get", "deploy", "shop", "-o", path)


async def test_a_rollback_masks_newer_commits_and_drift_is_corrected_to_it(shop: Shop) -> None:
    first = shop.repository.start(CLUSTERS)
    await shop.declare_shop()
    await shop.synced(TARGET, first)
    second = shop.repository.new_image()
    await shop.synced(TARGET, second)
    done = await shop.call("POST", f"{PROD}/rollback", {"reason": "7", "revision": first[:7]})
    assert done["revision"] == first
    await shop.synced(TARGET, first)
    assert await image(shop) == FIRST_IMAGE
    third = shop.repository.greeting("later")
    await shop.synced("shop-dev@dev", third)
    status = await shop.status(TARGET)
    assert (status["sync"], status["code"], status["revision"]) == ("synced", "rolled-back", first)
    await shop.kubectl("prod", "-n", "shop", "set", "image", "deploy/shop", "shop=evil:1")
    await shop.until("DriftResolved")
    assert await image(shop) == FIRST_IMAGE
    await shop.call("POST", f"{PROD}/lift-rollback", {"reason": "fixed"})
    await shop.synced(TARGET, third)
    assert await image(shop) == SECOND_IMAGE
    # The overlay was never rendered at a commit that nobody saw.
    problem = await refused(shop, f"{PROD}/rollback", {"reason": "x", "revision": "abcdef1"})
    assert problem["code"] == "not-found"
    again = await refused(shop, f"{PROD}/lift-rollback", {"reason": "x"})
    assert again["code"] == "not-rolled-back"


async def refused(shop: Shop, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with shop.session.post(path, json=body) as answer:
        assert answer.status >= 400
        return dict(await answer.json(content_type=None))


async def test_an_approved_plan_is_carried_out_and_one_that_no_longer_fits_is_not(
    shop: Shop,
) -> None:
    shop.repository.start(CLUSTERS)
    await shop.declare_shop()
    await shop.synced(TARGET)
    await shop.declare(application(mode="manual"))
    second = shop.repository.new_image()
    await shop.until_status(TARGET, "held", "manual")
    plan = await shop.call("GET", f"{PROD}/plan")
    assert [item["ref"]["kind"] for item in plan["actions"]] == ["Deployment"]
    assert (plan["hold"]["code"], plan["revision"], plan["approved"]) == ("manual", second, False)
    await shop.kubectl("prod", "-n", "shop", "scale", "deploy/shop", "--replicas=7")
    await shop.until("DriftDetected")
    stale = {"reason": "looked at", "plan": plan["plan"]}
    assert (await refused(shop, f"{PROD}/approve", stale))["code"] == "plan-expired"
    now = await shop.call("GET", f"{PROD}/plan")
    assert now["plan"] != plan["plan"]
    await shop.call("POST", f"{PROD}/approve", {"reason": "looked at", "plan": now["plan"]})
    await shop.synced(TARGET, second)
    assert await image(shop) == SECOND_IMAGE
    (approved,) = await shop.events(type="PlanApproved")
    planned = (await shop.events(type="CorrectionPlanned"))[-1]["payload"]
    assert (planned["cause"], planned["approval"]) == ("approval", approved["position"])
    assert (await shop.call("GET", f"{PROD}/plan"))["plan"] is None


async def test_a_closed_window_holds_a_commit_until_a_person_overrides_it(shop: Shop) -> None:
    shop.repository.start(CLUSTERS)
    await shop.declare_shop()
    await shop.synced(TARGET)
    await shop.declare(application(windows=[SHUT]))
    second = shop.repository.new_image()
    held = await shop.until_status(TARGET, "held", "window")
    told = await shop.call("GET", f"{PROD}/why")
    assert told["standsAt"] == "window"
    (window,) = [guard for guard in told["guards"] if guard["name"] == "window"]
    assert "deny window" in window["message"]
    assert window["until"]
    assert "'* * * * *' for 1h (UTC)" in held["reason"]
    asked = await shop.call("POST", f"{PROD}/sync", {"reason": "incident 7", "override": True})
    await shop.synced(TARGET, second)
    shown = await shop.call("GET", PROD)
    (override,) = shown["target"]["overrides"]
    assert (override["position"], override["reason"]) == (asked["position"], "incident 7")
    body = {"reason": "seen", "override": asked["position"]}
    await shop.call("POST", f"{PROD}/approve", body)
    assert (await shop.call("GET", PROD))["target"]["overrides"] == []
    assert (await refused(shop, f"{PROD}/approve", body))["code"] == "no-such-override"


async def test_a_suspension_with_an_end_ends_by_itself(shop: Shop) -> None:
    shop.repository.start(CLUSTERS)
    await shop.declare_shop()
    await shop.synced(TARGET)
    await shop.call("POST", f"{PROD}/suspend", {"reason": "load test", "duration": "2s"})
    second = shop.repository.new_image()
    await shop.until("ReconcileHeld")
    await shop.synced(TARGET, second)
    assert await shop.events(type="Resumed") == []


async def test_many_deletions_wait_for_a_person_and_then_happen(
    shop: Shop,
) -> None:
    repository = Repository(shop.git / "maps")
    maps = {
        f"deploy/{name}.yaml": (
            f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: b}}\n"
        )
        for name in ("one", "two", "three")
    }
    repository.commit(maps)
    spec = {
        "source": {"repository": "maps", "path": "deploy"},
        "targets": {"clusters": ["prod"]},
    }
    await shop.declare(
        {
            "kind": "Repository",
            "metadata": {"name": "maps"},
            "spec": {"url": repository.url, "interval": "1s"},
        },
        shop.cluster("prod"),
        {"kind": "Application", "metadata": {"name": "maps"}, "spec": spec},
    )
    await shop.synced("maps@prod")
    repository.commit({"deploy/one.yaml": maps["deploy/one.yaml"]})
    held = await shop.until_status("maps@prod", "held", "prune-limit")
    assert "2 objects are no longer desired" in held["reason"]
    assert await shop.deleted("prod") == []
    path = "/v1/targets/default/maps@prod/sync"
    await shop.call("POST", path, {"reason": "meant", "prune": True})
    await shop.synced("maps@prod")
    assert sorted(await shop.deleted("prod")) == ["configmaps/three", "configmaps/two"]


async def test_every_recorded_decision_is_made_again_over_the_api(shop: Shop) -> None:
    shop.repository.start(CLUSTERS)
    await shop.declare_shop()
    await shop.synced(TARGET)
    await shop.kubectl("prod", "-n", "shop", "scale", "deploy/shop", "--replicas=9")
    await shop.until("DriftResolved")
    first = await shop.call("GET", f"{PROD}/replay?limit=3")
    assert first["next"]
    items = list(first["items"])
    after = first["next"]
    while after:
        page = await shop.call("GET", f"{PROD}/replay?limit=3&after={after}")
        items += page["items"]
        after = page["next"]
    assert len(items) >= 4
    assert all(item["same"] for item in items), items
    told = [position for item in items for position in item["positions"]]
    assert len(set(told)) == len(told)
    why = await shop.call("GET", f"{PROD}/why")
    assert why["standsAt"] in (None, "health")
