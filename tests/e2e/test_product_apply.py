"""Server-side apply by the product: whose fields are whose, and who is named."""

from __future__ import annotations

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.product import App, Product, configmap, named

pytestmark = pytest.mark.anyio


async def test_a_foreign_object_is_taken_when_its_owner_lets_go_and_then_defended(
    cluster: Cluster, product: Product, namespace: str
) -> None:
    theirs = configmap("shared", a="theirs", b="theirs")
    await cluster.apply(theirs, manager="somebody", namespace=namespace)
    app = App(product, namespace)
    app.commit(configmap("shared", a="ours"), configmap("own", a="1"))
    await app.declare()

    failed = await app.event("CorrectionFailed")
    assert failed["code"] == "conflict"
    result = named(failed["results"], "ConfigMap", "shared")
    assert result["managers"] == ["somebody"]
    assert ".data.a" in result["message"]
    assert named(failed["results"], "ConfigMap", "own")["outcome"] == "created"
    live = await cluster.get("configmap", "shared", "-n", namespace)
    assert live["data"] == theirs["data"]
    assert "somebody owns .data.a" in (await app.until("failed"))["reason"]
    told = await product.cli("timeline", app.target)
    assert "somebody owns .data.a" in told.stdout

    await cluster.apply(configmap("shared", b="theirs"), manager="somebody", namespace=namespace)
    await app.synced()
    live = await cluster.get("configmap", "shared", "-n", namespace)
    assert live["data"] == {"a": "ours", "b": "theirs"}
    owners = {entry["manager"]: entry for entry in live["metadata"]["managedFields"]}
    assert owners["trueup"]["operation"] == "Apply"
    assert owners["trueup"]["fieldsV1"]["f:data"] == {"f:a": {}}
    assert owners["somebody"]["fieldsV1"]["f:data"] == {"f:b": {}}

    await cluster.apply(theirs, manager="somebody", namespace=namespace)
    drift = await app.event("DriftDetected")
    (difference,) = drift["differences"]
    assert difference["path"] == ".data.a"
    assert (difference["before"], difference["after"]) == ("ours", "theirs")
    assert (difference["manager"], difference["operation"]) == ("somebody", "Apply")
    resolved = await app.event("DriftResolved")
    assert resolved["how"] == "corrected"
    live = await cluster.get("configmap", "shared", "-n", namespace)
    assert live["data"] == {"a": "ours", "b": "theirs"}
