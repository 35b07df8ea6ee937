"""`trueup demo`: the whole line on simulated clusters, told as it happens."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.cli.demo_stage import Stage

INTERRUPTED = 130
"""The status of a story that was not told to its end, as a shell has it for Ctrl-C."""


def demo(*, exit: bool = False, data_dir: Path | None = None, clusters: int = 3) -> None:  # noqa: A002
    """Tell the story: sync, roll out, drift, hold, kill -9; on embedded Postgres and a real Git.

    --exit ends when the story is told; otherwise the server stays up until Ctrl-C.

    For example:

        trueup demo --exit
    """
    import anyio

    from engine.cli.demo_stage import DemoFailed
    from engine.cli.simulate import names_of

    if clusters < 1:
        sys.stderr.write("trueup demo: --clusters must be 1 or more\n")
        raise SystemExit(2)
    with tempfile.TemporaryDirectory(prefix="trueup-demo-") as scratch:
        folder = data_dir or Path(scratch)
        if data_dir is not None and data_dir.exists() and any(data_dir.iterdir()):
            sys.stderr.write(f"trueup demo: {data_dir} is not empty; name another folder\n")
            raise SystemExit(2)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            anyio.run(_play, folder, names_of(clusters), exit)
        except DemoFailed as failed:
            sys.stderr.write(f"trueup demo: {failed}\n")
            raise SystemExit(1) from None
        except KeyboardInterrupt:
            sys.stdout.write("stopped\n")
            if exit:
                raise SystemExit(INTERRUPTED) from None


async def _play(folder: Path, clusters: list[str], ends: bool) -> None:
    import asyncio

    import anyio

    from engine.cli.demo_stage import Stage
    from engine.cli.demo_story import Story

    stage = Stage(folder, clusters)
    try:
        started = time.monotonic()
        # As with Ctrl-C, where it is a supervisor that ends it: nothing is left behind.
        stop = anyio.CancelScope()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.cancel)
        with stop:
            await stage.open()
            await Story(stage, started).tell()
            if not ends:
                sys.stdout.write(f"\nThe server stays at {stage.url} until Ctrl-C.\n")
                await _offer_pages(stage)
            return
        raise KeyboardInterrupt
    finally:
        with anyio.CancelScope(shield=True):
            await stage.close()


async def _offer_pages(stage: Stage) -> None:
    """Print a link that logs a browser in; another one whenever Enter is pressed."""
    import anyio

    while True:
        offered = await stage.call("POST", "/v1/login-links")
        sys.stdout.write(
            f"\nLook at it in a browser (this link is good once, for {offered['seconds']:g} s):\n"
            f"  {stage.url}{offered['path']}\n"
        )
        if not sys.stdin.isatty():
            sys.stdout.write(f"Another one: TRUEUP_DATA_DIR={stage.data_dir} trueup login\n")
            sys.stdout.flush()
            await anyio.sleep_forever()
        sys.stdout.write("Press Enter for another one.\n")
        sys.stdout.flush()
        await anyio.wait_readable(sys.stdin)
        if not os.read(sys.stdin.fileno(), 4096):
            await anyio.sleep_forever()
