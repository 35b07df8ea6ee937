"""Soaks: rounds of trouble, each followed by calm, in which everything has to be right again."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from random import Random

import anyio

from tests.notifying import receiving
from tests.soak import hold, people, troubles
from tests.soak.scene import Broken, Scene

LAST_LINES = 40
"""Of the engine's log that are shown where something does not hold."""
Say = Callable[[str], None]
Deed = Callable[[Scene], Awaitable[str]]
DEEDS: tuple[tuple[int, Deed], ...] = (
    (8, people.commit),
    (3, people.configure),
    (12, people.edit),
    (8, people.steer),
    (2, people.withdraw),
    (2, people.declare),
    (6, people.look),
    (4, people.remember),
    (8, troubles.storm),
    (2, troubles.blackhole),
    (4, troubles.watches),
    (3, troubles.refuse_alerts),
    (2, troubles.hang_postgres),
    (2, troubles.hang_engine),
    (2, troubles.kill_postgres),
    (2, troubles.kill_clusters),
    (4, troubles.kill_engine),
)
"""What may happen, with how often."""


async def soak(
    folder: Path,
    seed: int,
    minutes: float,
    say: Say,
    *,
    deeds: int = 25,
    clusters: int = 12,
    steady: bool = False,
) -> int:
    """Run rounds of `deeds` things each until the time is over, at least one; return how many.

    `steady` leaves the engine alive, so that its memory can be followed. Raises `Broken`, which
    says what does not hold.
    """
    chance, rounds, until = Random(seed), 0, time.monotonic() + minutes * 60
    scene = Scene(folder, [f"c{number:02}" for number in range(clusters)], chance)
    choice = [pair for pair in DEEDS if not (steady and pair[1] is troubles.kill_engine)]
    async with receiving(receiver=scene.receiver):
        try:
            await scene.open()
            await hold.right(scene)
            say(f"all is there: {_use(scene)}")
            while rounds == 0 or time.monotonic() < until:
                rounds += 1
                for _ in range(deeds):
                    (deed,) = chance.choices(
                        [deed for _, deed in choice], [weight for weight, _ in choice]
                    )
                    say(f"round {rounds}: {await deed(scene)}")
                    await anyio.sleep(chance.uniform(0.0, 1.0))
                await scene.calm()
                await hold.right(scene)
                say(f"round {rounds}: right again; {_use(scene)}")
                if steady:
                    await _count(scene, say)
        finally:
            await scene.stage.close()
    if grown := scene.census.grown():
        raise Broken(f"there is ever more of {grown}")
    for line in hold.whole(scene):
        say(line)
    say(await hold.past(scene, scene.stage.data_dir / "postgres"))
    return rounds


async def _count(scene: Scene, say: Say) -> None:
    census = scene.census
    await census.take(scene.stage.engine_pid())
    grown = ", ".join(f"{name} {counts}" for name, counts in census.grown().items())
    objects, blocks = sum(census.counts[-1].values()), census.blocks[-1]
    said = f"{objects} objects, {blocks} blocks, {census.resident[-1]:.0f} MB"
    say(f"{said}; ever more: {grown or 'nothing'}")


def _use(scene: Scene) -> str:
    """Say what the engine uses."""
    process = Path(f"/proc/{scene.stage.engine_pid()}")
    threads, files = len(os.listdir(process / "task")), len(os.listdir(process / "fd"))
    memory = scene.stage.engine_memory()
    return f"the engine has {memory:.0f} MB, {threads} threads, {files} open files"


def _last_lines(log: Path) -> list[str]:
    """Return what the engine said last, beside that it answered."""
    lines = log.read_text().splitlines()
    return [line for line in lines if '"message":"request"' not in line][-LAST_LINES:]


def main(words: Sequence[str]) -> int:
    """Soak as `minutes=… seed=… clusters=… steady=1` say; return 0 where everything held."""
    given = dict(word.split("=", 1) for word in words)
    seed, minutes = int(given.pop("seed", time.time_ns() % 100_000)), float(given.pop("minutes", 5))
    clusters, steady = int(given.pop("clusters", 12)), bool(int(given.pop("steady", 0)))
    if given:
        known = "minutes=N seed=N clusters=N steady=1"
        print(f"soak takes {known}, not {' '.join(given)}", file=sys.stderr)
        return 2
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {text}", flush=True)

    async def run(folder: Path) -> int:
        return await soak(folder, seed, minutes, say, clusters=clusters, steady=steady)

    with tempfile.TemporaryDirectory(prefix="trueup-soak-") as folder:
        say(f"seed={seed} minutes={minutes:g} clusters={clusters} steady={int(steady)}")
        try:
            rounds = anyio.run(run, Path(folder))
        except Broken as broken:
            say(f"BROKEN (seed={seed}): {broken}")
            for line in _last_lines(Path(folder) / "engine.log"):
                print(line[:1000])
            return 1
    say(f"{rounds} rounds held (seed={seed})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
