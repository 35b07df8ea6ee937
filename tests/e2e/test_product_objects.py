"""What a real API server does with what the product sends: kinds, finalizers, owners, limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.harness import ControlPlane
from tests.e2e.product import App, Product, configmap, kubernetes, named

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

HOLD = "example.org/hold"
KEEP = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@pytest.fixture
def app(product: Product, namespace: str) -> App:
    return App(product, namespace)


def definition(group: str) -> dict[str, Any]:
    """Return a definition of the kind Widget."""
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": KEEP}}
    names = {"plural": "widgets", "kind": "Widget"}
    return kubernetes(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        f"widgets.{group}",
        spec={"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    )


async def put_finalizers(cluster: Cluster, what: str, namespace: str, *names: str) -> None:
    """Replace an object's finalizers, as somebody with kubectl."""
    patch = [{"op": "add", "path": "/metadata/finalizers", "value": list(names)}]
    await cluster.kubectl(
        *("patch", what, "-n", namespace, "--type=json", "-p", orjson.dumps(patch).decode())
    )


async def test_a_definition_and_its_objects_come_in_one_commit(
    control_plane: ControlPlane, app: App
) -> None:
    plane, group = control_plane, f"{app.name}.example.org"
    inner = f"{app.name}-inner"
    widget = kubernetes(f"{group}/v1", "Widget", "one", inner, spec={"size": 1})
    extra = kubernetes(f"{group}/v1", "Widget", "two", spec={"size": 2})
    # Written in an order that no server would take.
    app.commit(widget, extra, definition(group), kubernetes("v1", "Namespace", inner))
    since = plane.audit.position()
    await app.declare()
    await app.synced()
    assert not await app.events("CorrectionFailed")
    refused = [event for event in plane.audit.writes("engine", since) if event.code >= 400]
    assert not refused, "nothing was sent before its kind and its namespace were there"

    await plane.kubectl(
        *("patch", f"widgets.{group}", "one", "-n", inner, "--type=merge"),
        *("-p", '{"spec": {"size": 9}}'),
    )
    drift = await app.event("DriftDetected")
    (difference,) = drift["differences"]
    assert (difference["path"], difference["before"], difference["after"]) == (".spec.size", 1, 9)
    await app.event("DriftResolved")
    assert (await plane.get(f"widgets.{group}", "one", "-n", inner))["spec"] == {"size": 1}

    commit = app.commit(configmap("left"))
    await app.synced(commit)
    assert not (await plane.get(f"widgets.{group}", "-A"))["items"]
    held = await app.event("ReconcileHeld", matches=lambda hold: hold["code"] == "protected")
    assert {ref["kind"] for ref in held["objects"]} == {"CustomResourceDefinition", "Namespace"}
    await plane.get("crd", f"widgets.{group}")
    await plane.kubectl("delete", "crd", f"widgets.{group}")
    await plane.kubectl("delete", "namespace", inner, "--wait=false")


async def test_a_definition_that_somebody_deletes_comes_back_with_its_objects(
    control_plane: ControlPlane, app: App
) -> None:
    plane, group = control_plane, f"{app.name}.example.org"
    app.commit(
        definition(group),
        kubernetes(f"{group}/v1", "Widget", "one", spec={"size": 1}),
        configmap("other", a="1"),
    )
    await app.declare()
    await app.synced()
    before = (await plane.get(f"widgets.{group}", "one", "-n", app.name))["metadata"]["uid"]
    head = await app.product.position()
    await plane.kubectl("delete", "crd", f"widgets.{group}")
    await app.event("DriftResolved", head)
    await app.synced()
    live = await plane.get(f"widgets.{group}", "one", "-n", app.name)
    assert live["spec"] == {"size": 1}
    assert live["metadata"]["uid"] != before
    await plane.kubectl("delete", "crd", f"widgets.{group}")


