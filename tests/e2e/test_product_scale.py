"""Five thousand objects in one application, on a real API server."""

from __future__ import annotations

import time

import pytest

from tests.e2e.harness import ControlPlane
from tests.e2e.product import App, Product, configmap

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

OBJECTS = 5000
ENGINE = "engine"


async def test_five_thousand_objects_are_synced_watched_mended_and_pruned(
    control_plane: ControlPlane, product: Product, namespace: str
) -> None:
    plane, app = control_plane, App(product, namespace)
    objects = [configmap(f"c{number:04d}", n=str(number)) for number in range(OBJECTS)]
    since = plane.audit.position()
    started = time.monotonic()
    commit = app.commit(*objects)
    await app.declare()
    await app.synced(commit, timeout=300)
    print(f"\nsynced after {time.monotonic() - started:.1f} s")
    written = [event.object_ref.name for event in plane.audit.writes(ENGINE, since)]
    assert sorted(written) == [item["metadata"]["name"] for item in objects]

    # One of them changed in Git, one by hand and one deleted: three writes.
    since = plane.audit.position()
    started = time.monotonic()
    await plane.kubectl(
        *("patch", "configmap", "c0001", "-n", namespace, "-p", '{"data": {"n": "tampered"}}')
    )
    await app.event("DriftResolved")
    print(f"one mended after {time.monotonic() - started:.1f} s")
    await plane.kubectl("delete", "configmap", "c0002", "-n", namespace)
    objects[3]["data"] = {"n": "changed"}
    started = time.monotonic()
    commit = app.commit(*objects)
    await app.synced(commit)
    print(f"one changed after {time.monotonic() - started:.1f} s")
    written = [event.object_ref.name for event in plane.audit.writes(ENGINE, since)]
    assert sorted(written) == ["c0001", "c0002", "c0003"]

    since = plane.audit.position()
    started = time.monotonic()
    commit = app.commit(objects[0])
    held = await app.event("ReconcileHeld")
    assert held["code"] == "prune-limit"
    # Approved whole, and carried out in as many plans as it takes.
    place = f"/v1/targets/default/{app.target}"
    plan = (await product.call("GET", f"{place}/plan"))["plan"]
    await product.call("POST", f"{place}/approve", {"plan": plan, "reason": "the season is over"})
    await app.synced(commit, timeout=300)
    print(f"pruned after {time.monotonic() - started:.1f} s")
    left = await plane.get("configmap", "-n", namespace, "-l", "trueup.dev/owner")
    assert [item["metadata"]["name"] for item in left["items"]] == ["c0000"]
    written = [event.object_ref.name for event in plane.audit.writes(ENGINE, since)]
    assert len(written) == OBJECTS - 1
    causes = {plan["cause"] for plan in (await app.events("CorrectionPlanned"))[-5:]}
    assert causes == {"approval"}
