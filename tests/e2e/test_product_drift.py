"""Drift by policy, and taking over from other tools, on a real API server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.product import App, Product, configmap, manifests, resource

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]
TOOLS = {
    "kubectl apply": ("apply", ()),
    "kubectl create": ("create", ()),
    "kubectl apply --server-side": ("apply", ("--server-side",)),
    "Helm 3": ("create", ("--field-manager=helm",)),
    "Helm 4": ("apply", ("--server-side", "--field-manager=helm")),
    "Argo CD, client-side": ("apply", ("--field-manager=argocd-controller",)),
    "Argo CD": ("apply", ("--server-side", "--field-manager=argocd-controller")),
    "Flux kustomize": ("apply", ("--server-side", "--field-manager=kustomize-controller")),
    "Flux helm": ("create", ("--field-manager=helm-controller",)),
}


def deployment(image: str = "registry.example.com/web:1", **spec: Any) -> dict[str, Any]:
    container = {
        "name": "web",
        "image": image,
        "ports": [{"containerPort": 80}],
        "env": [{"name": "A", "value": "1"}],
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {"containers": [container], "volumes": [{"name": "tmp", "emptyDir": {}}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            **spec,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod},
        },
    }


SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 80}]},
}


async def declare(app: App, **spec: Any) -> None:
    """Declare an application with more than a sync policy."""
    await app.product.declare(
        resource("Repository", app.name, url=app.repository.url, interval="1s"),
        resource(
            "Application",
            app.name,
            source={"repository": app.name},
            targets={"clusters": [app.cluster], "namespace": app.namespace},
            **spec,
        ),
    )


async def replicas(cluster: Cluster, namespace: str) -> int:
    return int((await cluster.get("deploy", "web", "-n", namespace))["spec"]["replicas"])


async def patched(
    cluster: Cluster, namespace: str, what: str, body: Any, manager: str, *words: str
) -> None:
    text = orjson.dumps(body).decode()
    flags = ("--type=merge", f"--field-manager={manager}", *words)
    await cluster.kubectl("-n", namespace, "patch", *what.split(), *flags, "-p", text)


async def test_a_deployment_that_names_replicas_and_its_autoscaler_get_along(
    cluster: Cluster, product: Product, namespace: str
) -> None:
    app = App(product, namespace)
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 3,
            "maxReplicas": 5,
        },
    }
    app.commit(deployment(replicas=1), scaler)
    await declare(app)
    await app.synced()
    with anyio.fail_after(90):
        while await replicas(cluster, namespace) != 3:  # noqa: ASYNC110
            await anyio.sleep(0.5)
    second = app.commit(deployment("registry.example.com/web:2", replicas=1), scaler)
    await app.synced(second)
    live = await cluster.get("deploy", "web", "-n", namespace)
    assert live["spec"]["replicas"] == 3
    assert live["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":2")
    third = app.commit(deployment("registry.example.com/web:3"), scaler)
    await app.synced(third)
    assert (await cluster.get("deploy", "web", "-n", namespace))["spec"]["replicas"] == 3
    assert await app.events("DriftDetected") == []


async def test_ignored_fields_stay_and_foreign_ones_go(
    cluster: Cluster, product: Product, namespace: str
) -> None:
    app = App(product, namespace)
    app.commit(configmap("settings", a="1", b="1"), SERVICE, deployment())
    await declare(
        app,
        ignoreDifferences=[{"kind": "ConfigMap", "paths": ["/data/a"]}],
        foreignFields={
            "policy": "remove",
            "allow": [{"managers": ["mesh"]}],
        },
    )
    await app.synced()
    await patched(cluster, namespace, "configmap settings", {"data": {"a": "2"}}, "ada")
    await patched(cluster, namespace, "configmap settings", {"data": {"m": "1"}}, "mesh")
    await cluster.kubectl(
        "-n", namespace, "patch", "svc", "web", "--type=json", "--field-manager=eve", "-p",
        '[{"op":"add","path":"/metadata/annotations/eve","value":"was here"}]',
    )  # fmt: skip
    await app.event("DriftResolved")
    live = await cluster.get("svc", "web", "-n", namespace)
    assert "eve" not in live["metadata"]["annotations"]
    second = app.commit(configmap("settings", a="3", b="3"), SERVICE, deployment())
    await app.synced(second)
    data = (await cluster.get("configmap", "settings", "-n", namespace))["data"]
    assert data == {"a": "2", "b": "3", "m": "1"}
    assert len(await app.events("DriftDetected")) == 1


@pytest.mark.parametrize("tool", TOOLS)
async def test_what_a_tool_made_is_taken_over_without_a_restart(
    cluster: Cluster, product: Product, namespace: str, tool: str, tmp_path: Path
) -> None:
    verb, words = TOOLS[tool]
    theirs = tmp_path / "theirs.yaml"
    settings = configmap("settings", a="theirs", old="x")
    theirs.write_text(manifests(deployment(replicas=2), SERVICE, settings))
    await cluster.kubectl("-n", namespace, verb, "-f", str(theirs), *words)
    before = await cluster.get("deploy", "web", "-n", namespace)
    app = App(product, namespace)
    app.commit(deployment(replicas=1), SERVICE, configmap("settings", a="ours"))
    await declare(app)
    await app.event("CorrectionFailed")
    await app.until("failed")
    adopted = await product.cli("adopt", app.target, "--reason", f"moved from {tool}")
    assert adopted.status == 0, adopted
    await app.synced()
    live = await cluster.get("deploy", "web", "-n", namespace)
    assert live["metadata"]["uid"] == before["metadata"]["uid"]
    assert live["spec"]["template"] == before["spec"]["template"]
    assert live["spec"]["replicas"] == 1
    settings = await cluster.get("configmap", "settings", "-n", namespace)
    assert settings["data"] == {"a": "ours"}
    diff = await product.call("GET", f"/v1/targets/default/{app.target}/diff")
    assert diff["differences"] == []
    # A changed template would have made a second one before the status showed this generation.
    sets = await cluster.get("rs", "-n", namespace)
    assert len(sets["items"]) == 1


async def test_every_decision_about_drift_comes_out_the_same_again(
    cluster: Cluster, product: Product, namespace: str
) -> None:
    app = App(product, namespace)
    app.commit(configmap("settings", a="1"), configmap("kept", a="1"))
    await declare(app, drift={"rules": [{"name": "kept", "policy": "adopt"}], "after": "1s"})
    await app.synced()
    await patched(cluster, namespace, "configmap kept", {"data": {"a": "2"}}, "ada")
    await app.event("DriftResolved")
    start = await product.position()
    await patched(cluster, namespace, "configmap settings", {"data": {"a": "2"}}, "eve")
    ended = await app.event("DriftResolved", start)
    assert ended["how"] == "corrected"
    page = await product.call("GET", f"/v1/targets/default/{app.target}/replay")
    assert len(page["items"]) >= 4
    assert [item for item in page["items"] if item["same"] is not True] == []
    listed = await product.cli("drift", app.target)
    assert "adopted" in listed.stdout
    assert "by eve" in listed.stdout