async def test_an_object_with_a_finalizer_is_waited_for_whoever_deletes_it(
    cluster: Cluster, app: App
) -> None:
    kept = configmap("kept", a="1")
    kept["metadata"]["finalizers"] = [HOLD]
    app.commit(kept, configmap("other", a="1"))
    await app.declare()
    await app.synced()
    before = (await cluster.get("configmap", "kept", "-n", app.name))["metadata"]["uid"]

    await cluster.kubectl("delete", "configmap", "kept", "-n", app.name, "--wait=false")
    held = await app.event("ReconcileHeld")
    assert held["code"] == "terminating"
    assert [ref["name"] for ref in held["objects"]] == ["kept"]
    # It holds up nothing else.
    app.commit(kept, configmap("other", a="2"))
    await cluster.kubectl(
        *("wait", "configmap/other", "-n", app.name, "--for=jsonpath={.data.a}=2")
    )
    await put_finalizers(cluster, "configmap/kept", app.name)
    drift = await app.event("DriftDetected")
    assert [item["kind"] for item in drift["differences"]] == ["missing"]
    await app.synced()
    live = await cluster.get("configmap", "kept", "-n", app.name)
    assert live["metadata"]["uid"] != before
    assert live["metadata"]["finalizers"] == [HOLD]

    after = await app.product.position()
    commit = app.commit(configmap("other", a="2"))
    applied = await app.event("CorrectionApplied", after)
    assert named(applied["results"], "ConfigMap", "kept")["outcome"] == "deleted"
    await app.synced(commit)
    live = await cluster.get("configmap", "kept", "-n", app.name)
    assert live["metadata"]["deletionTimestamp"]
    await put_finalizers(cluster, "configmap/kept", app.name)
    gone = await app.product.next_event(
        "ObjectsObserved",
        after,
        lambda event: any(
            seen["ref"]["name"] == "kept" and seen["presence"] == "absent"
            for seen in event["payload"]["objects"]
        ),
        stream="cluster/default/real",
    )
    assert len(await app.events("CorrectionPlanned", gone["position"])) == 0


