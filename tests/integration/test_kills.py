"""kill -9 of engine, Postgres and API server in a rollout: nothing lost, nothing done twice.

`--kills N` and `--seed S` say how often and when; a failure names its seed.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from engine.cli.demo_stage import DemoFailed, Stage
from engine.cli.demo_story import _application, _cluster, _repository
from tests.soak.scene import processes_of_postgres, signal_all

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1800)]
CLUSTER = "prod"
TARGET = f"shop-{CLUSTER}@{CLUSTER}"
FLAGS_PER_KILL, PACE = 8, 15
ENDS = ("CorrectionApplied", "CorrectionFailed", "CorrectionAbandoned")


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


async def begin(stage: Stage, flags: int) -> str:
    """Sync the shop, then commit many objects, and let the cluster take its time over them."""
    stage.repository.start([CLUSTER])
    body = [
        _repository(stage.repository.url),
        _cluster(CLUSTER, str(stage.kubeconfig)),
        _application(CLUSTER),
    ]
    await stage.call("POST", "/v1/resources", body)
    await stage.wait(TARGET, "synced")
    await stage.simulated(CLUSTER, "DELETE", "writes")
    await stage.simulated(CLUSTER, "POST", "pace", {"applies_per_second": PACE})
    return stage.repository.flags(flags)


async def insisting(stage: Stage, method: str, path: str, body: object = None) -> None:
    """Ask until there is an answer: an engine whose Postgres was away for long starts again."""
    with anyio.fail_after(120):
        while True:
            try:
                await stage._is_serving()
                await stage.call(method, path, body)
                return
            except (DemoFailed, aiohttp.ClientError):
                await anyio.sleep(0.05)


async def all_events(stage: Stage) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while more := await stage.events(found[-1]["position"] if found else 0):
        found += more
    return found


async def is_as_if_nothing_had_happened(stage: Stage, commit: str, flags: int) -> None:
    """Assert what holds of log and cluster after whatever was killed."""
    await stage.simulated(CLUSTER, "POST", "pace", {})
    query = f"subject={TARGET}&for=synced&timeout=60&revision={commit}"
    await insisting(stage, "GET", f"/v1/wait?{query}")
    changes = Counter(await written(stage))
    assert {name: number for name, number in changes.items() if number > 1} == {}
    assert len(changes) == flags
    events = await all_events(stage)
    assert [event["position"] for event in events] == list(range(1, len(events) + 1))
    assert len({event["id"] for event in events}) == len(events)
    versions: dict[str, int] = {}
    for event in events:
        assert event["version"] == versions.get(event["stream"], 0) + 1
        versions[event["stream"]] = event["version"]
    planned = [e["position"] for e in events if e["type"] == "CorrectionPlanned"]
    ended = [e["payload"]["plan"] for e in events if e["type"] in ENDS]
    assert sorted(ended) == planned, "every plan has exactly one end"
    commits = Counter(e["payload"]["commit"] for e in events if e["type"] == "CommitSeen")
    assert set(commits.values()) == {1}
    claimed = Counter(
        f"{result['ref']['kind']}/{result['ref']['name']}"
        for event in events
        if event["type"] in ENDS
        for result in event["payload"].get("results", ())
        if result["outcome"] == "created" and result["ref"]["name"].startswith("flag-")
    )
    assert max(claimed.values(), default=0) <= 1
    said = (stage.folder / "engine.log").read_text()
    assert "Traceback" not in said, said[said.index("Traceback") - 500 :][:3000]


async def test_a_rollout_that_is_killed_again_and_again_ends_as_desired_and_changes_nothing_twice(
    stage: Stage, pytestconfig: pytest.Config
) -> None:
    kills, seed = pytestconfig.getoption("kills"), pytestconfig.getoption("seed")
    print(f"{kills} kills, --seed {seed}")
    chance = random.Random(seed)
    flags = FLAGS_PER_KILL * kills
    commit = await begin(stage, flags)
    for kill in range(kills):
        # Half of them while the engine starts, is recovering or about to act; the others between
        # two writes of the cluster's.
        if chance.random() < 0.5:
            await anyio.sleep(chance.random() * 0.5)
        else:
            until = (kill + chance.random()) * FLAGS_PER_KILL
            with anyio.move_on_after(20):
                while len(await written(stage)) < until:  # noqa: ASYNC110 - another process
                    await anyio.sleep(0.005)
        await stage.kill_engine()
        await stage.start_engine()
    await is_as_if_nothing_had_happened(stage, commit, flags)


async def test_a_rollout_whose_postgres_is_killed_again_and_again_ends_as_desired(
    stage: Stage, pytestconfig: pytest.Config
) -> None:
    kills, seed = pytestconfig.getoption("kills") // 3 or 1, pytestconfig.getoption("seed")
    print(f"{kills} kills of Postgres, --seed {seed}")
    chance = random.Random(seed)
    flags = 2 * FLAGS_PER_KILL * kills
    commit = await begin(stage, flags)
    for kill in range(kills):
        until = 2 * FLAGS_PER_KILL * (kill + chance.random())
        with anyio.move_on_after(20):
            while len(await written(stage)) < until:  # noqa: ASYNC110 - another process
                await anyio.sleep(0.005)
        lock = stage.data_dir / "postgres/data/postmaster.pid"
        os.kill(int(lock.read_text().split()[0]), signal.SIGKILL)
        # An append is the proof that it goes on.
        path = f"/v1/targets/default/{TARGET}/sync"
        await insisting(stage, "POST", path, {"reason": "again"})
    await is_as_if_nothing_had_happened(stage, commit, flags)


async def test_a_rollout_whose_api_server_is_killed_again_and_again_ends_as_desired(
    stage: Stage, pytestconfig: pytest.Config
) -> None:
    """Killed between two requests, answered or not, with all that it had stored."""
    kills, seed = pytestconfig.getoption("kills"), pytestconfig.getoption("seed")
    print(f"{kills} kills of the API server, --seed {seed}")
    chance = random.Random(seed)
    flags = FLAGS_PER_KILL * kills
    commit = await begin(stage, flags)
    for kill in range(kills):
        until = (kill + chance.random()) * FLAGS_PER_KILL
        with anyio.move_on_after(20):
            while len(await written(stage)) < until:  # noqa: ASYNC110 - another process
                await anyio.sleep(0.005)
        await stage.crash_clusters()
        await anyio.sleep(chance.random())
        await stage.start_clusters()
        await stage.simulated(CLUSTER, "POST", "pace", {"applies_per_second": PACE})
    await is_as_if_nothing_had_happened(stage, commit, flags)


async def test_a_postgres_that_hangs_whole_is_given_up_and_gone_on_with_when_it_is_back(
    stage: Stage,
) -> None:
    flags = 2 * FLAGS_PER_KILL
    commit = await begin(stage, flags)
    with anyio.move_on_after(20):
        while len(await written(stage)) < FLAGS_PER_KILL:  # noqa: ASYNC110 - another process
            await anyio.sleep(0.005)
    hung = processes_of_postgres(stage)
    assert signal_all(hung, signal.SIGSTOP) > 1
    try:
        with anyio.fail_after(120):
            while "standing by" not in (stage.folder / "engine.log").read_text():  # noqa: ASYNC110
                await anyio.sleep(0.05)
    finally:
        signal_all(hung, signal.SIGCONT)
    await is_as_if_nothing_had_happened(stage, commit, flags)
