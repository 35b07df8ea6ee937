"""kill -9 of the engine in the middle of a rollout: the API server's audit log is the witness."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest

from tests.e2e.audit import WITNESSED, AuditEvent
from tests.e2e.conftest import MakeProduct
from tests.e2e.harness import ControlPlane
from tests.e2e.product import App, Product, configmap

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

OBJECTS, KILLS = 240, 4
SEED = 20261125
ENGINE = "engine"


def _configmaps(first: int, last: int, value: str) -> list[dict[str, Any]]:
    return [configmap(f"c{number:03d}", value=value) for number in range(first, last)]


async def _killed_in_the_middle(
    plane: ControlPlane, product: Product, chance: random.Random, since: int, deeds: int
) -> None:
    """Kill the engine and start it again, several times, each after some more of the deeds."""
    for kill in range(KILLS):
        until = (kill + chance.random()) * deeds / KILLS
        while len(_answered(plane, since)) < until:
            pass
        await product.kill()
        await product.start()


def _answered(plane: ControlPlane, since: int) -> list[AuditEvent]:
    """Return the engine's writes to its objects that were not refused."""
    return [
        event
        for event in plane.audit.writes(ENGINE, since)
        if event.object_ref.namespace == WITNESSED and event.code < 400
    ]


def _changes(plane: ControlPlane, since: int, before: dict[str, str]) -> dict[str, int]:
    """Count how often each object was changed or deleted; update its version in `before`.

    An apply that changes nothing is answered with the version that was there.
    """
    counts: dict[str, int] = defaultdict(int)
    for event in _answered(plane, since):
        name, version = event.object_ref.name, event.response_object.metadata.resource_version
        if event.verb == "delete":
            counts[name] += 1
            before.pop(name)
        elif before.get(name) != version:
            assert int(version) > int(before.get(name, "0"))
            counts[name] += 1
            before[name] = version
    return counts


async def test_a_rollout_that_is_killed_again_and_again_changes_nothing_twice(
    control_plane: ControlPlane, make_product: MakeProduct
) -> None:
    plane, chance = control_plane, random.Random(SEED)
    await plane.kubectl("create", "namespace", WITNESSED)
    product = await make_product()
    await product.cluster("real", plane.kubeconfig(ENGINE))
    app = App(product, "flags", namespace=WITNESSED)
    versions: dict[str, str] = {}

    since = plane.audit.position()
    commit = app.commit(*_configmaps(0, OBJECTS, "first"))
    await app.declare()
    await _killed_in_the_middle(plane, product, chance, since, OBJECTS)
    await app.synced(commit)
    expected = {f"c{number:03d}": 1 for number in range(OBJECTS)}
    assert _changes(plane, since, versions) == expected, f"seed {SEED}"

    # A third changed, a third deleted, a third as it was, and as many new ones.
    since, third = plane.audit.position(), OBJECTS // 3
    commit = app.commit(
        *_configmaps(0, third, "second"),
        *_configmaps(third, 2 * third, "first"),
        *_configmaps(OBJECTS, OBJECTS + third, "second"),
    )
    await _killed_in_the_middle(plane, product, chance, since, OBJECTS)
    await app.synced(commit)
    untouched = {f"c{number:03d}" for number in range(third, 2 * third)}
    expected = {f"c{number:03d}": 1 for number in range(OBJECTS + third)}
    changed = {name: 1 for name in expected if name not in untouched}
    assert _changes(plane, since, versions) == changed, f"seed {SEED}"

    live = await plane.get("configmap", "-n", WITNESSED, "-l", "trueup.dev/owner")
    assert {item["metadata"]["name"]: item["data"]["value"] for item in live["items"]} == {
        item["metadata"]["name"]: item["data"]["value"]
        for item in [
            *_configmaps(0, third, "second"),
            *_configmaps(third, 2 * third, "first"),
            *_configmaps(OBJECTS, OBJECTS + third, "second"),
        ]
    }
    assert not await app.events("DriftDetected"), "its own deeds are nobody's drift"
    assert await app.events("CorrectionAbandoned"), "no kill came in the middle of a plan"
    await is_whole(product)


async def test_what_happened_while_the_engine_was_dead_is_found_when_it_starts(
    control_plane: ControlPlane, make_product: MakeProduct, namespace: str
) -> None:
    plane, product = control_plane, await make_product()
    await product.cluster("real", plane.kubeconfig(ENGINE))
    app = App(product, namespace)
    app.commit(*_configmaps(0, 20, "first"))
    await app.declare()
    await app.synced()
    await product.kill()
    since = plane.audit.position()
    await plane.kubectl("delete", "configmap", "c001", "-n", namespace)
    await plane.kubectl(
        *("patch", "configmap", "c002", "-n", namespace, "-p", '{"data": {"value": "tampered"}}')
    )
    await plane.kubectl(
        *("patch", "configmap", "c003", "-n", namespace, "-p", '{"data": {"foreign": "left"}}')
    )
    commit = app.commit(*_configmaps(0, 19, "first"), *_configmaps(19, 20, "second"))
    await product.start()
    await app.synced(commit)
    # One case, written again where the second difference was seen after the first.
    drifts = await app.events("DriftDetected")
    assert len({drift["case"] for drift in drifts}) == 1
    found = {
        (item["ref"]["name"], item["kind"]) for drift in drifts for item in drift["differences"]
    }
    assert found == {("c001", "missing"), ("c002", "changed")}
    live = await plane.get("configmap", "c003", "-n", namespace)
    assert live["data"] == {"value": "first", "foreign": "left"}
    written = [event.object_ref.name for event in plane.audit.writes(ENGINE, since)]
    assert sorted(written) == ["c001", "c002", "c019"]
    await is_whole(product)


async def is_whole(product: Product) -> None:
    """The log has no hole, nothing twice, and an end for every plan."""
    events = await product.events()
    assert [event["position"] for event in events] == list(range(1, len(events) + 1))
    assert len({event["id"] for event in events}) == len(events)
    planned = [event["position"] for event in events if event["type"] == "CorrectionPlanned"]
    ends = ("CorrectionApplied", "CorrectionFailed", "CorrectionAbandoned")
    ended = [event["payload"]["plan"] for event in events if event["type"] in ends]
    assert sorted(ended) == planned
