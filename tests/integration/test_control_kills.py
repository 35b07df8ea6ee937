"""kill -9 of the real engine while configurations change: each in force whole, or not at all."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from engine.cli.demo_stage import DemoFailed, Stage
from tests.repositories import Repository

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]
RESOURCES, COMMITS, SEED = 150, 4, 20261125


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    (tmp_path / "secrets").mkdir()
    monkeypatch.setenv("TRUEUP_SECRET_ROOTS", str(tmp_path / "secrets"))
    stage = Stage(tmp_path, ["dev"])
    try:
        await stage.open()
        yield stage
    finally:
        await stage.close()


def files(stage: Stage, turn: int) -> dict[str, str]:
    """Resources of which each turn withdraws some, changes some and adds some."""
    return {
        f"all/{number}.yaml": f"""apiVersion: trueup.dev/v1
kind: Notification
metadata: {{name: n{number}, labels: {{turn: "{turn // 2}"}}}}
spec: {{events: [held], slack: {{urlFile: {stage.folder}/secrets/url}}}}
"""
        for number in range(turn * 20, turn * 20 + RESOURCES)
    }


async def in_force(stage: Stage) -> str:
    found = await stage.call("GET", "/v1/repositories/default/platform")
    return str((found["state"]["configuration"] or {}).get("commit", ""))


async def until_in_force(stage: Stage, commit: str) -> None:
    with anyio.fail_after(60):
        while await in_force(stage) != commit:  # noqa: ASYNC110 - another process
            await anyio.sleep(0.05)


async def test_a_configuration_is_in_force_whole_or_not_at_all(stage: Stage) -> None:
    chance = random.Random(SEED)
    git = Repository(stage.folder / "git" / "platform.git")
    git.commit(files(stage, 0))
    repository = {
        "apiVersion": "trueup.dev/v1",
        "kind": "Repository",
        "metadata": {"name": "platform"},
        "spec": {"url": git.url, "interval": "1s", "control": True, "controlPath": "all"},
    }
    await stage.call("POST", "/v1/resources", repository)
    last = ""
    for turn in range(1, COMMITS + 1):
        last = git.commit(files(stage, turn))
        with anyio.move_on_after(chance.random() * 2):
            await until_in_force(stage, last)
        await stage.kill_engine()
        await stage.start_engine()
    await until_in_force(stage, last)

    events = await all_events(stage)
    declared: dict[str, Any] = {}
    applied = 0
    for place, event in enumerate(events):
        if event["type"] != "ConfigurationApplied":
            continue
        applied += 1
        count = event["payload"].get("changed", 0) + event["payload"].get("withdrawn", 0)
        # One append has dense positions: what came in force stands right before.
        batch = events[place - count : place]
        assert {item["type"] for item in batch} <= {"Declared", "Withdrawn"}
        for item in batch:
            assert item["correlation"] == event["payload"]["commit"]
            if item["type"] == "Declared":
                declared[item["stream"]] = item["payload"]["labels"]
            else:
                del declared[item["stream"]]
        assert len(declared) == RESOURCES
    owned = [
        event
        for event in events
        if event["type"] in ("Declared", "Withdrawn") and event["stream"].startswith("notif")
    ]
    assert len(owned) == sum(
        event["payload"].get("changed", 0) + event["payload"].get("withdrawn", 0)
        for event in events
        if event["type"] == "ConfigurationApplied"
    ), "nothing outside of a configuration"
    assert set(declared) == {
        f"notification/default/n{path.removeprefix('all/').removesuffix('.yaml')}"
        for path in files(stage, COMMITS)
    }
    assert applied <= COMMITS + 1, "none twice"


async def all_events(stage: Stage) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while page := await stage.events(found[-1]["position"] if found else 0):
        found += page
    if [event["position"] for event in found] != list(range(1, len(found) + 1)):
        raise DemoFailed("the log has holes")
    return found
