"""Hooks and waves with a real Job controller; there is no kubelet, so Pods end by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.conftest import MakeProduct
from tests.e2e.gate import WHEN, Gate, When
from tests.e2e.harness import ControlPlane
from tests.e2e.product import App, Product, configmap, kubernetes
from tests.e2e.test_product_kills import is_whole

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


async def _all_pods_end(plane: ControlPlane, namespace: str) -> None:
    """End every Pod as it comes, for ever."""
    done = orjson.dumps({"status": {"phase": "Succeeded"}}).decode()
    while True:
        found = await plane.get("pods", "-n", namespace)
        for pod in found["items"]:
            if pod["status"].get("phase") == "Pending":
                name = pod["metadata"]["name"]
                where = ("patch", "pod", name, "-n", namespace, "--subresource=status")
                # It may be gone with its Job.
                await plane.kubectl(*where, "--type=merge", "-p", done, check=False)
        await anyio.sleep(0.1)


async def test_a_sync_with_hooks_that_is_killed_at_each_of_its_requests_runs_each_hook_once(
    control_plane: ControlPlane, make_product: MakeProduct, tmp_path: Path
) -> None:
    plane, product = control_plane, await make_product()
    wanted = ["first", "migrate", "second", "tell"]
    async with Gate(plane) as gate:
        await product.cluster("real", gate.kubeconfig("engine", tmp_path / "gate.yaml"))

        async def tried(name: str, number: int, when: When) -> bool:
            """Sync with hooks in a namespace of its own; say whether the engine was killed."""
            await plane.kubectl("create", "namespace", name)
            since, app = plane.audit.position(), App(product, name)
            app.commit(
                noted(job("migrate"), hook="PreSync"),
                configmap("first", key="1"),
                noted(configmap("second", key="1"), sync_wave="1"),
                noted(job("tell"), hook="PostSync", hook_delete_policy="HookSucceeded"),
            )
            gate.stop_at(number, when)
            await app.declare()
            killed = False
            async with anyio.create_task_group() as group:
                group.start_soon(_all_pods_end, plane, name)
                with anyio.move_on_after(8):
                    await gate.stopped.wait()
                    killed = True
                    await product.kill()
                gate.open()
                if killed:
                    await product.start()
                await app.synced()
                group.cancel_scope.cancel()
            made = [
                event.object_ref.name.rpartition("-")[0] or event.object_ref.name
                for event in plane.audit.writes("engine", since)
                if event.object_ref.namespace == name and event.code == 201
            ]
            assert sorted(made) == wanted, (when, number)
            left = await plane.get("jobs", "-n", name)
            stems = [item["metadata"]["name"].rpartition("-")[0] for item in left["items"]]
            assert stems == ["migrate"], (when, number)
            page = await product.call("GET", f"/v1/targets/default/{app.target}/replay")
            assert [item for item in page["items"] if item["same"] is not True] == []
            return killed

        for when in WHEN:
            # Five requests: two hooks, two waves, and a hook's object that goes.
            kills = [await tried(f"hooks-{when}-{number}", number, when) for number in range(1, 7)]
            assert kills == [True] * 5 + [False], when
    await is_whole(product)
