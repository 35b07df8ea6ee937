"""What can go wrong, drawn by chance: each a coroutine on a stage, the seed tells which."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import anyio

from engine.cli.demo_stage import DemoFailed, Stage


class Broken(Exception):
    """Something that must hold does not."""


Trouble = Callable[["Chaos"], Awaitable[str]]


class Chaos:
    """A stage, chance, and what is broken on it now."""

    def __init__(self, stage: Stage, chance: Random) -> None:
        self.stage, self.chance = stage, chance
        self.commits = 0

    @property
    def greeting(self) -> str:
        """What the last commit says."""
        return f"hello-{self.commits}" if self.commits else "hello"

    async def one(self) -> str:
        """Do one thing, trouble or work; return what, in a few words."""
        weights = [weight for weight, _ in DEEDS]
        (deed,) = self.chance.choices([deed for _, deed in DEEDS], weights)
        return await deed(self)

    async def calm(self) -> None:
        """Switch every fault of the clusters off."""
        for cluster in self.stage.clusters:
            await self.stage.simulated(cluster, "DELETE", "faults")
            await self.stage.simulated(cluster, "POST", "pace", {})

    def cluster(self) -> str:
        """Draw a cluster."""
        return self.chance.choice(self.stage.clusters)

    def signal_postgres(self, number: signal.Signals) -> bool:
        """Send the embedded Postgres a signal; False where it is down just now."""
        file = self.stage.data_dir / "postgres/data/postmaster.pid"
        try:
            os.kill(int(file.read_text().split()[0]), number)
        except (FileNotFoundError, ProcessLookupError, IndexError):
            return False
        return True


# Work.


async def commit(chaos: Chaos) -> str:
    """Somebody commits."""
    chaos.commits += 1
    chaos.stage.repository.greeting(chaos.greeting)
    return "a commit"


async def edit(chaos: Chaos) -> str:
    """Somebody edits or deletes behind Git's back."""
    cluster = chaos.cluster()
    words = chaos.chance.choice(
        [
            ("scale", "deploy/shop", f"--replicas={chaos.chance.randint(4, 9)}"),
            ("delete", "configmap", "shop", "--wait=false"),
            ("label", "configmap", "shop", f"soak=v{chaos.chance.randint(0, 9)}", "--overwrite"),
            ("patch", "configmap", "shop", "-p", '{"data":{"greeting":"evil"}}'),
        ]
    )
    try:
        await chaos.stage.kubectl(cluster, "--request-timeout=3s", "-n", "shop", *words)
    except DemoFailed as error:
        # Not there yet, or refused by a fault of ours: nothing was edited then.
        return f"kubectl {words[0]} on {cluster} was refused: {str(error)[-60:]}"
    return f"kubectl {words[0]} on {cluster}"


# Trouble.


async def kill_engine(chaos: Chaos) -> str:
    """The engine is killed, and started again."""
    await chaos.stage.kill_engine()
    await chaos.stage.start_engine()
    return "kill -9 of the engine"


async def kill_postgres(chaos: Chaos) -> str:
    """Postgres is killed; the engine starts it again."""
    is_up = chaos.signal_postgres(signal.SIGKILL)
    return "kill -9 of Postgres" if is_up else "Postgres is down already"


async def hang_postgres(chaos: Chaos) -> str:
    """Postgres hangs for a while."""
    seconds = chaos.chance.uniform(0.2, 6.0)
    if not chaos.signal_postgres(signal.SIGSTOP):
        return "Postgres is down already"
    try:
        await anyio.sleep(seconds)
    finally:
        chaos.signal_postgres(signal.SIGCONT)
    return f"Postgres took no connection for {seconds:.1f} s"


async def hang_engine(chaos: Chaos) -> str:
    """The engine is stopped for so long that its lease may run out, and goes on."""
    pid, seconds = chaos.stage.engine_pid(), chaos.chance.uniform(0.5, 8.0)
    try:
        os.kill(pid, signal.SIGSTOP)
        await anyio.sleep(seconds)
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        raise Broken("the engine ended by itself") from None
    return f"the engine hung for {seconds:.1f} s"


async def storm(chaos: Chaos) -> str:
    """A cluster refuses, fails, hangs or cuts some requests."""
    cluster = chaos.cluster()
    fault: dict[str, Any] = chaos.chance.choice(
        [
            {"action": "fail", "code": 429, "retry_after": 1, "times": 20},
            {"action": "fail", "code": 500, "times": 20},
            {"action": "fail", "code": 500, "after": True, "verbs": ["patch"], "times": 3},
            {"action": "fail", "code": 503, "times": 10},
            {"action": "cut", "times": 10},
            {"action": "cut", "after": True, "verbs": ["patch"], "times": 3},
            {"action": "hang", "verbs": ["patch"], "times": 2},
            {"action": "delay", "seconds": 0.5, "times": 20},
            {"action": "forbid", "resource": "services", "times": 6},
        ]
    )
    await chaos.stage.simulated(cluster, "POST", "faults", fault)
    return f"{cluster}: {' '.join(f'{key}={value}' for key, value in fault.items())}"


async def blackhole(chaos: Chaos) -> str:
    """A cluster answers nothing until all is calm."""
    cluster = chaos.cluster()
    await chaos.stage.simulated(cluster, "POST", "faults", {"action": "hang"})
    return f"{cluster} answers nothing"


async def watches(chaos: Chaos) -> str:
    """Watches end, or their history is gone."""
    cluster, what = chaos.cluster(), chaos.chance.choice(["drop-watches", "expire"])
    await chaos.stage.simulated(cluster, "POST", what)
    return f"{cluster}: {what}"


DEEDS: tuple[tuple[int, Trouble], ...] = (
    (8, commit),
    (12, edit),
    (4, kill_engine),
    (2, kill_postgres),
    (2, hang_postgres),
    (2, hang_engine),
    (8, storm),
    (2, blackhole),
    (4, watches),
)
"""What may happen, with how often."""
