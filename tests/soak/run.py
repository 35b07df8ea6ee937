"""Soaks: rounds of trouble, each followed by calm, in which everything has to be right again."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import anyio

from engine.cli.demo_stage import DemoFailed, Stage
from engine.cli.demo_story import _application, _cluster, _repository
from tests.soak.chaos import Broken, Chaos

CLUSTERS = ["dev", "prod", "far"]
ENDS = ("CorrectionApplied", "CorrectionFailed", "CorrectionAbandoned")
CALM = 90.0
"""Seconds in which everything has to be right again once nothing is broken any more."""
LAST_LINES = 40
"""Of the engine's log that are shown where something does not hold."""
Say = Callable[[str], None]


async def soak(folder: Path, seed: int, minutes: float, say: Say, deeds: int = 12) -> int:
    """Run rounds of `deeds` things each until the time is over, at least one; return how many.

    Raises `Broken`, which says what does not hold.
    """
    chance, rounds, until = Random(seed), 0, time.monotonic() + minutes * 60
    stage = Stage(folder, CLUSTERS)
    try:
        await stage.open()
        stage.repository.start(CLUSTERS)
        body = [_repository(stage.repository.url)]
        body += [_cluster(name, str(stage.kubeconfig)) for name in CLUSTERS]
        body += [_application(name) for name in CLUSTERS]
        await stage.call("POST", "/v1/resources", body)
        chaos = Chaos(stage, chance)
        await _right(chaos)
        while rounds == 0 or time.monotonic() < until:
            rounds += 1
            for _ in range(deeds):
                say(f"round {rounds}: {await chaos.one()}")
                await anyio.sleep(chance.uniform(0.0, 1.0))
            await chaos.calm()
            await _right(chaos)
            say(f"round {rounds}: right again")
    finally:
        await stage.close()
    _whole(stage, say)
    return rounds


async def _right(chaos: Chaos) -> None:
    """Wait until every target is as the last commit wants it, and hold the log to its promises."""
    try:
        with anyio.fail_after(CALM):
            while problem := await _not_right(chaos):  # noqa: ASYNC110 - other processes
                await anyio.sleep(0.2)
    except TimeoutError:
        raise Broken(f"not right after {CALM:g} s of calm: {problem}") from None
    await _recorded_once(chaos.stage)


async def _not_right(chaos: Chaos) -> str:
    """Return what is not as it should be yet."""
    stage, head = chaos.stage, chaos.stage.repository.head
    try:
        for cluster in stage.clusters:
            target = f"shop-{cluster}@{cluster}"
            status = (await stage.call("GET", f"/v1/targets/default/{target}"))["status"]
            if (status["sync"], status["revision"]) != ("synced", head):
                return (
                    f"{target} is {status['sync']} at {status['revision'][:8]}: {status['reason']}"
                )
            diff = await stage.call("GET", f"/v1/targets/default/{target}/diff")
            if not diff["same"]:
                return f"{target} differs: {diff['differences'][:3]}"
            # What the cluster has is looked at without the engine.
            live = await stage.kubectl(
                cluster,
                "--request-timeout=5s",
                "-n",
                "shop",
                "get",
                "cm",
                "shop",
                "-o",
                "jsonpath={.data.greeting}",
            )
            if live != chaos.greeting:
                return f"{cluster} greets with {live!r}, not {chaos.greeting!r}"
    except (DemoFailed, aiohttp.ClientError, TimeoutError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


async def _recorded_once(stage: Stage) -> None:
    events: list[dict[str, Any]] = []
    while more := await stage.events(events[-1]["position"] if events else 0):
        events += more
    positions = [event["position"] for event in events]
    _must(positions == list(range(1, len(events) + 1)), "positions are not dense")
    _must(len({event["id"] for event in events}) == len(events), "an event id is there twice")
    versions: dict[str, int] = {}
    for event in events:
        known = versions.get(event["stream"], 0)
        _must(event["version"] == known + 1, f"{event['stream']} skips version {known + 1}")
        versions[event["stream"]] = event["version"]
    planned = [event["position"] for event in events if event["type"] == "CorrectionPlanned"]
    ended = Counter(event["payload"]["plan"] for event in events if event["type"] in ENDS)
    twice = [plan for plan, times in ended.items() if times > 1]
    _must(not twice, f"plans with two ends: {twice}")
    # One may be under way.
    _must(len(set(planned) - set(ended)) <= len(stage.clusters), "plans without an end")
    commits = Counter(e["payload"]["commit"] for e in events if e["type"] == "CommitSeen")
    _must(all(times == 1 for times in commits.values()), "a commit was seen twice")
    _must(set(commits) >= {stage.repository.head}, "the last commit was not seen")


def _whole(stage: Stage, say: Say) -> None:
    """Let `trueup fsck` hold log, proofs and views against a fresh fold."""
    done = subprocess.run(
        [sys.executable, "-m", "engine.cli", "fsck", "--data-dir", str(stage.data_dir)],
        capture_output=True,
        text=True,
        check=False,
    )
    say(f"fsck: {done.stdout.strip()}")
    _must(done.returncode == 0, f"the log is not whole:\n{done.stdout}{done.stderr[-2000:]}")
    said = (stage.folder / "engine.log").read_text()
    at = said.find("Traceback")
    _must(at < 0, f"the engine's log has a traceback:\n{said[max(0, at - 500) : at + 3000]}")


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise Broken(what)


def main(words: Sequence[str]) -> int:
    """Soak as `minutes=… seed=…` say; return 0 where everything held."""
    given = dict(word.split("=", 1) for word in words)
    seed, minutes = int(given.pop("seed", time.time_ns() % 100_000)), float(given.pop("minutes", 5))
    if given:
        print(f"soak takes minutes=N and seed=N, not {' '.join(given)}", file=sys.stderr)
        return 2
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {text}", flush=True)

    with tempfile.TemporaryDirectory(prefix="trueup-soak-") as folder:
        say(f"seed={seed} minutes={minutes:g}")
        try:
            rounds = anyio.run(soak, Path(folder), seed, minutes, say)
        except Broken as broken:
            say(f"BROKEN (seed={seed}): {broken}")
            for line in (Path(folder) / "engine.log").read_text().splitlines()[-LAST_LINES:]:
                print(line[:1000])
            return 1
    say(f"{rounds} rounds held (seed={seed})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
