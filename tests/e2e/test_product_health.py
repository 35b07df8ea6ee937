"""Health rules in CEL, for custom resources of a real API server."""

from __future__ import annotations

from typing import Any

import anyio
import orjson
import pytest

from tests.e2e.harness import ControlPlane
from tests.e2e.product import App, Product, kubernetes, resource
from tests.e2e.test_product_objects import definition

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]


async def fares(app: App, health: str) -> dict[str, Any]:
    """Wait until a target fares so; return how it stands."""
    with anyio.fail_after(60):
        while True:
            status = await app.product.status(app.target)
            if status["health"] == health:
                return status
            await anyio.sleep(0.05)


async def test_a_rule_says_how_a_custom_resource_fares(
    control_plane: ControlPlane, product: Product, namespace: str
) -> None:
    group, plane = f"{namespace}.example.org", control_plane
    rule = {
        "group": group,
        "kind": "Widget",
        "degraded": "has(object.status) && object.status.parts.exists(p, p.state == 'broken')",
        "healthy": "has(object.status) && object.status.parts.all(p, p.state == 'ready')",
        "message": "has(object.status) ? string(object.status.parts.size()) + ' parts' : ''",
    }
    kubeconfig = product.kubeconfig(namespace, plane.kubeconfig("engine"))
    cluster = resource("Cluster", namespace, kubeconfig=str(kubeconfig), health=[rule])
    await product.declare(cluster)
    app = App(product, namespace, cluster=namespace)
    app.commit(definition(group), kubernetes(f"{group}/v1", "Widget", "one", spec={"size": 1}))
    await app.declare()
    await app.synced()
    assert (await fares(app, "progressing"))["sync"] == "synced"
    for states, health in ((("ready", "broken"), "degraded"), (("ready", "ready"), "healthy")):
        patch = {"status": {"parts": [{"state": state} for state in states]}}
        await plane.kubectl(
            *("patch", f"widgets.{group}", "one", "-n", namespace, "--type=merge"),
            *("-p", orjson.dumps(patch).decode()),
        )
        await fares(app, health)
    assert not await app.events("DriftDetected"), "a status is nobody's drift"
