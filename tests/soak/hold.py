"""What must hold whatever came: of the targets, the log, the past, and the alerts."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio

from engine.cli.demo_stage import Stage
from engine.embedded.server import EmbeddedPostgres
from events.event import Position
from events.postgres import open_log
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.asof import as_of
from projections.batch import Group
from projections.postgres import PostgresViews
from projections.views import read_all
from tests.keeping import everything, naive_documents, pool_of
from tests.soak.scene import CALM, FLAGS, REFUSED, Broken, Scene

ENDS = ("CorrectionApplied", "CorrectionFailed", "CorrectionAbandoned")
ALERTS = ("DriftDetected", "ClusterLost")
PASTS = 6
"""Positions at which every view is held against a fresh fold."""


async def right(scene: Scene) -> None:
    """Wait until every target is as the last commit wants it, then hold the log to its promises."""
    problem = ""
    try:
        with anyio.fail_after(CALM):
            while problem := await _not_right(scene):  # noqa: ASYNC110 - other processes
                await anyio.sleep(0.3)
    except TimeoutError:
        raise Broken(f"not right after {CALM:g} s of calm: {problem}") from None
    events = await _events(scene.stage)
    _recorded_once(scene, events)
    await _told_alike(scene)


async def _not_right(scene: Scene) -> str:
    """Return what is not as it should be yet."""
    try:
        found = (await scene.ask("GET", "/v1/targets?limit=500"))["items"]
        standing = {item["target"]: item for item in found}
        if set(standing) != set(scene.targets):
            return f"targets {sorted(set(standing) ^ set(scene.targets))} are too many or missing"
        for target, status in standing.items():
            if status["sync"] != "synced" or status["health"] != "healthy":
                return f"{target} is {status['sync']}, {status['health']}: {status['reason']}"
        control = await scene.ask("GET", "/v1/repositories/default/platform")
        if (control["state"]["configuration"] or {}).get("commit") != scene.configured:
            return f"the configuration {scene.configured[:8]} is not in force"
        # What the clusters have is looked at without the engine.
        async with aiohttp.ClientSession() as session:
            for cluster in scene.stage.clusters:
                if problem := await _differs(scene, session, cluster):
                    return f"{cluster}: {problem}"
        return await _untold(scene)
    except REFUSED as error:
        return f"{type(error).__name__}: {error}"


async def _differs(scene: Scene, session: aiohttp.ClientSession, cluster: str) -> str:
    async def get(path: str) -> Any:
        async with session.get(f"{scene.stage.simulated_url(cluster)}/{path}") as answer:
            return await answer.json(content_type=None) if answer.status == 200 else {}

    wanted = {"shop": scene.greeting}
    for name, value in wanted.items():
        live = (await get(f"api/v1/namespaces/shop/configmaps/{name}")).get("data", {})
        if live != {"greeting": value}:
            return f"it greets with {live!r}, not {value!r}"
    deployment = await get("apis/apps/v1/namespaces/shop/deployments/shop")
    replicas = scene.stage.clusters.index(cluster) + 1
    if deployment.get("spec", {}).get("replicas") != replicas:
        return f"shop has not {replicas} replicas"
    flags = (await get("api/v1/namespaces/flags/configmaps")).get("items", [])
    turns = {item["data"]["turn"] for item in flags if item["metadata"]["name"] != "kube-root-ca"}
    if len(flags) < FLAGS or turns != {str(scene.turn)}:
        return f"{len(flags)} flags have the turns {turns}"
    return ""


async def _untold(scene: Scene) -> str:
    """Return which alert has not been delivered yet."""
    events = await _events(scene.stage)
    told = {
        event["payload"]["position"]
        for event in events
        if event["type"] == "NotificationDelivered" and event["stream"].endswith("/ops")
    }
    for event in events:
        is_due = event["type"] in ALERTS and event["position"] > scene.notified_from
        if is_due and event["position"] not in told:
            return f"nobody was told of {event['type']} at {event['position']}"
    return ""


async def _events(stage: Stage) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while more := await stage.events(found[-1]["position"] if found else 0):
        found += more
    return found


def _recorded_once(scene: Scene, events: list[dict[str, Any]]) -> None:
    positions = [event["position"] for event in events]
    must(positions == list(range(1, len(events) + 1)), "positions are not dense")
    must(len({event["id"] for event in events}) == len(events), "an event id is there twice")
    versions: dict[str, int] = {}
    for event in events:
        known = versions.get(event["stream"], 0)
        must(event["version"] == known + 1, f"{event['stream']} skips version {known + 1}")
        versions[event["stream"]] = event["version"]
    planned = [event["position"] for event in events if event["type"] == "CorrectionPlanned"]
    ended = Counter(event["payload"]["plan"] for event in events if event["type"] in ENDS)
    twice = [plan for plan, times in ended.items() if times > 1]
    must(not twice, f"plans with two ends: {twice}")
    # One of each target's may be under way.
    must(len(set(planned) - set(ended)) <= len(scene.targets), "plans without an end")
    commits = Counter(
        (event["stream"], event["payload"]["commit"])
        for event in events
        if event["type"] == "CommitSeen"
    )
    must(all(times == 1 for times in commits.values()), "a commit was seen twice")
    seen = {commit for _, commit in commits}
    must(seen >= {scene.stage.repository.head, scene.configured}, "the last commit was not seen")
    _delivered(scene, events)


def _delivered(scene: Scene, events: list[dict[str, Any]]) -> None:
    """Every delivery in the log was taken, under one id for each alert, with a good signature."""
    delivered = [event["payload"] for event in events if event["type"] == "NotificationDelivered"]
    ids: dict[int, set[str]] = {}
    for got in scene.receiver.got:
        got.check_signature()
        ids.setdefault(got.position, set()).add(got.id)
    several = {position: found for position, found in ids.items() if len(found) > 1}
    must(not several, f"alerts with several ids: {several}")
    for payload in delivered:
        found = ids.get(payload["position"], set())
        must(found <= scene.receiver.taken and bool(found), f"{payload} was never taken")
    times = Counter(payload["position"] for payload in delivered)
    must(all(count == 1 for count in times.values()), "a delivery is in the log twice")


async def _told_alike(scene: Scene) -> None:
    """What was seen at a position is told of it later, too."""
    for position, items in scene.remembered.items():
        found = await scene.insist("GET", f"/v1/targets?limit=500&at={position}")
        for now, then in zip(found["items"], items, strict=True):
            must(now == then, f"at {position} it was {then}, and is told as {now}")
    scene.remembered.clear()


def whole(scene: Scene) -> Iterator[str]:
    """Let `trueup fsck` hold log, proofs and views against a fresh fold; yield what it says."""
    stage = scene.stage
    done = subprocess.run(
        [sys.executable, "-m", "engine.cli", "fsck", "--data-dir", str(stage.data_dir)],
        capture_output=True,
        text=True,
        check=False,
    )
    yield f"fsck: {done.stdout.strip()}"
    must(done.returncode == 0, f"the log is not whole:\n{done.stdout}{done.stderr[-2000:]}")
    said = (stage.folder / "engine.log").read_text()
    at = said.find("Traceback")
    must(at < 0, f"the engine's log has a traceback:\n{said[max(0, at - 200) : at + 3000]}")


async def past(scene: Scene, folder: Path) -> str:
    """Hold every view, as it stood at some positions, against a fold done naively."""
    async with EmbeddedPostgres(folder) as postgres:
        opened = open_log(postgres.dsn, packages=("events", "projections"))
        async with opened as log, pool_of(postgres.dsn) as pool:
            views = PostgresViews(pool, Group(DOCUMENT_VIEWS, SUBJECT_VIEWS))
            async with views.snapshot() as reader:
                head = reader.position
            events = await everything(log, head)
            positions = [head, *(scene.chance.randint(1, head) for _ in range(PASTS))]
            for position in positions:
                async with as_of(views, log, Position(position)) as reader:
                    for view in DOCUMENT_VIEWS:
                        wanted, _ = naive_documents(view, events[:position])
                        found = {
                            each.key: (each.position, each.document)
                            for each in await read_all(reader, view)
                        }
                        must(found == wanted, f"{view.name} at {position} is no fresh fold")
    return f"every view is a fresh fold at {sorted(positions)}"


def must(holds: bool, what: str) -> None:
    """Raise `Broken` unless it holds."""
    if not holds:
        raise Broken(what)
