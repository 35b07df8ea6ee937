"""Reads the situations of targets together: those that were asked for while the last were read.

A snapshot of the views costs several round trips, whether it is read for one target or for many.
So, as with appends, a batch is whatever queued up meanwhile: alone, a target waits for nobody.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import NoReturn

import anyio

from engine.decide.situation import Situation
from engine.ports import Clock
from engine.situations import Inventories, read_situation, read_situations
from engine.telemetry import spans
from engine.telemetry.attempt import description
from events.log import EventLog
from projections.fold import TargetId
from projections.views import Views

logger = logging.getLogger(__name__)
_MOST = 32
"""Targets that are read together: each may have thousands of objects."""
_READERS = 2
"""Batches that are read at the same time."""

Read = tuple[Situation | None, spans.Attributes]
"""A target's situation, None where there is no such target, and what a span says of it."""


class _Asked:
    """One target that somebody waits for. `read` stays None where it has to be read alone."""

    __slots__ = ("answered", "is_recorded", "read", "target")

    def __init__(self, target: TargetId) -> None:
        self.target = target
        # Whether the span of whoever asks is recorded: the batch is read outside of it.
        self.is_recorded = spans.is_recording()
        self.read: Read | None = None
        self.answered = anyio.Event()


class Situations:
    """Reads situations for many at once; `run` must be running."""

    def __init__(self, views: Views, log: EventLog, clock: Clock) -> None:
        self._views, self._log, self._clock = views, log, clock
        self._inventories = Inventories(log)
        self._waiting: deque[_Asked] = deque()
        self._more = anyio.Event()

    @property
    def inventories_weight(self) -> int:
        """The bytes of lists of desired objects that are at hand."""
        return self._inventories.weight

    async def run(self) -> None:
        """Read for as long as somebody may ask."""
        async with anyio.create_task_group() as group:
            for _ in range(_READERS):
                group.start_soon(self._serve)

    async def of(self, target: TargetId) -> Read:
        """Read a target's situation; raises what reading it raises, whatever ails the others."""
        asked = _Asked(target)
        self._waiting.append(asked)
        self._more.set()
        await asked.answered.wait()
        return asked.read or await self._alone(target)

    async def _serve(self) -> NoReturn:
        while True:
            while not self._waiting:
                self._more = anyio.Event()
                await self._more.wait()
            some = [self._waiting.popleft() for _ in range(min(_MOST, len(self._waiting)))]
            try:
                await self._together(some)
            except Exception as error:  # noqa: BLE001 - it is raised again, below
                # Whose fault it is shows when each reads by itself.
                logger.info("targets are read one by one", extra={"error": str(error)})
            finally:
                for asked in some:
                    asked.answered.set()

    async def _together(self, some: list[_Asked]) -> None:
        async with self._views.snapshot() as reader:
            found = await read_situations(
                reader,
                self._log,
                list({asked.target: None for asked in some}),
                self._clock.now(),
                self._inventories,
            )
            for asked in some:
                situation = found.get(asked.target)
                said: spans.Attributes = {}
                if situation and asked.is_recorded:
                    said = await description(reader, situation)
                asked.read = situation, said

    async def _alone(self, target: TargetId) -> Read:
        async with self._views.snapshot() as reader:
            situation = await read_situation(
                reader, self._log, target, self._clock.now(), inventories=self._inventories
            )
            said: spans.Attributes = {}
            if situation and spans.is_recording():
                said = await description(reader, situation)
            return situation, said
