"""The views in memory, folded when somebody reads: for tests, held to the same contract."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Collection,
    Iterable,
    Mapping,
    Sequence,
    Set,
)
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar, cast

import anyio
import msgspec
from msgspec import Struct

from events.event import START, Event, Position
from events.log import EventLog
from projections.batch import Group, Parked, Row, Scope, Snapshot, Stored
from projections.errors import ViewUnreadable
from projections.folding import fold
from projections.listeners import Folded
from projections.projection import Found, Projection, SubjectIndex
from projections.reads import check_limit, check_where, columns_of, key_after, keys_until, storable

D = TypeVar("D", bound=Struct)
_BATCH = 1000


class _Documents:
    """The documents of one view: by key, and the keys in order."""

    def __init__(self, rows: dict[str, Row], keys: list[str]) -> None:
        self.rows, self.keys = rows, keys

    def copy(self) -> _Documents:
        return _Documents(dict(self.rows), list(self.keys))

    def put(self, row: Row) -> None:
        if row.key not in self.rows:
            insort(self.keys, row.key)
        self.rows[row.key] = row

    def remove(self, key: str) -> None:
        del self.rows[key]
        del self.keys[bisect_left(self.keys, key)]


class _Past(Struct, frozen=True):
    """What is only ever added to: so the reader's own position tells what of it is its."""

    filed: Mapping[tuple[str, str], list[Position]]
    snapshots: Mapping[tuple[str, str], list[Snapshot]]
    formerly: Set[tuple[str, int, str, str]]
    parked: Sequence[Parked]


class MemoryViews:
    """The views of one log, in this process. Nothing is stored, and `ProjectionParked` not said."""

    def __init__(self, log: EventLog, group: Group) -> None:
        self._log, self._group = log, group
        self._position = START
        self._documents = {name: _Documents({}, []) for name in group.documents}
        self._filed: dict[tuple[str, str], list[Position]] = {}
        self._snapshots: dict[tuple[str, str], list[Snapshot]] = {}
        self._formerly: set[tuple[str, int, str, str]] = set()
        self._parked: list[Parked] = []
        self._parked_names: set[tuple[str, Scope, str]] = set()
        self._shared: set[str] = set()
        self._folding = anyio.Lock()

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[MemoryReader]:
        """Open a consistent read of all views, as of the log's head."""
        position = await self._fold()
        # What a reader holds is copied before it is changed.
        self._shared.update(self._documents)
        past = _Past(self._filed, self._snapshots, self._formerly, self._parked)
        yield MemoryReader(self._group, position, dict(self._documents), past)

    async def reached(self, position: Position, timeout: float = 30.0) -> Position:
        """Wait until the log has this position, fold it, and return where the views are.

        Raises TimeoutError after `timeout` seconds.
        """
        at = await self._fold()
        try:
            with anyio.fail_after(timeout):
                while at < position:
                    following = cast(
                        AsyncGenerator[Sequence[Event], None], self._log.follow(at, _BATCH)
                    )
                    async with aclosing(following) as batches:
                        async for _ in batches:
                            break
                    at = await self._fold()
        except TimeoutError:
            raise TimeoutError(
                f"the views are at position {at}, not at {position}, after {timeout:g} s"
            ) from None
        return at

    async def parked(self, limit: int = 1000) -> list[Parked]:
        """Return what the views no longer fold because an event failed, by view and position."""
        await self._fold()
        order = sorted(self._parked, key=lambda each: (each.view, each.position, each.name))
        return order[:limit]

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[Folded]]:
        """Open a stream of the batches that come after now; views read later have folded them."""
        following = cast(
            AsyncGenerator[Sequence[Event], None],
            self._log.follow(await self._log.head(), _BATCH),
        )
        async with aclosing(following) as batches:
            yield (Folded(events[-1].position, events) async for events in batches)

    async def _fold(self) -> Position:
        async with self._folding:
            head = await self._log.head()
            while self._position < head:
                self._fold_batch(await self._log.read(self._position, _BATCH))
            return self._position

    def _fold_batch(self, events: Sequence[Event]) -> None:
        plan = self._group.plan(events)
        stored = {}
        for view, key in plan.touched:
            row = self._documents[view].rows.get(key)
            if row is not None:
                stored[view, key] = Stored(row.position, row.document, row.tail)
        changes = fold(self._group, plan, stored, self._parked_names)
        for view in {row.view for row in changes.rows} | {view for view, _ in changes.gone}:
            if view in self._shared:
                self._shared.remove(view)
                self._documents[view] = self._documents[view].copy()
        for row in changes.rows:
            self._documents[row.view].put(row)
        for view, key in changes.gone:
            self._documents[view].remove(key)
        for view, subject, position in changes.filed:
            self._filed.setdefault((view, subject), []).append(position)
        for taken in changes.snapshots:
            self._snapshots.setdefault((taken.view, taken.key), []).append(taken)
        self._formerly.update(changes.formerly)
        self._parked += changes.parked
        self._parked_names.update((each.view, each.scope, each.name) for each in changes.parked)
        self._position = events[-1].position


