"""The stored views: read them as of one position, wait until they have reached another."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from events.event import Position
from projections.batch import Group, Parked, Snapshot
from projections.projection import Found, Projection, Reader, SubjectIndex

D = TypeVar("D", bound=Struct)
_PAGE = 1000
_TOGETHER = 20
"""Values of an index whose documents are read together."""


class PresentReader(Reader, Protocol):
    """Reads of the views as they are now, and of what is kept to read the past from."""

    @property
    def group(self) -> Group:
        """The views."""
        ...

    async def among(
        self, view: Projection[D], index: str, values: Collection[str], *, limit: int
    ) -> Mapping[str, list[Found[D]]]:
        """Return, for each of these values of an index, the first documents, in key order.

        Raises ValueError for a limit below 1 and for an index that the view does not have.
        """
        ...

    async def parked_of(self, view: Projection[Any]) -> Sequence[Parked]:
        """Return everything of a view that is no longer folded."""
        ...

    async def snapshots(
        self, view: Projection[Any], keys: Collection[str], until: Position
    ) -> Mapping[str, Snapshot]:
        """Return the last snapshot of each of these documents that is not after a position."""
        ...

    async def former_keys(
        self,
        view: Projection[Any],
        where: tuple[str, str] | None,
        *,
        prefix: str,
        after: str,
        limit: int,
    ) -> Sequence[str]:
        """Return keys, in order, of documents that once had a value of an index and changed it.

        With no index asked for: of documents that once were taken away. Each key once.
        """
        ...

    async def filed(
        self, view: SubjectIndex, subjects: Mapping[str, Position], until: Position
    ) -> Mapping[str, Sequence[Position]]:
        """Return what is filed under subjects, each after a position of its own."""
        ...


class Views(Protocol):
    """The views of one log, kept by a runner, here or in another process."""

    def snapshot(self) -> AbstractAsyncContextManager[PresentReader]:
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


async def read_among(
    reader: PresentReader, view: Projection[D], index: str, values: Iterable[str]
) -> dict[str, list[Found[D]]]:
    """Read every document that has one of these values of an index, in key order, by the value."""
    wanted = list(dict.fromkeys(values))
    found: dict[str, list[Found[D]]] = {value: [] for value in wanted}
    for start in range(0, len(wanted), _TOGETHER):
        some = wanted[start : start + _TOGETHER]
        found.update(await reader.among(view, index, some, limit=_PAGE // len(some)))
        for value in some:
            if len(found[value]) == _PAGE // len(some):
                found[value] = await read_all(reader, view, where={index: value})
    return found
