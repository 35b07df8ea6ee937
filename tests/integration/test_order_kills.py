"""kill -9 of the real engine in the middle of hooks and waves: each hook runs once all the same.

`--seed S` says when; a failure names it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from engine.cli.demo_stage import Stage
from tests.integration.test_kills import insisting
from tests.integration.test_order import NAMESPACE, config_map, deployment, files, job
from tests.repositories import Repository

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]
TARGET, KILLS = "web@prod", 4
MANIFESTS = [
    NAMESPACE,
    job("migrate", argo="PreSync"),
    config_map("app"),
    deployment("web", wave="1"),
    job("beside", hook="sync", wave="1"),
    job("tell", argo="PostSync"),
]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path, ["prod"])
    try:
        await stage.open()
        yield stage
    finally:
        await stage.close()


async def jobs(stage: Stage) -> Counter[str]:
    """Count how often we changed each Job."""
    return Counter(
        write["name"]
        for write in await stage.simulated("prod", "GET", "writes")
        if (write["resource"], write["verb"], write["manager"]) == ("jobs", "patch", "trueup")
        and write["changed"]
        and not write["dry_run"]
    )


async def test_a_hook_runs_once_however_often_the_engine_is_killed(
    stage: Stage, pytestconfig: pytest.Config
) -> None:
    seed = pytestconfig.getoption("seed")
    print(f"--seed {seed}")
    chance = random.Random(seed)
    repository = Repository(stage.folder / "git" / "web")
    commit = repository.commit(files(MANIFESTS))
    # So that requests are on their way when the engine dies, and arrive after it.
    slow = {"action": "delay", "verbs": ["patch"], "resource": "jobs", "seconds": 0.3}
    await stage.simulated("prod", "POST", "faults", slow)
    kinds = {
        "Repository": ("web", {"url": repository.url, "interval": "1s"}),
        "Cluster": ("prod", {"kubeconfig": str(stage.kubeconfig), "context": "prod"}),
        "Application": (
            "web",
            {
                "source": {"repository": "web", "path": "deploy"},
                "targets": {"clusters": ["prod"], "namespace": "web"},
            },
        ),
    }
    body = [
        {
            "apiVersion": "trueup.dev/v1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
        }
        for kind, (name, spec) in kinds.items()
    ]
    await stage.call("POST", "/v1/resources", body)
    for _ in range(KILLS):
        known = await stage.position()
        with anyio.move_on_after(15):
            # Just when a step is planned: before its request, during it, or before its outcome.
            await stage.next_event("CorrectionPlanned", known)
        await anyio.sleep(chance.random() * 0.5)
        await stage.kill_engine()
        await stage.start_engine()
    query = f"subject={TARGET}&for=synced&timeout=60&revision={commit}"
    await insisting(stage, "GET", f"/v1/wait?{query}")
    changed = await jobs(stage)
    assert Counter(name.rpartition("-")[0] for name in changed) == {
        "migrate": 1,
        "beside": 1,
        "tell": 1,
    }
    assert set(changed.values()) == {1}
    found = await stage.kubectl("prod", "-n", "web", "get", "jobs", "-o", "name")
    assert len(found.split()) == 3
    ended = [event for event in await stage.events() if event["type"] == "HookEnded"]
    names = Counter(event["payload"]["ref"]["name"] for event in ended)
    assert set(names.values()) == {1}
    assert all(event["payload"]["succeeded"] for event in ended)
