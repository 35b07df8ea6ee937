"""How long to wait after failures in a row: doubling, with jitter, up to a limit."""

from __future__ import annotations

import anyio

from engine.clusters.settings import ClusterSettings
from engine.ports import Clock

_PATIENCE = 5
"""How many times the wait that a server asks for it is given at most."""


class Backoff:
    """The waits of one thing that fails."""

    def __init__(self, clock: Clock, settings: ClusterSettings) -> None:
        self._clock, self._settings = clock, settings
        self._failures = 0

    def next(self, asked: float | None = None) -> float:
        """Count a failure and return how many seconds to wait: half to all of what is due.

        `asked` is what the server asked for (Retry-After): never less, and not many times more,
        since it knows when it will be better.
        """
        doubled = self._settings.backoff_first * float(2 ** min(self._failures, 30))
        due = min(doubled, self._settings.backoff_most)
        if asked:
            due = min(max(due, 2 * asked), _PATIENCE * asked)
        self._failures += 1
        return due * (0.5 + self._clock.random() / 2)

    def reset(self) -> None:
        """Count anew: it worked."""
        self._failures = 0


class Bell:
    """Ends a wait early. One task waits on it; anyone may ring."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._event = anyio.Event()

    def ring(self) -> None:
        """End the wait; a ring that nobody hears is kept for the next one."""
        self._event.set()

    async def wait(self, seconds: float) -> bool:
        """Wait for a ring, or so many seconds; return whether it rang."""
        if not self._event.is_set():
            async with anyio.create_task_group() as tasks:

                async def sleep() -> None:
                    await self._clock.sleep(seconds)
                    tasks.cancel_scope.cancel()

                tasks.start_soon(sleep)
                await self._event.wait()
                tasks.cancel_scope.cancel()
        rang = self._event.is_set()
        self._event = anyio.Event()
        return rang
