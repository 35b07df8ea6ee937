"""Processes that fold shards of the views, started by the engine and kept going.

Each ends when its standard input does, so with the engine, however that ends. One that dies is
started again, ever more slowly; the others take its shards over meanwhile.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import anyio

from engine.ports import Clock
from engine.settings import PREFIX, Settings

logger = logging.getLogger(__name__)
_FIRST_PAUSE, _LAST_PAUSE = 0.5, 30.0
"""Seconds before one that died is started again: doubled while it dies within the longer."""
_PATIENCE = 10.0
"""Seconds that one may take to end before it is killed."""


class Workers:
    """`number` processes on the database at `dsn`, which go on its environment and no command line.

    Their log lines go where ours go.
    """

    def __init__(self, number: int, dsn: str, settings: Settings, clock: Clock) -> None:
        self._number, self._dsn, self._settings, self._clock = number, dsn, settings, clock
        self.pids: dict[int, int] = {}
        """Which process is which worker, while it runs."""

    async def run(self) -> None:
        """Keep them going until cancelled, and end them then."""
        async with anyio.create_task_group() as group:
            for worker in range(self._number):
                group.start_soon(self._keep, worker)

    async def _keep(self, worker: int) -> None:
        pause = _FIRST_PAUSE
        while True:
            began = self._clock.monotonic()
            code = await self._one(worker)
            logger.warning(
                "a worker ended and is started again",
                extra={"worker": worker, "code": code, "seconds": pause},
            )
            await self._clock.sleep(pause)
            is_short = self._clock.monotonic() - began < _LAST_PAUSE
            pause = min(2 * pause, _LAST_PAUSE) if is_short else _FIRST_PAUSE

    async def _one(self, worker: int) -> int:
        settings = self._settings
        inherited = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
        given = {
            f"{PREFIX}DATABASE_URL": self._dsn,
            f"{PREFIX}DATA_DIR": str(settings.directory),
            f"{PREFIX}LOG_LEVEL": settings.log_level,
            f"{PREFIX}LOG_FORMAT": settings.log_format,
            # What is set here is all that there is to set.
            f"{PREFIX}CONFIG": os.devnull,
        }
        process = await anyio.open_process(
            [sys.executable, "-m", "engine.cli", "project", "--tied"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=None,
            env=inherited | given,
        )
        self.pids[worker] = process.pid
        try:
            return await process.wait()
        finally:
            del self.pids[worker]
            if process.returncode is None:
                process.terminate()
                with anyio.CancelScope(shield=True):
                    with anyio.move_on_after(_PATIENCE):
                        await process.wait()
                    if process.returncode is None:
                        process.kill()
                        await process.wait()
            if process.stdin is not None:
                with anyio.CancelScope(shield=True):
                    await process.stdin.aclose()
