"""A batch of events folded into the documents of several views at once.

Pure: `plan` says which documents are needed, the caller loads them, and `folding` says what to
store. A fact is decoded once, and only if some view wants its type.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence, Set
from enum import StrEnum
from typing import Any, TypeGuard, cast

import msgspec
from msgspec import Struct

from events.catalog import Fact
from events.codec import CodecError, UnknownFact, fact_of
from events.event import Event, Position
from projections.projection import INDEX_COLUMNS, Projection, SubjectIndex, encode

TEXT_LIMIT = 1200
"""Bytes of a key, an indexed value or a subject: two of them fit into one index entry."""
NAME_LIMIT = 63
"""Bytes of a view's name."""
DOCUMENT_LIMIT = 16 * 2**20
"""Bytes of a stored document."""
MESSAGE_LIMIT = 500
"""Characters of the message of what was parked."""
LAST = "\U0010ffff"
"""Sorts after every key: no key may begin with it (it is no character)."""


class Scope(StrEnum):
    """What is parked: one document, or one stream where the document could not be told."""

    KEY = "key"
    STREAM = "stream"


class Parked(Struct, frozen=True):
    """A document (or stream) of a view that is no longer folded, since the event at `position`."""

    view: str
    scope: Scope
    name: str
    position: Position
    message: str


class Stored(Struct, frozen=True):
    """A document as it is kept: its bytes, and the last event that was folded into it.

    `tail` is how many events were folded into it since its last snapshot.
    """

    position: Position
    document: bytes
    tail: int = 0


class Row(Struct, frozen=True):
    """A document to store, with as many index values as there are columns."""

    view: str
    key: str
    position: Position
    document: bytes
    index: tuple[str | None, ...]
    tail: int = 0


class Snapshot(Struct, frozen=True):
    """A document as it was after the event at a position; None where that event took it away."""

    view: str
    key: str
    position: Position
    document: bytes | None


class Changes(Struct, frozen=True):
    """What a batch changes: documents to store, documents that are gone, filed subjects, parked.

    `snapshots` and `formerly` are what reading the past needs: documents as they were now and
    then, and the (view, index column, value, key) of values that a document no longer has.
    """

    rows: list[Row]
    gone: list[tuple[str, str]]
    filed: list[tuple[str, str, Position]]
    parked: list[Parked]
    snapshots: list[Snapshot]
    formerly: dict[tuple[str, int, str, str], None]


class Step(Struct, frozen=True):
    """One event for one view: the keys (or subjects) that it touches, or why they are unknown."""

    view: str
    event: Event
    fact: Fact | None
    keys: tuple[str, ...]
    problem: str = ""


class Plan(Struct, frozen=True):
    """The steps of a batch in log order. `touched` are the (view, key) of documents to load."""

    steps: list[Step]
    touched: dict[tuple[str, str], None]

    def names(self) -> set[tuple[str, Scope, str]]:
        """Return the (view, scope, name) of what may be parked."""
        streams = {(step.view, Scope.STREAM, str(step.event.stream)) for step in self.steps}
        return streams | {(view, Scope.KEY, key) for view, key in self.touched}


ParkedNames = Set[tuple[str, Scope, str]]


