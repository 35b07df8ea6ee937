"""Keeps tasks alive by key: started, replaced, ended, and started again when they fail.

One failing repository or cluster must not take the others with it; a fault is logged with its
place and tried again, ever more slowly.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Generic, TypeVar

import anyio
import anyio.abc

from engine.ports import Clock
from engine.telemetry.instruments import FAULTS
from events.log import LogUnavailable
from projections.errors import ViewsUnavailable

logger = logging.getLogger(__name__)

K = TypeVar("K")
_FIRST_RETRY, _LAST_RETRY = 0.5, 60.0
"""Seconds between a fault and the next try: doubled from the first to the last."""


class TryLater(Exception):
    """Something cannot be done now, through no fault of ours: it is tried again."""

    code = "try-later"


AWAY = (LogUnavailable, ViewsUnavailable, TryLater, TimeoutError)
"""What passes by itself, most of it when the database is back: a line in the log, no fault."""


def note_failure(error: Exception, part: str, what: str, **about: object) -> None:
    """Log an exception: as a fault with its place, unless it passes by itself."""
    if isinstance(error, AWAY):
        logger.warning("%s", what, extra={**about, "error": str(error) or type(error).__name__})
        return
    logger.error("%s", what, extra=about, exc_info=error)
    FAULTS.add(1, {"trueup.part": part})


class Children:
    """Tasks that run for as long as something is declared."""

    def __init__(self, group: anyio.abc.TaskGroup, clock: Clock) -> None:
        self._group, self._clock = group, clock
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._ended: dict[str, anyio.Event] = {}

    async def put(self, key: str, run: Callable[[], Awaitable[None]]) -> None:
        """Start a task under a key, after the one that was there has ended."""
        await self.remove(key)
        scope, ended = anyio.CancelScope(), anyio.Event()
        self._scopes[key], self._ended[key] = scope, ended
        self._group.start_soon(self._keep, key, run, scope, ended)

    async def remove(self, key: str) -> None:
        """End the task under a key and wait until it has."""
        scope = self._scopes.pop(key, None)
        if scope is not None:
            scope.cancel()
            await self._ended.pop(key).wait()

    async def _keep(
        self,
        key: str,
        run: Callable[[], Awaitable[None]],
        scope: anyio.CancelScope,
        ended: anyio.Event,
    ) -> None:
        try:
            with scope:
                wait = _FIRST_RETRY
                while True:
                    began = self._clock.monotonic()
                    try:
                        await run()
                    except Exception as error:  # noqa: BLE001 - logged, and tried again
                        note_failure(error, "task", "task failed; starting it again", task=key)
                    if self._clock.monotonic() - began > _LAST_RETRY:
                        wait = _FIRST_RETRY
                    await self._clock.sleep(wait)
                    wait = min(wait * 2, _LAST_RETRY)
        finally:
            ended.set()


class KeyedWork(Generic[K]):
    """Work by key: each key once at a time, `width` keys at a time, in the order of asking.

    A key that is asked for while it is worked on is worked on again. A fault is logged and the
    key tried again later.
    """

    def __init__(
        self, name: str, handle: Callable[[K], Awaitable[None]], *, width: int, clock: Clock
    ) -> None:
        self._name, self._handle, self._width, self._clock = name, handle, width, clock
        self._waiting: OrderedDict[K, None] = OrderedDict()
        self._working: set[K] = set()
        self._faults: dict[K, int] = {}
        self._changed = anyio.Event()
        FAULTS.add(0, {"trueup.part": name})

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is worked on."""
        return not self._waiting and not self._working

    def add(self, key: K) -> None:
        """Ask for a key to be worked on."""
        self._waiting[key] = None
        self._changed.set()

    async def run(self) -> None:
        """Work for ever."""
        async with anyio.create_task_group() as group:
            while True:
                self._changed = anyio.Event()
                for key in list(self._waiting):
                    if len(self._working) < self._width and key not in self._working:
                        del self._waiting[key]
                        self._working.add(key)
                        group.start_soon(self._work, key)
                await self._changed.wait()

    async def _work(self, key: K) -> None:
        try:
            await self._handle(key)
            self._faults.pop(key, None)
        except Exception as error:  # noqa: BLE001 - logged, and tried again
            faults = self._faults[key] = self._faults.get(key, 0) + 1
            note_failure(error, self._name, "work failed; trying again", work=self._name, key=key)
            await self._clock.sleep(min(_FIRST_RETRY * 2.0**faults, _LAST_RETRY))
            self._waiting[key] = None
        finally:
            self._working.discard(key)
            self._changed.set()


class GatheredWork(Generic[K]):
    """Work on all keys that wait, together: one batch at a time, in the order of asking.

    What is asked for meanwhile is the next batch. A fault is logged, and the batch tried again
    later with what has come since.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[Sequence[K]], Awaitable[None]],
        *,
        most: int,
        clock: Clock,
    ) -> None:
        self._name, self._handle, self._most, self._clock = name, handle, most, clock
        self._waiting: OrderedDict[K, None] = OrderedDict()
        self._asked = anyio.Event()

    def add(self, key: K) -> None:
        """Ask for a key to be worked on."""
        self._waiting[key] = None
        self._asked.set()

    async def run(self) -> None:
        """Work for ever."""
        faults = 0
        while True:
            if not self._waiting:
                self._asked = anyio.Event()
                await self._asked.wait()
            batch = list(islice(self._waiting, self._most))
            for key in batch:
                del self._waiting[key]
            try:
                await self._handle(batch)
                faults = 0
            except Exception as error:  # noqa: BLE001 - logged, and tried again
                faults += 1
                note_failure(error, self._name, "work failed; trying again", work=self._name)
                self._waiting = OrderedDict.fromkeys([*batch, *self._waiting])
                await self._clock.sleep(min(_FIRST_RETRY * 2.0**faults, _LAST_RETRY))
