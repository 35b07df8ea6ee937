"""Clusters that hang, refuse for a while or fail: others keep their pace, what is asked is done.

Nothing is timed: what others do is counted while one cluster answers nothing at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.line import Line
from tests.repositories import Repository

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]
APPLICATIONS = 12
"""More than are worked on at a time on one cluster, and in all (see `storm`)."""
DEAD, LIVE = "dead", ("one", "two", "three")


class Storm(Line):
    """Many small applications, each on every cluster."""

    def __init__(self, folder: Path, dsn: str) -> None:
        settings = {"concurrency_total": 8, "concurrency_per_cluster": 4, "retry_base": 1}
        super().__init__(folder, dsn, [DEAD, *LIVE], **settings)
        self.git.mkdir()
        self.repository = Repository(self.git / "many.git")
        self.names = [f"app{number:02}" for number in range(APPLICATIONS)]

    def commit(self, turn: int) -> str:
        text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: default}\n"
        return self.repository.commit(
            {f"{name}/map.yaml": text % name + f'data: {{turn: "{turn}"}}\n' for name in self.names}
        )

    async def begin(self) -> None:
        commit = self.commit(0)
        url = {"url": self.repository.url, "interval": "1s"}
        clusters = {"targets": {"clusters": list(self.clusters)}}
        await self.declare(
            {"kind": "Repository", "metadata": {"name": "many"}, "spec": url},
            *map(self.cluster, self.clusters),
            *(
                {
                    "kind": "Application",
                    "metadata": {"name": name},
                    "spec": {"source": {"repository": "many", "path": name}, **clusters},
                }
                for name in self.names
            ),
        )
        await self.all_synced(self.clusters, commit)

    async def all_synced(self, clusters: Any, commit: str) -> None:
        for cluster in clusters:
            for name in self.names:
                await self.synced(f"{name}@{cluster}", commit)

    async def fault(self, **fault: Any) -> None:
        await self.simulated(DEAD, "POST", "faults", fault)

    async def applies(self, cluster: str) -> list[dict[str, Any]]:
        return [each for each in await self.written(cluster) if each["form"] == "apply"]


@pytest.fixture
async def storm(tmp_path: Path, dsn: str) -> AsyncIterator[Storm]:
    line = Storm(tmp_path, dsn)
    async with line.clusters_running(), line.engine():
        await line.begin()
        yield line


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "hang"},
        {"action": "hang", "verbs": ["patch"]},
        {"action": "fail", "code": 500, "verbs": ["patch"]},
        {"action": "fail", "code": 429, "retry_after": 30, "verbs": ["patch"]},
    ],
    ids=["blackhole", "applies hang", "500", "429"],
)
async def test_a_cluster_in_trouble_with_many_targets_costs_the_others_nothing(
    storm: Storm, fault: dict[str, Any]
) -> None:
    """All of theirs are rolled out, several times, before the one in trouble is done once."""
    await storm.fault(**fault)
    for turn in (1, 2, 3):
        await storm.all_synced(LIVE, storm.commit(turn))
    there = [
        event
        for event in await storm.events(type="CorrectionApplied", after=0)
        if event["stream"].endswith(f"@{DEAD}")
    ]
    assert len(there) == APPLICATIONS, "those of the beginning"
    for cluster in LIVE:
        changed = [each for each in await storm.applies(cluster) if each["changed"]]
        assert len(changed) == 4 * APPLICATIONS, "each was applied once for each commit"


async def test_a_server_that_asks_for_time_is_given_it_by_every_target(storm: Storm) -> None:
    """As long as the wait lasts, no object is asked for twice: no storm meets a storm."""
    control = storm.simulator.control(DEAD)
    before = control.requests[("patch", "configmaps")]
    await storm.fault(action="fail", code=429, retry_after=300, verbs=["patch"])
    commit = storm.commit(1)
    await storm.all_synced(LIVE, commit)
    (failed, *_) = await storm.until("CorrectionFailed")
    assert failed["payload"]["code"] == "failed"
    assert 0 < control.requests[("patch", "configmaps")] - before <= APPLICATIONS
    # What a person asks for is done when the storm is over: a minute is the longest that one
    # answer holds up a whole cluster.
    await storm.simulated(DEAD, "DELETE", "faults")
    for name in storm.names:
        path = f"/v1/targets/default/{name}@{DEAD}/sync"
        await storm.call("POST", path, {"reason": "the storm is over"})
    with anyio.fail_after(110):
        while any(await _left(storm, commit)):  # noqa: ASYNC110 - the pause takes its time
            await anyio.sleep(0.2)


async def test_a_storm_of_failures_is_met_ever_more_seldom_and_ends_as_desired(
    storm: Storm,
) -> None:
    await storm.fault(action="fail", code=500, verbs=["patch"], times=3 * APPLICATIONS)
    commit = storm.commit(1)
    with anyio.fail_after(120):
        while any(await _left(storm, commit)):  # noqa: ASYNC110 - retries take their time
            await anyio.sleep(0.2)
    failed = [event["payload"] for event in await storm.events(type="CorrectionFailed")]
    assert max(each["attempt"] for each in failed) >= 2
    changed = [each for each in await storm.applies(DEAD) if each["changed"]]
    assert len(changed) == 2 * APPLICATIONS


async def _left(storm: Storm, commit: str) -> list[str]:
    found = (await storm.call("GET", "/v1/targets?limit=500"))["items"]
    return [
        item["target"] for item in found if (item["sync"], item["revision"]) != ("synced", commit)
    ]
