"""The fold itself: planned batches into documents, as they were before, until they are stored.

Pure. A fold that raises parks its document (or, where the document is not known, the stream for
that view); everything else goes on. Several batches can be folded before what they changed is
taken: it is the same as if each had been stored by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from events.catalog import Fact
from projections.batch import (
    Changes,
    Group,
    Parked,
    ParkedNames,
    Plan,
    Row,
    Scope,
    Snapshot,
    Step,
    Stored,
    describe,
)

ENTRY_SIZE = 200
"""Bytes that an entry of a subject index, or a place of a document, takes in memory, roughly."""


class _Cell(Struct):
    """A document in the middle of a fold; `row` is its stored form, None where nothing changed."""

    document: Struct | None
    index: tuple[str | None, ...] = ()
    tail: int = 0
    row: Row | None = None
    changed: bool = False
    there: bool = False
    """Whether it is stored."""


def fold(
    group: Group,
    plan: Plan,
    stored: Mapping[tuple[str, str], Stored],
    parked: ParkedNames = frozenset(),
) -> Changes:
    """Fold a planned batch into the documents that it touches, as they were before it.

    `stored` has those of `plan.touched` that exist, `parked` those of `plan.names()` that are.
    """
    folding = Folding(group)
    folding.step(plan, stored, parked)
    return folding.changes()


class Folding:
    """A fold of batch after batch. Throw it away once its `changes` are stored."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._cells: dict[tuple[str, str], _Cell] = {}
        self._parked: set[tuple[str, Scope, str]] = set()
        self._stored: Mapping[tuple[str, str], Stored] = {}
        self._changes = Changes([], [], [], [], [], {})
        self.size = 0
        """Bytes of what there is to store, roughly."""

    def unread(self, plan: Plan) -> list[tuple[str, str]]:
        """Name the (view, key) of the documents that the next step needs and that it lacks."""
        if not self._cells:
            return list(plan.touched)
        return [place for place in plan.touched if place not in self._cells]

    def step(
        self,
        plan: Plan,
        stored: Mapping[tuple[str, str], Stored],
        parked: ParkedNames = frozenset(),
    ) -> None:
        """Fold the batch that follows; `stored` has those of `unread` that exist."""
        self._stored = stored
        self._parked |= parked
        for step in plan.steps:
            view, event = step.view, step.event
            if view in self._group.subjects:
                self._file(step)
            elif not self._parked or (view, Scope.STREAM, event.stream) not in self._parked:
                if step.fact is None:
                    self._park(step, Scope.STREAM, event.stream, step.problem)
                else:
                    for key in step.keys:
                        if not self._parked or (view, Scope.KEY, key) not in self._parked:
                            self._apply(step, key, step.fact)

    def changes(self) -> Changes:
        """Return what the steps so far changed."""
        changes = self._changes
        changes.rows.clear()
        changes.gone.clear()
        for place, cell in self._cells.items():
            if cell.row is not None:
                changes.rows.append(cell.row)
            elif cell.changed and cell.there:
                changes.gone.append(place)
        return changes

    def _file(self, step: Step) -> None:
        # Entries do not build on each other: what follows an event that failed is filed as ever.
        if step.fact is None:
            if (step.view, Scope.STREAM, step.event.stream) not in self._parked:
                self._park(step, Scope.STREAM, step.event.stream, step.problem)
            return
        view, position = step.view, step.event.position
        self.size += ENTRY_SIZE * len(step.keys)
        self._changes.filed.extend([(view, subject, position) for subject in step.keys])

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
            self._park(step, Scope.KEY, key, describe(doing, error))
            return
        self._remember(step, key, cell, row)
        before = len(cell.row.document) if cell.row else 0
        self.size += (len(row.document) if row else 0) - before
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
        self.size += ENTRY_SIZE + len(document or b"")
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
                cell = _Cell(document, index, stored.tail, there=True)
            self.size += ENTRY_SIZE
            self._cells[view, key] = cell
        return cell

    def _park(self, step: Step, scope: Scope, name: str, message: str) -> None:
        self._parked.add((step.view, scope, name))
        self._changes.parked.append(Parked(step.view, scope, name, step.event.position, message))
