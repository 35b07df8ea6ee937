"""Real histories and real manifests, from the folder of Git bundles in TRUEUP_TEST_DATA."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pygit2
import pytest

from tests.line import Line

DATA = os.environ.get("TRUEUP_TEST_DATA", "")
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not DATA, reason="TRUEUP_TEST_DATA names no folder of Git bundles"),
]
PATH = "deploy/overlays/dev"
COMMITS = 100
BASES_ONLY = 65


def cloned(name: str, folder: Path) -> pygit2.Repository:
    """Clone a bundle bare, as somebody would push it to a server."""
    import subprocess

    target = folder / "git" / f"{name}.git"
    bundle = Path(DATA) / f"{name}.bundle"
    subprocess.run(["git", "clone", "-q", "--bare", str(bundle), str(target)], check=True)
    return pygit2.Repository(str(target))


def resources(name: str, url: str, line: Line, path: str, render: str) -> list[dict[str, Any]]:
    def resource(kind: str, called: str, spec: dict[str, Any]) -> dict[str, Any]:
        head = {"apiVersion": "trueup.dev/v1", "kind": kind}
        return {**head, "metadata": {"name": called}, "spec": spec}

    cluster = {"kubeconfig": str(line.kubeconfig), "context": "dev"}
    application = {
        "source": {"repository": name, "path": path},
        "render": {"type": render},
        "targets": {"clusters": ["dev"]},
    }
    return [
        resource("Repository", name, {"url": url, "interval": "1h"}),
        resource("Cluster", "dev", cluster),
        resource("Application", name, application),
    ]


@pytest.fixture
async def line(tmp_path: Path, dsn: str) -> AsyncIterator[Line]:
    line = Line(tmp_path, dsn, ["dev"])
    async with line.clusters_running():
        yield line


async def test_kube_prometheus_reaches_no_difference_and_then_nothing_more_is_written(
    line: Line,
) -> None:
    repository = cloned("kube-prometheus-manifests", line.folder)
    async with line.engine():
        body = resources("kp", Path(repository.path).as_uri(), line, "manifests", "plain")
        await line.call("POST", "/v1/resources", body)
        await _synced(line, "subject=kp@dev&for=synced")
        diff = await line.call("GET", "/v1/targets/default/kp@dev/diff")
        assert diff["same"], diff["differences"]
        planned = len(await line.events(type="CorrectionPlanned"))
        writes = len(await line.written("dev"))
        await line.call("POST", "/v1/targets/default/kp@dev/sync", {"reason": "a second look"})
        await _synced(line, "subject=kp@dev&for=synced")
        assert len(await line.events(type="CorrectionPlanned")) == planned
        assert len(await line.written("dev")) == writes


async def test_each_commit_of_podinfos_history_is_rolled_out_those_of_its_bases_too(
    line: Line,
) -> None:
    """Commits that name an API which no current cluster serves are rendered, and held."""
    repository = cloned("podinfo-deploy", line.folder)
    branch = repository.references[repository.head.name]
    walk = repository.walk(branch.target, pygit2.enums.SortMode.TOPOLOGICAL)
    commits = [commit for _, commit in zip(range(COMMITS), walk, strict=False)][::-1]
    touching = {
        str(commit.id)
        for before, commit in itertools.pairwise(commits)
        if _touches(repository.diff(before, commit))
    }
    branch.set_target(commits[0].id)
    synced = 0
    async with line.engine():
        body = resources("podinfo", Path(repository.path).as_uri(), line, PATH, "auto")
        await line.call("POST", "/v1/resources", body)
        await _synced(line, "subject=podinfo@dev&for=synced", enough="held")
        for number, commit in enumerate(commits, start=1):
            branch.set_target(commit.id)
            await line.call("POST", "/v1/targets/default/podinfo@dev/sync", {"reason": "next"})
            await line.until("RevisionResolved", number)
            if not _names(repository, commit, b"autoscaling/v2beta2"):
                await _roll_out(line, str(commit.id))
                synced += 1
        rendered = await line.events(type="DesiredRendered")
        failed = await line.events(type="RenderFailed")
        diff = await line.call("GET", "/v1/targets/default/podinfo@dev/diff")
    assert diff["same"], diff["differences"]
    assert not failed
    assert {e["payload"]["commit"] for e in rendered} == touching | {str(commits[0].id)}
    assert len(touching) >= BASES_ONLY - 1
    assert synced >= BASES_ONLY


async def _synced(line: Line, query: str, enough: str = "synced") -> None:
    """Wait, for as long as a loaded machine may need, until a target is synced (or `enough`)."""
    detail = ""
    for _ in range(60):
        async with line.session.get(f"/v1/wait?{query}&timeout=5") as answer:
            if answer.status == 200:
                return
            detail = str((await answer.json(content_type=None))["detail"])
        if enough in detail:
            return
    pytest.fail(detail)


async def _roll_out(line: Line, commit: str) -> None:
    """Wait for a commit; where it changes what is immutable, delete the workloads, as one must."""
    query = f"subject=podinfo@dev&for=synced&revision={commit}"
    for _ in range(20):
        async with line.session.get(f"/v1/wait?{query}&timeout=3") as answer:
            if answer.status == 200:
                return
            detail = (await answer.json(content_type=None))["detail"]
        if "field is immutable" in detail:
            break
    else:
        pytest.fail(detail)
    await line.kubectl("dev", "-n", "dev", "delete", "deployments", "--all")
    await _synced(line, query)


def _touches(diff: pygit2.Diff) -> bool:
    """Whether a diff touches what the overlay names: itself, or one of its bases."""
    paths = [delta.new_file.path for delta in diff.deltas]
    named = ("deploy/bases/", f"{PATH}/")
    return any(path.startswith(named) and not path.endswith(".md") for path in paths)


def _names(repository: pygit2.Repository, commit: pygit2.Commit, text: bytes) -> bool:
    """Whether a file of the commit's bases has this text."""
    tree = repository[commit.tree["deploy/bases"].id]
    todo = [tree]
    while todo:
        for entry in todo.pop():
            if isinstance(entry, pygit2.Tree):
                todo.append(entry)
            elif text in entry.data:
                return True
    return False
