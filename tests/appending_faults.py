"""Fault points: every call that an append makes of its connection, before it and after it.

As a program it appends to a log, and kills itself with SIGKILL at one of them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from events import writing
from events.connection import _Connection
from events.event import blob
from events.postgres import open_log
from tests.appending import new

CALLS = ("execute", "fetch", "fetchval", "copy_records_to_table")
STEPS = 9
"""At least as many calls as one append makes: BEGIN, two for the bodies, look, reserve, two COPYs,
COMMIT."""
PRESUMED_STEPS = 6
"""And one that follows on another of the same process: BEGIN, reserve, two COPYs, COMMIT."""
Act = Callable[[Any], Awaitable[None]]


class Faults:
    """Counts the calls of whoever appends, from when it is armed, and acts at one of them."""

    def __init__(self, step: int, before: bool, act: Act) -> None:
        self._step, self._before, self._act = step, before, act
        self.armed = self.happened = False
        self._seen = 0

    async def around(self, connection: Any, call: Callable[[], Awaitable[Any]]) -> Any:
        """Make a call, with what happens before or after it."""
        self._seen += self.armed
        now = self.armed and self._seen == self._step
        if now:
            self.armed, self.happened = False, True
        if now and self._before:
            await self._act(connection)
        result = await call()
        if now and not self._before:
            await self._act(connection)
        return result


def install(faults: Faults, patch: Callable[[Any, str, Any], None] = setattr) -> None:
    """Put fault points around every call of every connection of a pool."""
    for name in CALLS:
        original = getattr(_Connection, name)

        def wrapped(original: Any) -> Any:
            async def call(self: Any, *arguments: Any, **options: Any) -> Any:
                return await faults.around(self, lambda: original(self, *arguments, **options))

            return call

        patch(_Connection, name, wrapped(original))


async def main(dsn: str, large: int, step: int, before: bool) -> None:
    """Append twice, say what was acknowledged, and die at the fault point of the third."""

    async def die(_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    faults = Faults(step, before, die)
    install(faults)
    writing.LARGE = large
    # Nothing but the append may meet the fault point: no follower, no forgetting of ids.
    async with open_log(dsn) as log:
        for turn in range(3):
            events = [new("app/default/a"), new("app/default/b")]
            faults.armed = turn == 2
            print("trying", *(event.event_id for event in events), flush=True)
            appended = await log.append(events, [blob(b"%d" % turn)])
            print("appended", *appended.positions, flush=True)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "before")
