"""Hooks and waves with a real Job controller; there is no kubelet, so Pods end by hand."""

from __future__ import annotations

from typing import Any

import anyio
import orjson
import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.harness import ControlPlane
from tests.e2e.product import App, Product, configmap, kubernetes

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]


@pytest.fixture
def app(product: Product, namespace: str) -> App:
    return App(product, namespace)


def noted(obj: dict[str, Any], **annotations: str) -> dict[str, Any]:
    names = {key.replace("_", "-"): value for key, value in annotations.items()}
    told = {f"argocd.argoproj.io/{key}": value for key, value in names.items()}
    return obj | {"metadata": obj["metadata"] | {"annotations": told}}


def job(name: str, limit: int = 3) -> dict[str, Any]:
    containers = [{"name": "run", "image": "run:1"}]
    pod = {"restartPolicy": "Never", "containers": containers}
    spec = {"ttlSecondsAfterFinished": 0, "backoffLimit": limit, "template": {"spec": pod}}
    return kubernetes("batch/v1", "Job", name, spec=spec)


async def end_pod(cluster: Cluster, app: App, phase: str) -> str:
    """Wait for a Pod that has not ended, end it as a kubelet would; return its Job's name."""
    with anyio.fail_after(60):
        while True:
            found = await cluster.get("pods", "-n", app.namespace)
            items = (found if isinstance(found, dict) else {}).get("items", [])
            going = [pod for pod in items if pod["status"].get("phase") == "Pending"]
            if going:
                break
            await anyio.sleep(0.1)
    name = going[0]["metadata"]["name"]
    patch = orjson.dumps({"status": {"phase": phase}}).decode()
    where = ("patch", "pod", name, "-n", app.namespace, "--subresource=status", "--type=merge")
    await cluster.kubectl(*where, "-p", patch)
    return str(going[0]["metadata"]["labels"]["batch.kubernetes.io/job-name"])


async def test_a_hook_is_run_before_a_sync_and_again_after_it_failed_only_when_asked(
    control_plane: ControlPlane, cluster: Cluster, app: App
) -> None:
    since = control_plane.audit.position()
    app.commit(
        noted(job("migrate", limit=0), hook="PreSync"),
        configmap("first", key="1"),
        noted(configmap("second", key="1"), sync_wave="1"),
        noted(job("tell"), hook="PostSync", hook_delete_policy="HookSucceeded"),
    )
    await app.declare()
    first = await end_pod(cluster, app, "Failed")
    held = await app.until("held")
    assert held["code"] == "hook-failed"
    assert first in held["reason"]

    await app.product.call(
        "POST", f"/v1/targets/default/{app.target}/sync", {"reason": "the table is free"}
    )
    second = await end_pod(cluster, app, "Succeeded")
    assert second != first
    tell = await end_pod(cluster, app, "Succeeded")
    await app.synced()
    order = [
        event.object_ref.name
        for event in control_plane.audit.writes("engine", since)
        if (event.verb, event.object_ref.namespace) == ("patch", app.namespace) and event.code < 300
    ]
    assert order == [first, second, "first", "second", tell]
    left = await cluster.get("jobs", "-n", app.namespace)
    assert [item["metadata"]["name"] for item in left["items"]] == [second]
    ended = await app.events("HookEnded")
    assert [event.get("succeeded") for event in ended] == [False, True, True]
