"""Real repositories: each commit that changes what an application depends on is seen to."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.objects.redact import Redactor
from engine.ports import Owner
from engine.render.rendering import Rendering
from engine.resources.model import GitRef, Render
from engine.sources.mirror import Mirror, Mirrors, MirrorSettings
from tests.repositories import clone_bundle

pytestmark = pytest.mark.anyio
OWNER = Owner("log", "default", "app")
DEV = "deploy/overlays/dev"
_SHOWN = ("--first-parent", "-m", "--name-only", "--format=%x00%H %P")


@pytest.fixture(scope="module")
def rendering(tmp_path_factory: pytest.TempPathFactory) -> Rendering:
    folder = tmp_path_factory.mktemp("rendering") / "render"
    return Rendering(Redactor(b"k" * 32, "test"), allow_unconfined=True, folder=folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("real")


def mirror_of(bundle: str, folder: Path) -> Mirror:
    place = folder / bundle
    if not place.exists():
        clone_bundle(f"{bundle}.bundle", place)
    settings = MirrorSettings(folder=folder / "mirrors", repository_roots=(folder,))
    return Mirrors(settings).open(f"file://{place}")


def changed_files(repository: Path, limit: int) -> Iterator[tuple[str, str, set[str]]]:
    """Yield (commit, its first parent, the files between them), by git itself, oldest first."""
    done = subprocess.run(
        ["git", "log", f"-{limit}", "--reverse", *_SHOWN],
        cwd=repository,
        env={"PATH": os.environ["PATH"], "HOME": str(repository)},
        check=True,
        capture_output=True,
        text=True,
    )
    for entry in done.stdout.split("\0")[1:]:
        head, *files = entry.splitlines()
        commit, *parents = head.split(" ")
        yield commit, parents[0], {file for file in files if file}


async def test_the_inputs_of_podinfo_change_with_each_commit_of_its_closure_and_no_other(
    rendering: Rendering, folder: Path
) -> None:
    mirror = mirror_of("podinfo-deploy", folder)
    await mirror.fetch(GitRef())
    touched, bases = 0, 0
    for commit, parent, files in changed_files(folder / "podinfo-deploy", 100):
        here, before = mirror.tree(commit), mirror.tree(parent)
        inputs = [await rendering.inputs(tree, DEV, Render(), OWNER) for tree in (before, here)]
        plans = [await rendering._plan(tree, DEV, Render()) for tree in (before, here)]
        needed = {file.path for plan in plans for file in plan.files}
        assert (inputs[0] != inputs[1]) == bool(files & needed), commit
        touched += bool(files & needed)
        bases += bool(files & needed) and not any(file.startswith(DEV) for file in files)
    assert touched >= 60
    assert bases >= 60, "most commits touch only the bases that the overlay names"


async def test_every_recent_commit_of_podinfo_renders(rendering: Rendering, folder: Path) -> None:
    mirror = mirror_of("podinfo-deploy", folder)
    await mirror.fetch(GitRef())
    results = {}
    for commit, _, _ in changed_files(folder / "podinfo-deploy", 100):
        rendered = await rendering.render(mirror.tree(commit), DEV, Render(), OWNER)
        results[rendered.inputs] = rendered
        assert len(rendered.objects) >= 5
    contents = {rendered.objects for rendered in results.values()}
    assert len(contents) >= 50


async def test_kube_prometheus_renders_plain_and_by_its_kustomization_to_the_same(
    rendering: Rendering, folder: Path
) -> None:
    mirror = mirror_of("kube-prometheus-manifests", folder)
    tip = await mirror.fetch(GitRef())
    tree = mirror.tree(tip.commit)
    plain = await rendering.render(tree, "manifests", Render(), OWNER)
    assert plain.renderer == "plain"
    assert len(plain.objects) > 120
    assert {desired.ref.kind for desired in plain.objects if desired.secret} == {"Secret"}
    built = await rendering.render(tree, ".", Render(), OWNER)
    assert built.renderer.startswith("kustomize")
    # Kustomize orders and re-quotes, and means the same.
    assert {d.ref.identity for d in built.objects} == {d.ref.identity for d in plain.objects}
    by_digest = {desired.digest for desired in plain.objects}
    differing = [desired.ref for desired in built.objects if desired.digest not in by_digest]
    assert differing == []
