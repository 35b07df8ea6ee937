"""Dry runs on a real API server: what admission refuses is told before anything is done."""

from __future__ import annotations

import pytest

from tests.e2e.harness import ControlPlane
from tests.e2e.product import App, Product, configmap, kubernetes, named

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]


@pytest.fixture
def app(product: Product, namespace: str) -> App:
    return App(product, namespace)


async def test_a_plan_is_rehearsed_and_one_refusal_keeps_all_of_it_back(
    control_plane: ControlPlane, app: App
) -> None:
    plane = control_plane
    app.commit(configmap("first", a="1"))
    await app.declare(dryRun=True)
    await app.synced()
    service = kubernetes(
        "v1", "Service", "broken", spec={"selector": {"app": "x"}, "ports": [{"port": 99999999}]}
    )
    app.commit(configmap("first", a="2"), configmap("second", a="1"), service)
    failed = await app.event("CorrectionFailed")
    assert named(failed["results"], "Service", "broken")["outcome"] == "invalid"
    for name in ("first", "second"):
        assert named(failed["results"], "ConfigMap", name)["outcome"] == "skipped"
    assert "spec.ports[0].port" in failed["message"]
    there = await plane.kubectl("get", "cm", "-n", app.name, "-o", "jsonpath={..data.a}")
    assert there.stdout.strip() == "1"
    plan = await app.product.cli("plan", app.target, "--dry-run", "server")
    assert plan.status == 3
    assert "invalid" in plan.stdout
    assert "created" in plan.stdout
    assert "spec.ports[0].port" in plan.stdout
    service["spec"]["ports"] = [{"port": 80}]
    commit = app.commit(configmap("first", a="2"), configmap("second", a="1"), service)
    await app.synced(commit)


async def test_what_cannot_be_asked_before_its_namespace_or_kind_is_there_is_done_all_the_same(
    app: App,
) -> None:
    group = f"{app.name}.example.org"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
    }
    crd = kubernetes(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        f"gadgets.{group}",
        spec={
            "group": group,
            "names": {"kind": "Gadget", "plural": "gadgets", "singular": "gadget"},
            "scope": "Namespaced",
            "versions": [version],
        },
    )
    space = f"{app.name}-new"
    inside = configmap("inside", a="1")
    inside["metadata"]["namespace"] = space
    app.commit(
        crd,
        kubernetes("v1", "Namespace", space),
        inside,
        kubernetes(f"{group}/v1", "Gadget", "one", spec={"size": 1}),
    )
    await app.declare(dryRun=True)
    await app.synced()
