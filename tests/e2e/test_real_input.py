"""Real repositories on a real control plane: no difference, no further write, nothing undone."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pygit2
import pytest

from tests.e2e.harness import ControlPlane
from tests.e2e.product import Product, resource
from tests.repositories import clone_bundle

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]
COMMITS = 12
IDLE = 60
OVERLAY = "deploy/overlays/dev"


def cloned(product: Product, name: str) -> pygit2.Repository:
    return pygit2.Repository(str(clone_bundle(f"{name}.bundle", product.folder / "git" / name)))


async def declare(
    product: Product, name: str, repository: pygit2.Repository, path: str, namespace: str
) -> str:
    url = Path(repository.path).as_uri()
    await product.declare(
        resource("Repository", name, url=url, interval="1h"),
        resource(
            "Application",
            name,
            source={"repository": name, "path": path},
            targets={"clusters": ["real"], "namespace": namespace},
        ),
    )
    return f"{name}@real"


async def settled(product: Product, target: str, revision: str = "", minutes: float = 4) -> None:
    """Wait until a target is synced, through what holds it for a while."""
    refused: AssertionError | None = None
    with anyio.move_on_after(60 * minutes):
        while True:
            try:
                await product.wait(target, revision=revision)
                return
            except AssertionError as error:
                refused = error
                await anyio.sleep(0.2)
    raise AssertionError(f"{target} did not settle") from refused


async def same(product: Product, target: str) -> dict[str, Any]:
    diff: dict[str, Any] = await product.call("GET", f"/v1/targets/default/{target}/diff")
    assert diff["same"], diff
    return diff


async def test_kube_prometheus_is_synced_to_no_difference_and_left_alone_from_then_on(
    control_plane: ControlPlane, product: Product
) -> None:
    """All its manifests: CRDs and their resources, Secrets, an APIService without a backend."""
    target = await declare(
        product, "kp", cloned(product, "kube-prometheus-manifests"), "manifests", "monitoring"
    )
    await settled(product, target)
    diff = await same(product, target)
    assert {each["kind"] for each in diff["differences"]} <= {"mutated-on-admission", "foreign"}
    assert diff["status"]["objects"] > 100

    position, booked = await product.position(), control_plane.audit.position()
    told = await product.cli("sync", target, "--reason", "a second look")
    assert told.status == 0, told.stderr
    await settled(product, target)
    await product.next_event("TargetSynced", position, stream=f"target/default/{target}")
    assert await product.events(position, type="CorrectionPlanned") == []
    assert control_plane.audit.writes("engine", since=booked) == []

    # Nothing is waited for here: that nothing comes is what is shown.
    await anyio.sleep(IDLE)
    assert control_plane.audit.writes("engine", since=booked) == []
    assert await product.events(position, type="CorrectionPlanned,DriftDetected") == []
    await same(product, target)


async def test_podinfos_last_commits_are_rolled_out_each_and_only_what_they_change_is_written(
    control_plane: ControlPlane, product: Product
) -> None:
    repository = cloned(product, "podinfo-deploy")
    branch = repository.references[repository.head.name]
    walk = repository.walk(branch.target, pygit2.enums.SortMode.TOPOLOGICAL)
    commits = [commit for commit in walk if touches(repository, commit)][:COMMITS][::-1]
    branch.set_target(commits[0].id)
    target = await declare(product, "podinfo", repository, OVERLAY, "default")
    await settled(product, target, str(commits[0].id))
    for commit in commits[1:]:
        branch.set_target(commit.id)
        booked = control_plane.audit.position()
        await product.call("POST", f"/v1/targets/default/{target}/sync", {"reason": "next"})
        await settled(product, target, str(commit.id))
        await same(product, target)
        plans = {
            event["position"]: event["payload"]["actions"]
            for event in await product.events(type="CorrectionPlanned")
            if event["payload"]["commit"] == str(commit.id)
        }
        planned = Counter(named(action["ref"]) for some in plans.values() for action in some)
        # What had moved on when its turn came is planned again, and was not written.
        stale = Counter(
            named(result["ref"])
            for event in await product.events(type="CorrectionApplied,CorrectionFailed")
            if event["payload"]["plan"] in plans
            for result in event["payload"]["results"]
            if result["outcome"] == "stale"
        )
        assert set((planned - stale).values()) == {1}, (planned, stale)
        writes = control_plane.audit.writes("engine", since=booked)
        written = Counter(event.object_ref.name for event in writes if event.code < 300)
        assert written == Counter(name for _, name in (planned - stale).elements())
    live = await control_plane.get("deployment", "backend", "--namespace", "dev")
    image = live["spec"]["template"]["spec"]["containers"][0]["image"]
    tree = commits[-1].tree["deploy/bases/backend/deployment.yaml"]
    assert image.encode() in repository[tree.id].data


def named(ref: dict[str, str]) -> tuple[str, str]:
    return ref["kind"], ref["name"]


def touches(repository: pygit2.Repository, commit: pygit2.Commit) -> bool:
    """Whether a commit changes what the overlay is made of."""
    if not commit.parents:
        return False
    diff = repository.diff(commit.parents[0], commit)
    paths = itertools.chain.from_iterable((d.old_file.path, d.new_file.path) for d in diff.deltas)
    named = ("deploy/bases/", f"{OVERLAY}/")
    return any(path.startswith(named) and not path.endswith(".md") for path in paths)
