"""The stored views: read them as of one position, wait until they have reached another."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from msgspec import Struct

from events.event import Position
from projections.projection import Found, Projection, Reader

D = TypeVar("D", bound=Struct)
_PAGE = 1000


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


async def read_all(
    reader: Reader,
    view: Projection[D],
    *,
    prefix: str = "",
    where: Mapping[str, str] | None = None,
) -> list[Found[D]]:
    """Read every document with a key prefix and indexed values, page by page, in key order."""
    found: list[Found[D]] = []
    while True:
        after = found[-1].key if found else ""
        page = await reader.page(view, prefix=prefix, where=where, after=after, limit=_PAGE)
        found += page
        if len(page) < _PAGE:
            return found