class Group:
    """Views that are folded in lockstep: always at one position.

    Raises ValueError for two views of one name, a name too long, more indexes than columns.
    """

    def __init__(
        self, documents: Sequence[Projection[Any]], subjects: Sequence[SubjectIndex] = ()
    ) -> None:
        self.documents = {view.name: view for view in documents}
        self.subjects = {view.name: view for view in subjects}
        self.views: dict[str, Projection[Any] | SubjectIndex] = {**self.documents, **self.subjects}
        if len(self.views) != len(documents) + len(subjects):
            raise ValueError("two views of a group have the same name")
        for name in self.views:
            if not 0 < len(name.encode()) <= NAME_LIMIT:
                raise ValueError(f"a view's name has 1 to {NAME_LIMIT} bytes: {name!r}")
        for view in documents:
            if len(view.indexes) > INDEX_COLUMNS:
                raise ValueError(f"the view {view.name} has more than {INDEX_COLUMNS} indexes")
        self._decoders = {view.name: msgspec.json.Decoder(view.document) for view in documents}
        self._by_type: dict[str, tuple[str, ...]] = {}

    @classmethod
    def of(cls, view: Projection[Any] | SubjectIndex) -> Group:
        """Return the group of one view."""
        if is_subject_index(view):
            return cls([], [view])
        return cls([cast(Projection[Any], view)])

    def only(self, names: Iterable[str]) -> Group:
        """Return the group of some of these views."""
        wanted = set(names)
        return Group(
            [view for name, view in self.documents.items() if name in wanted],
            [view for name, view in self.subjects.items() if name in wanted],
        )

    def decode(self, view: str, document: bytes) -> Any:
        """Return a stored document; raises msgspec.MsgspecError where it is of another shape."""
        return self._decoders[view].decode(document)

    def plan(self, events: Iterable[Event]) -> Plan:
        """Name what a batch of events touches."""
        plan = Plan([], {})
        for event in events:
            wanting = self._wanting(event.type)
            if not wanting:
                continue
            fact: Fact | None
            try:
                fact, problem = fact_of(event), ""
            except CodecError as error:
                fact, problem = None, _cut(str(error))
            for name in wanting:
                step = self._step(name, event, fact, problem)
                plan.steps.append(step)
                if name in self.documents:
                    for key in step.keys:
                        plan.touched[name, key] = None
        return plan

    def row(self, view: str, key: str, position: Position, document: Struct, tail: int = 0) -> Row:
        """Return a document as it is stored. Raises ValueError or TypeError where it cannot be."""
        expected = self.documents[view].document
        if not isinstance(document, expected):
            raise TypeError(f"a {type(document).__name__} instead of a {expected.__name__}")
        body = encode(document)
        if len(body) > DOCUMENT_LIMIT:
            raise ValueError(f"the document has {len(body)} bytes, more than {DOCUMENT_LIMIT}")
        values = tuple(self.documents[view].index(document))
        if len(values) != len(self.documents[view].indexes):
            raise ValueError(
                f"{len(values)} values for {len(self.documents[view].indexes)} indexes"
            )
        for value in values:
            if value:
                check_text(value)
        padded = values + (None,) * (INDEX_COLUMNS - len(values))
        return Row(view, key, position, body, padded, tail)

    def _wanting(self, event_type: str) -> tuple[str, ...]:
        wanting = self._by_type.get(event_type)
        if wanting is None:
            wanting = tuple(
                name
                for name, view in self.views.items()
                if view.types is None or event_type in view.types
            )
            self._by_type[event_type] = wanting
        return wanting

    def _step(self, name: str, event: Event, fact: Fact | None, problem: str) -> Step:
        if fact is None:
            return Step(name, event, None, (), problem)
        projection = self.documents.get(name)
        if projection is None:
            name_keys = self.subjects[name].subjects
        elif type(fact) is UnknownFact:
            # To fold it as if nothing had happened would be silently wrong.
            problem = f"{event.type} has schema {event.schema}, which only a later release knows"
            return Step(name, event, None, (), problem)
        else:
            name_keys = projection.keys
        try:
            keys = tuple(dict.fromkeys(name_keys(event, fact)))
            for key in keys:
                check_text(key)
        except Exception as error:  # noqa: BLE001 - whatever a fold raises parks its stream only
            return Step(name, event, None, (), describe(name_keys, error))
        return Step(name, event, fact, keys)


def is_subject_index(view: Projection[Any] | SubjectIndex) -> TypeGuard[SubjectIndex]:
    """Whether a view files positions under subjects, and keeps no documents."""
    return hasattr(view, "subjects")


def check_text(text: str) -> None:
    """Raise ValueError where a key, an indexed value or a subject cannot be stored and found."""
    if not isinstance(text, str):
        raise TypeError(f"a key or indexed value is a {type(text).__name__}, not a str")
    if text.isascii() and 0 < len(text) <= TEXT_LIMIT and "\0" not in text:
        return
    if not text:
        raise ValueError("a key, indexed value or subject is empty")
    if "\0" in text or text.startswith(LAST):
        raise ValueError("a key, indexed value or subject holds what is no character")
    if len(text.encode()) > TEXT_LIMIT:  # a lone surrogate raises a ValueError of its own
        raise ValueError(f"a key, indexed value or subject has more than {TEXT_LIMIT} bytes")


def describe(doing: Callable[..., Any], error: Exception) -> str:
    """Say what failed, and where, in a line that can be stored."""
    where = ""
    frames = traceback.extract_tb(error.__traceback__)
    if frames:
        file = frames[-1].filename.replace("\\", "/").rpartition("/")[2]
        where = f" ({file}:{frames[-1].lineno})"
    return _cut(f"{doing.__qualname__} raised {type(error).__name__}: {error}") + where


def _cut(message: str) -> str:
    # The message is stored as text: no NUL, nothing that UTF-8 cannot say.
    clean = message.replace("\0", "\\0").encode(errors="backslashreplace").decode()
    return clean if len(clean) <= MESSAGE_LIMIT else clean[: MESSAGE_LIMIT - 1] + "…"
