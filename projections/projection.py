"""What a projection is: a pure, keyed fold of events into documents.

Pure. An event names the documents that it touches, and each is folded by itself; what fans out
is joined when read. So a view of a million objects is never loaded whole, and work can be
sharded by key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from msgspec import Struct

from events.catalog import Fact
from events.event import Event, Position

D = TypeVar("D", bound=Struct)
INDEX_COLUMNS = 3
"""How many columns of a document can be looked up, besides its key."""
SNAPSHOT_EVERY = 256
"""Events folded into a document between two snapshots of it, where a view says nothing else."""


class Projection(Protocol[D]):
    """A fold of some event types into documents of type `D`, each under a key.

    Raise `version` when a stored document would come out differently: the view is rebuilt.
    `indexes` names at most `INDEX_COLUMNS` values that a document is looked up by. A document
    is read as of any position from its last snapshot before and the events since: at most
    `snapshot_every` of them. An index named in `present_only` cannot be asked for as of the past:
    its values are so many that those of yesterday are not kept.
    """

    name: str
    version: int
    document: type[D]
    types: frozenset[str]
    indexes: tuple[str, ...]
    snapshot_every: int
    present_only: tuple[str, ...]

    def keys(self, event: Event, fact: Fact) -> Iterable[str]:
        """Name the documents that this event touches."""
        ...

    def apply(self, key: str, document: D | None, event: Event, fact: Fact) -> D | None:
        """Fold one event into one document; None means that there is none (any more)."""
        ...

    def index(self, document: D) -> tuple[str | None, ...]:
        """Return the values of `indexes`, in their order."""
        ...

    def subject(self, key: str) -> str | None:
        """Return the timeline's subject under which all events that touch a document are filed.

        None where they are the events of the stream that the key names.
        """
        ...


class SubjectIndex(Protocol):
    """A projection that keeps no documents: it files each event under the subjects it is about."""

    name: str
    version: int
    types: frozenset[str] | None
    """None means every type."""

    def subjects(self, event: Event, fact: Fact) -> Iterable[str]:
        """Name what this event is about, each once."""
        ...


class Found(Struct, Generic[D], frozen=True):
    """A document under its key, with the position of the last event that was folded into it."""

    key: str
    position: Position
    document: D


class Reader(Protocol):
    """Reads of the views as they stood at one position, the same for all."""

    @property
    def position(self) -> Position:
        """The position up to which every view here has folded the log."""
        ...

    async def get(self, view: Projection[D], key: str) -> Found[D] | None:
        """Return one document."""
        ...

    async def get_many(self, view: Projection[D], keys: Iterable[str]) -> Mapping[str, Found[D]]:
        """Return the documents under these keys; those that are not there are left out."""
        ...

    async def get_each(
        self, wanted: Iterable[tuple[Projection[Any], str]]
    ) -> Mapping[tuple[str, str], Found[Any]]:
        """Return documents of several views at once, by the view's name and the key."""
        ...

    async def page(
        self,
        view: Projection[D],
        *,
        prefix: str = "",
        where: Mapping[str, str] | None = None,
        after: str = "",
        limit: int = 500,
    ) -> list[Found[D]]:
        """Return documents in key order, after a key, by key prefix and indexed values."""
        ...

    async def count(
        self, view: Projection[D], *, prefix: str = "", where: Mapping[str, str] | None = None
    ) -> int:
        """Count the documents that `page` would go through."""
        ...

    async def tally(
        self,
        view: Projection[D],
        by: tuple[str, str],
        *,
        prefix: str = "",
        where: Mapping[str, str] | None = None,
    ) -> Mapping[tuple[str, str], int]:
        """Count the documents that `page` would go through, by their values of two indexes.

        Those that lack one of the two are left out.
        """
        ...

    async def subjects(
        self,
        view: SubjectIndex,
        subject: str,
        *,
        after: Position | None = None,
        before: Position | None = None,
        limit: int = 500,
        newest_first: bool = False,
    ) -> list[Position]:
        """Return the positions filed under a subject, between two positions (both excluded)."""
        ...


def encode(document: Struct) -> bytes:
    """Return a document's stored form."""
    return msgspec.json.encode(document)