async def test_a_deletion_in_the_foreground_is_waited_for_and_then_mended(
    control_plane: ControlPlane, app: App
) -> None:
    plane, labels = control_plane, {"app": "web"}
    container = {"name": "web", "image": "example.org/web:1"}
    deployment = kubernetes(
        "apps/v1",
        "Deployment",
        "web",
        spec={
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    )
    app.commit(deployment)
    await app.declare()
    await app.product.wait(app.target, "healthy")
    (replicas,) = (await plane.get("replicaset", "-n", app.name))["items"]
    name = replicas["metadata"]["name"]
    await put_finalizers(plane, f"replicaset/{name}", app.name, HOLD)
    await plane.kubectl(
        *("delete", "deployment", "web", "-n", app.name, "--cascade=foreground", "--wait=false")
    )
    held = await app.event("ReconcileHeld")
    assert held["code"] == "terminating"
    assert "Deployment/web" in held["message"]
    await plane.kubectl(
        *("wait", f"replicaset/{name}", "-n", app.name),
        "--for=jsonpath={.metadata.deletionTimestamp}",
    )
    await put_finalizers(plane, f"replicaset/{name}", app.name)
    resolved = await app.event("DriftResolved")
    assert resolved["how"] == "corrected"
    await app.product.wait(app.target, "healthy")


async def test_a_namespace_that_is_stuck_is_named_and_filled_again_when_it_is_gone(
    control_plane: ControlPlane, app: App
) -> None:
    plane, inner = control_plane, f"{app.name}-inner"
    space, first = kubernetes("v1", "Namespace", inner), configmap("first", inner, a="1")
    app.commit(space, first)
    await app.declare()
    await app.synced()
    before = (await plane.get("namespace", inner))["metadata"]["uid"]
    await put_finalizers(plane, "configmap/first", inner, HOLD)
    await plane.kubectl("delete", "namespace", inner, "--wait=false")
    held = await app.event("ReconcileHeld")
    assert held["code"] == "terminating"
    assert "Namespace" in {ref["kind"] for ref in held["objects"]}

    app.commit(space, first, configmap("second", inner, a="1"))
    failed = await app.event("CorrectionFailed")
    assert named(failed["results"], "ConfigMap", "second")["outcome"] == "failed"
    assert "because it is being terminated" in failed["message"]
    await put_finalizers(plane, "configmap/first", inner)
    await app.synced()
    assert (await plane.get("namespace", inner))["metadata"]["uid"] != before
    for name in ("first", "second"):
        assert (await plane.get("configmap", name, "-n", inner))["data"] == {"a": "1"}
    await plane.kubectl("delete", "namespace", inner, "--wait=false")


async def test_an_object_of_another_application_is_not_taken(cluster: Cluster, app: App) -> None:
    app.commit(configmap("shared", a="first"))
    await app.declare()
    await app.synced()
    second = App(app.product, f"{app.name}-second", namespace=app.namespace)
    second.commit(configmap("shared", a="second"), configmap("own", a="1"))
    await second.declare()
    failed = await second.event("CorrectionFailed")
    assert failed["code"] == "conflict"
    result = named(failed["results"], "ConfigMap", "shared")
    assert f"default/{app.name}" in result["message"]
    assert named(failed["results"], "ConfigMap", "own")["outcome"] == "created"
    live = await cluster.get("configmap", "shared", "-n", app.namespace)
    assert live["data"] == {"a": "first"}
    # Given up by the first, it is the second's.
    app.commit(configmap("left"))
    await second.synced()
    live = await cluster.get("configmap", "shared", "-n", app.namespace)
    assert live["data"] == {"a": "second"}
    assert (await app.until("synced"))["differences"] == 0


async def test_an_immutable_field_fails_by_name_until_git_takes_it_back(
    cluster: Cluster, app: App
) -> None:
    def objects(value: str, other: str) -> list[Mapping[str, Any]]:
        frozen = kubernetes("v1", "ConfigMap", "frozen", immutable=True, data={"a": value})
        return [frozen, configmap("other", a=other)]

    app.commit(*objects("1", "1"))
    await app.declare()
    await app.synced()
    app.commit(*objects("2", "2"))
    failed = await app.event("CorrectionFailed")
    assert failed["code"] == "invalid"
    assert "field is immutable" in named(failed["results"], "ConfigMap", "frozen")["message"]
    assert named(failed["results"], "ConfigMap", "other")["outcome"] == "changed"
    status = await app.until("failed")
    assert (status["code"], "field is immutable" in status["reason"]) == ("invalid", True)
    # What is there is still as it was applied: that is no drift.
    assert not await app.events("DriftDetected")
    commit = app.commit(*objects("1", "2"))
    await app.synced(commit)
    assert (await cluster.get("configmap", "frozen", "-n", app.name))["data"] == {"a": "1"}
    assert (await app.product.status(app.target))["sync"] == "synced"


async def test_what_drifts_beside_an_object_that_keeps_failing_does_not_wait_for_it(
    control_plane: ControlPlane, app: App
) -> None:
    plane, since = control_plane, control_plane.audit.position()
    app.commit(configmap("bad", **{"no key": "1"}), configmap("good", a="1"))
    await app.declare(retry={"base": "10m", "cap": "10m"})
    failed = await app.event("CorrectionFailed")
    assert named(failed["results"], "ConfigMap", "bad")["outcome"] == "invalid"
    await plane.kubectl(
        *("patch", "configmap", "good", "-n", app.name, "-p", '{"data": {"a": "tampered"}}')
    )
    assert (await app.event("DriftResolved"))["how"] == "corrected"
    assert (await plane.get("configmap", "good", "-n", app.name))["data"] == {"a": "1"}
    status = await app.until("failed")
    assert "ConfigMap/bad" in status["reason"]
    tried = [event.object_ref.name for event in plane.audit.writes("engine", since)]
    assert tried.count("bad") == 1
    commit = app.commit(configmap("good", a="1"))
    await app.synced(commit)


async def test_a_configmap_of_900_kb_is_synced_watched_and_mended(
    cluster: Cluster, app: App
) -> None:
    text = "".join(f"{number:07d}\n" for number in range(900 * 1024 // 8))
    app.commit(configmap("large", a=text, b="1"))
    await app.declare()
    await app.synced()
    await cluster.kubectl(
        *("patch", "configmap", "large", "-n", app.name, "--type=json", "-p"),
        '[{"op": "replace", "path": "/data/a", "value": "short"}]',
    )
    drift = await app.event("DriftDetected")
    (difference,) = drift["differences"]
    assert (difference["path"], difference["after"]) == (".data.a", "short")
    await app.event("DriftResolved")
    live = await cluster.get("configmap", "large", "-n", app.name)
    assert live["data"] == {"a": text, "b": "1"}

    app.commit(configmap("large", a=text, b=text))
    failed = await app.event("CorrectionFailed")
    assert failed["code"] == "invalid"
    assert "ConfigMap/large" in failed["message"]
    assert len(failed["message"]) < 2000
