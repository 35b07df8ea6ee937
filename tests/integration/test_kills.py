"""kill -9 of the real engine at random moments of a rollout: nothing lost, nothing done twice."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.cli.demo_stage import Stage
from engine.cli.demo_story import _application, _cluster, _repository

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]
FLAGS, KILLS, SEED = 30, 4, 20261123
CLUSTER = "prod"


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path, [CLUSTER])
    try:
        await stage.open()
        yield stage
    finally:
        await stage.close()


async def written(stage: Stage) -> list[str]:
    """Every change that the cluster itself recorded, by object."""
    return [
        f"{write['resource']}/{write['name']}"
        for write in await stage.simulated(CLUSTER, "GET", "writes")
        if write["changed"] and not write["dry_run"] and write["manager"] == "trueup"
    ]


async def test_a_rollout_that_is_killed_again_and_again_ends_as_desired_and_changes_nothing_twice(
    stage: Stage,
) -> None:
    chance = random.Random(SEED)
    stage.repository.start([CLUSTER])
    body = [
        _repository(stage.repository.url),
        _cluster(CLUSTER, str(stage.kubeconfig)),
        _application(CLUSTER),
    ]
    await stage.call("POST", "/v1/resources", body)
    await stage.wait(f"shop-{CLUSTER}@{CLUSTER}", "synced")
    await stage.simulated(CLUSTER, "DELETE", "writes")
    await stage.simulated(CLUSTER, "POST", "pace", {"applies_per_second": 15})
    commit = stage.repository.flags(FLAGS)
    for kill in range(KILLS):
        until = (kill + chance.random()) * FLAGS / KILLS
        while len(await written(stage)) < until:
            pass
        await stage.kill_engine()
        await stage.start_engine()
    await stage.simulated(CLUSTER, "POST", "pace", {})
    await stage.wait(f"shop-{CLUSTER}@{CLUSTER}", "synced", commit)

    changes = await written(stage)
    assert sorted(changes) == sorted(set(changes)), f"changed twice, seed {SEED}"
    assert len(changes) == FLAGS
    events = await stage.events()
    assert [event["position"] for event in events] == list(range(1, len(events) + 1))
    assert len({event["id"] for event in events}) == len(events)
    planned = [e["position"] for e in events if e["type"] == "CorrectionPlanned"]
    ended = [
        e["payload"]["plan"]
        for e in events
        if e["type"] in ("CorrectionApplied", "CorrectionFailed", "CorrectionAbandoned")
    ]
    assert sorted(ended) == planned, "every plan has exactly one end"