class MemoryReader:
    """Reads of the views as they stood at one position, the same for all."""

    def __init__(
        self,
        group: Group,
        position: Position,
        documents: Mapping[str, _Documents],
        past: _Past,
    ) -> None:
        self._group, self._position = group, position
        self._documents, self._past = documents, past

    @property
    def position(self) -> Position:
        """The position up to which every view here has folded the log."""
        return self._position

    async def get(self, view: Projection[D], key: str) -> Found[D] | None:
        """Return one document."""
        row = self._of(view).rows.get(key)
        return None if row is None else self._found(view, row)

    async def get_many(self, view: Projection[D], keys: Iterable[str]) -> Mapping[str, Found[D]]:
        """Return the documents under these keys; those that are not there are left out."""
        rows = self._of(view).rows
        return {key: self._found(view, rows[key]) for key in keys if key in rows}

    async def get_each(
        self, wanted: Iterable[tuple[Projection[Any], str]]
    ) -> Mapping[tuple[str, str], Found[Any]]:
        """Return documents of several views at once, by the view's name and the key."""
        return {
            (view.name, key): found
            for view, key in wanted
            if (found := await self.get(view, key)) is not None
        }

    async def page(
        self,
        view: Projection[D],
        *,
        prefix: str = "",
        where: Mapping[str, str] | None = None,
        after: str = "",
        limit: int = 500,
    ) -> list[Found[D]]:
        """Return documents in key order, after a key, by key prefix and indexed values.

        Raises ValueError for a limit below 1 and for an index that the view does not have.
        """
        documents = self._of(view)
        check_limit(limit)
        rows = self._matching(documents, prefix, check_where(view, where), key_after(after))
        return [self._found(view, row) for row, _ in zip(rows, range(limit), strict=False)]

    async def count(
        self, view: Projection[D], *, prefix: str = "", where: Mapping[str, str] | None = None
    ) -> int:
        """Count the documents that `page` would go through."""
        rows = self._matching(self._of(view), prefix, check_where(view, where), "")
        return sum(1 for _ in rows)

    async def tally(
        self,
        view: Projection[D],
        by: tuple[str, str],
        *,
        prefix: str = "",
        where: Mapping[str, str] | None = None,
    ) -> Mapping[tuple[str, str], int]:
        """Count the documents that `page` would go through, by their values of two indexes."""
        first, second = columns_of(view, by)
        counts: Counter[tuple[str, str]] = Counter()
        for row in self._matching(self._of(view), prefix, check_where(view, where), ""):
            one, other = row.index[first], row.index[second]
            if one is not None and other is not None:
                counts[one, other] += 1
        return counts

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
        check_limit(limit)
        if view.name not in self._group.subjects:
            raise ValueError(f"the view {view.name} is not among those that are kept here")
        filed = self._past.filed.get((view.name, subject), [])
        first = bisect_right(filed, START if after is None else after)
        last = bisect_right(filed, self._position)
        if before is not None:
            last = min(last, bisect_left(filed, before))
        found = filed[first:last]
        return found[::-1][:limit] if newest_first else found[:limit]

    @property
    def group(self) -> Group:
        """The views."""
        return self._group

    async def among(
        self, view: Projection[D], index: str, values: Collection[str], *, limit: int
    ) -> Mapping[str, list[Found[D]]]:
        """Return, for each of these values of an index, the first documents, in key order.

        Raises ValueError for a limit below 1 and for an index that the view does not have.
        """
        return {value: await self.page(view, where={index: value}, limit=limit) for value in values}

    async def parked_of(self, view: Projection[Any]) -> Sequence[Parked]:
        """Return everything of a view that is no longer folded."""
        self._of(view)
        return [
            each
            for each in self._past.parked
            if each.view == view.name and each.position <= self._position
        ]

    async def snapshots(
        self, view: Projection[Any], keys: Collection[str], until: Position
    ) -> Mapping[str, Snapshot]:
        """Return the last snapshot of each of these documents that is not after a position."""
        self._of(view)
        found = {}
        for key in keys:
            for taken in self._past.snapshots.get((view.name, key), ()):
                if taken.position <= min(until, self._position):
                    found[key] = taken
        return found

    async def former_keys(
        self,
        view: Projection[Any],
        where: tuple[str, str] | None,
        *,
        prefix: str,
        after: str,
        limit: int,
    ) -> Sequence[str]:
        """Return keys of documents that once had a value of an index, or were taken away."""
        wanted = check_where(view, dict([where]) if where else None)
        after = key_after(after)
        if where is None:
            keys = {
                key
                for (name, key), taken in self._past.snapshots.items()
                if name == view.name and any(each.document is None for each in taken)
            }
        else:
            keys = {
                key
                for name, column, value, key in self._past.formerly
                if name == view.name and wanted.get(column) == value
            }
        return sorted(key for key in keys if key.startswith(prefix) and key > after)[:limit]

    async def filed(
        self, view: SubjectIndex, subjects: Mapping[str, Position], until: Position
    ) -> Mapping[str, Sequence[Position]]:
        """Return what is filed under subjects, each after a position of its own."""
        found = {}
        for subject, after in subjects.items():
            filed = self._past.filed.get((view.name, subject), [])
            last = bisect_right(filed, min(until, self._position))
            found[subject] = filed[bisect_right(filed, after) : last]
        return found

    @staticmethod
    def _matching(
        documents: _Documents, prefix: str, wanted: Mapping[int, str], after: str
    ) -> Iterable[Row]:
        if not storable(prefix):
            return
        first = max(bisect_left(documents.keys, prefix), bisect_right(documents.keys, after))
        last = bisect_left(documents.keys, keys_until(prefix))
        for place in range(first, last):
            row = documents.rows[documents.keys[place]]
            if all(row.index[column] == value for column, value in wanted.items()):
                yield row

    def _of(self, view: Projection[Any]) -> _Documents:
        documents = self._documents.get(view.name)
        if documents is None:
            raise ValueError(f"the view {view.name} is not among those that are kept here")
        return documents

    def _found(self, view: Projection[D], row: Row) -> Found[D]:
        try:
            document: D = self._group.decode(view.name, row.document)
        except msgspec.MsgspecError as error:
            raise ViewUnreadable(view.name, row.key, error) from error
        return Found(row.key, row.position, document)
