"""A batch of events folded into the documents of several views at once.

Pure: `plan` says which documents are needed, the caller loads them, `fold` says what to store. A
fact is decoded once, and only if some view wants its type. A fold that raises parks its document
(or, where the document is not known, the stream for that view); everything else goes on.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
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
    """The steps of a batch in log order. `touched` are the (view, key) of documents to load.

    `names` are the (view, scope, name) of what may be parked.
    """

    steps: list[Step]
    touched: dict[tuple[str, str], None]
    names: dict[tuple[str, Scope, str], None]


ParkedNames = Set[tuple[str, Scope, str]]


class _Cell(Struct):
    """A document in the middle of a fold; `row` is its stored form, None where nothing changed."""

    document: Struct | None
    index: tuple[str | None, ...] = ()
    tail: int = 0
    row: Row | None = None
    changed: bool = False


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
        plan = Plan([], {}, {})
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
                plan.names[name, Scope.STREAM, event.stream] = None
                if name in self.documents:
                    for key in step.keys:
                        plan.touched[name, key] = None
                        plan.names[name, Scope.KEY, key] = None
        return plan

    def fold(
        self,
        plan: Plan,
        stored: Mapping[tuple[str, str], Stored],
        parked: ParkedNames = frozenset(),
    ) -> Changes:
        """Fold a planned batch into the documents that it touches, as they were before it.

        `stored` has those of `plan.touched` that exist, `parked` those of `plan.names` that are.
        """
        return _Fold(self, stored, parked).run(plan)

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
        elif isinstance(fact, UnknownFact):
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
            return Step(name, event, None, (), _describe(name_keys, error))
        return Step(name, event, fact, keys)


class _Fold:
    """One pass over a plan."""

    def __init__(
        self, group: Group, stored: Mapping[tuple[str, str], Stored], parked: ParkedNames
    ) -> None:
        self._group, self._stored, self._parked = group, stored, set(parked)
        self._cells: dict[tuple[str, str], _Cell] = {}
        self._changes = Changes([], [], [], [], [], {})

    def run(self, plan: Plan) -> Changes:
        """Return the changes."""
        for step in plan.steps:
            view, event = step.view, step.event
            if view in self._group.subjects:
                self._file(step)
            elif (view, Scope.STREAM, event.stream) not in self._parked:
                if step.fact is None:
                    self._park(step, Scope.STREAM, event.stream, step.problem)
                else:
                    for key in step.keys:
                        if (view, Scope.KEY, key) not in self._parked:
                            self._apply(step, key, step.fact)
        for place, cell in self._cells.items():
            if cell.row is not None:
                self._changes.rows.append(cell.row)
            elif cell.changed and place in self._stored:
                self._changes.gone.append(place)
        return self._changes

    def _file(self, step: Step) -> None:
        # Entries do not build on each other: what follows an event that failed is filed as ever.
        if step.fact is None:
            if (step.view, Scope.STREAM, step.event.stream) not in self._parked:
                self._park(step, Scope.STREAM, step.event.stream, step.problem)
            return
        self._changes.filed.extend(
            (step.view, subject, step.event.position) for subject in step.keys
        )

    def _apply(self, step: Step, key: str, fact: Fact) -> None:
        projection, position = self._group.documents[step.view], step.event.position
        doing: Callable[..., Any] = projection.document
        row = None
        try:
            cell = self._cell(step.view, key)
            doing = projection.apply
            document = projection.apply(key, cell.document, step.event, fact)
            if document is not None:
                # Stored and read again after every event, though the batch stores only the last:
                # so it makes no difference where one batch ends and the next begins.
                doing = projection.index
                tail = (cell.tail + 1) % projection.snapshot_every
                row = self._group.row(step.view, key, position, document, tail)
                document = self._group.decode(step.view, row.document)
        except Exception as error:  # noqa: BLE001 - whatever a fold raises parks its document only
            self._park(step, Scope.KEY, key, _describe(doing, error))
            return
        self._remember(step, key, cell, row)
        cell.document, cell.row, cell.changed = document, row, True
        cell.index, cell.tail = (row.index, row.tail) if row else ((), 0)

    def _remember(self, step: Step, key: str, cell: _Cell, row: Row | None) -> None:
        """Keep what the past can be read from, of a document that `row` takes the place of."""
        if row is not None and row.tail == 0:
            self._snapshot(step, key, row.document)
        elif row is None and cell.document is not None:
            self._snapshot(step, key, None)
        now = row.index if row else ()
        projection = self._group.documents[step.view]
        for column, name in enumerate(projection.indexes[: len(cell.index)]):
            value = cell.index[column]
            if value is None or name in projection.present_only:
                continue
            if value != (now[column] if now else None):
                self._changes.formerly[step.view, column, value, key] = None

    def _snapshot(self, step: Step, key: str, document: bytes | None) -> None:
        self._changes.snapshots.append(Snapshot(step.view, key, step.event.position, document))

    def _cell(self, view: str, key: str) -> _Cell:
        cell = self._cells.get((view, key))
        if cell is None:
            stored = self._stored.get((view, key))
            if stored is None:
                cell = _Cell(None)
            else:
                document = self._group.decode(view, stored.document)
                index = tuple(self._group.documents[view].index(document))
                cell = _Cell(document, index, stored.tail)
            self._cells[view, key] = cell
        return cell

    def _park(self, step: Step, scope: Scope, name: str, message: str) -> None:
        self._parked.add((step.view, scope, name))
        self._changes.parked.append(Parked(step.view, scope, name, step.event.position, message))


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


def _describe(doing: Callable[..., Any], error: Exception) -> str:
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
