"""The stored views: read them as of one position, wait until they have reached another."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from events.event import Position
from projections.projection import Reader


class Views(Protocol):
    """The views of one log, kept by a runner, here or in another process."""

    def snapshot(self) -> AbstractAsyncContextManager[Reader]:
        """Open a consistent read of all views; keep it short."""
        ...

    async def reached(self, position: Position, timeout: float = 30.0) -> Position:
        """Wait until every view has folded this position; return where they are.

        Raises TimeoutError after `timeout` seconds.
        """
        ...
