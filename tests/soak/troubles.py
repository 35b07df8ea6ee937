"""What can go wrong, with processes, clusters and receivers."""

from __future__ import annotations

import os
import signal
from typing import Any

import anyio
from aiohttp import web

from tests.soak.scene import Broken, Scene, processes_of_postgres, signal_all


async def kill_engine(scene: Scene) -> str:
    """The engine is killed, and started again."""
    await scene.stage.kill_engine()
    await scene.stage.start_engine()
    return "kill -9 of the engine"


async def kill_postgres(scene: Scene) -> str:
    """Postgres is killed; the engine starts it again."""
    if not signal_all(processes_of_postgres(scene.stage)[:1], signal.SIGKILL):
        return "Postgres is down already"
    return "kill -9 of Postgres"


async def hang_postgres(scene: Scene) -> str:
    """Postgres takes no connection for a while; or all of it hangs."""
    processes, seconds = processes_of_postgres(scene.stage), scene.chance.uniform(0.2, 8.0)
    whole = scene.chance.random() < 0.5
    stopped = processes if whole else processes[:1]
    try:
        if not signal_all(stopped, signal.SIGSTOP):
            return "Postgres is down already"
        await anyio.sleep(seconds)
    finally:
        signal_all(stopped, signal.SIGCONT)
    return f"Postgres {'hung' if whole else 'took no connection'} for {seconds:.1f} s"


async def hang_engine(scene: Scene) -> str:
    """The engine is stopped for so long that its lease may run out, and goes on."""
    pid, seconds = scene.stage.engine_pid(), scene.chance.uniform(0.5, 8.0)
    try:
        os.kill(pid, signal.SIGSTOP)
        await anyio.sleep(seconds)
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        raise Broken("the engine ended by itself") from None
    return f"the engine hung for {seconds:.1f} s"


async def kill_clusters(scene: Scene) -> str:
    """All API servers are killed, and start again: with what they had, or all of it lost."""
    lost, stage = scene.chance.random() < 0.3, scene.stage
    await (stage.kill_clusters() if lost else stage.crash_clusters())
    await anyio.sleep(scene.chance.uniform(0.0, 3.0))
    await stage.start_clusters()
    return f"kill -9 of the API servers, {'all lost' if lost else 'all kept'}"


async def storm(scene: Scene) -> str:
    """A cluster refuses, fails, hangs or cuts some requests."""
    cluster = scene.cluster()
    fault: dict[str, Any] = scene.chance.choice(
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
    await scene.stage.simulated(cluster, "POST", "faults", fault)
    return f"{cluster}: {' '.join(f'{key}={value}' for key, value in fault.items())}"


async def blackhole(scene: Scene) -> str:
    """A cluster answers nothing until all is calm."""
    cluster = scene.cluster()
    await scene.stage.simulated(cluster, "POST", "faults", {"action": "hang"})
    return f"{cluster} answers nothing"


async def watches(scene: Scene) -> str:
    """Watches end, or their history is gone."""
    cluster, what = scene.cluster(), scene.chance.choice(["drop-watches", "expire"])
    await scene.stage.simulated(cluster, "POST", what)
    return f"{cluster}: {what}"


async def refuse_alerts(scene: Scene) -> str:
    """The receiver of alerts refuses the next few, or hangs up after it took one."""
    status, times = scene.chance.choice([500, 503, 429, 0]), scene.chance.randint(1, 3)

    async def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response(status=500)

    answer = hang_up if status == 0 else lambda _: _status(status)
    scene.receiver.answers.extend([answer] * times)
    return f"the receiver answers {status or 'nothing'} to the next {times}"


async def _status(status: int) -> web.Response:
    return web.Response(status=status)
