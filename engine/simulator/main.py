"""Runs simulated clusters until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from engine.simulator.cluster import Delays
from engine.simulator.keep import load, save
from engine.simulator.server import Simulator


async def simulate(
    clusters: list[str],
    port: int = 0,
    kubeconfig: Path | None = None,
    ready: Callable[[Simulator], None] | None = None,
    *,
    host: str = "127.0.0.1",
    token: str = "",
    ready_delay: float = 1.0,
    state: Path | None = None,
) -> None:
    """Serves clusters until cancelled.

    Writes `kubeconfig` when given and calls `ready` once requests are answered. `ready_delay` is
    how many seconds a workload takes to become ready. With `state`, what that file has is there
    from the first; at SIGUSR1 all is written to it and the process ends with SIGKILL, in between
    two requests. Raises OSError when the port is taken.
    """
    simulator = Simulator(clusters, delays=Delays(ready=ready_delay), token=token)
    if state is not None:
        load(simulator, state)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _die, simulator, state)
    await simulator.start(host, port)
    try:
        if kubeconfig is not None:
            simulator.kubeconfig(kubeconfig)
        if ready is not None:
            ready(simulator)
        await asyncio.get_running_loop().create_future()
    finally:
        await simulator.stop()


def _die(simulator: Simulator, state: Path) -> None:
    save(simulator, state)
    os.kill(os.getpid(), signal.SIGKILL)


def main(arguments: list[str] | None = None) -> int:
    """Serves clusters until SIGINT or SIGTERM; returns the status to exit with."""
    parser = argparse.ArgumentParser(
        prog="python -m engine.simulator", description="Serve simulated Kubernetes clusters."
    )
    parser.add_argument("--clusters", default="dev", help="names, separated by commas")
    parser.add_argument("--kubeconfig", type=Path, help="where to write a kubeconfig")
    parser.add_argument(
        "--port", type=int, default=0, help="port to listen on (default: a free one)"
    )
    parser.add_argument("--ready-delay", type=float, default=1.0, help="seconds until ready")
    parser.add_argument("--state", type=Path, help="what is kept over a crash (SIGUSR1)")
    chosen = parser.parse_args(arguments)

    def ready(simulator: Simulator) -> None:
        for name in simulator.names:
            sys.stdout.write(f"{simulator.url}/c/{name}\n")
        sys.stdout.flush()

    async def run() -> None:
        task = asyncio.ensure_future(
            simulate(
                [name for name in chosen.clusters.split(",") if name],
                chosen.port,
                chosen.kubeconfig,
                ready,
                ready_delay=chosen.ready_delay,
                state=chosen.state,
            )
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())
    return 0
