"""The stored views, read from Postgres: a snapshot is one REPEATABLE READ transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
import msgspec
from msgspec import Struct

from events.event import START, Position
from events.log import EventLog
from projections.batch import Group, Parked, Snapshot
from projections.errors import ViewsNotReady, ViewsUnavailable, ViewUnreadable
from projections.joined import join
from projections.listeners import Watermark
from projections.projection import INDEX_COLUMNS, Found, Projection, SubjectIndex
from projections.reads import check_limit, check_where, columns_of, key_after, keys_until, storable
from projections.store import Pool, Session, Slot, Slots, connected
from projections.timeline import TIMELINE
from projections.views import PresentReader

D = TypeVar("D", bound=Struct)
_COLUMNS = ("first", "second", "third")
_POLL = 0.25
"""Seconds between looks at the database while a runner of this process tells us anyway."""
_POLL_REMOTE = 0.02
"""Seconds between looks where only the database can tell."""
_NO_END = Position(2**63 - 1)
_EVERYTHING = 2**31 - 1


class PostgresViews:
    """The views of one log in a database, kept by runners, here or in other processes.

    `watermark` is that of who follows them in this process, where somebody does: waiters then wake
    at once. Views in several shards are read with the help of `log`, at the lowest position of all
    (`projections.joined`); `timeline` is what `projections.asof.as_of` has it for. Every method may
    raise `ViewsUnavailable`, and `ViewsNotReady` while a view is built.
    """

    def __init__(
        self,
        pool: Pool,
        group: Group,
        *,
        watermark: Watermark | None = None,
        log: EventLog | None = None,
        timeline: SubjectIndex = TIMELINE,
    ) -> None:
        self._pool, self._group, self._watermark = pool, group, watermark
        self._log, self._timeline = log, timeline

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[PresentReader]:
        """Open a consistent read of all views; keep it short."""
        async with connected(self._pool) as connection:
            session = Session(connection)
            async with session.snapshot():
                slots, furthest = await self._slots(session)
                reader: PresentReader = PostgresReader(session, self._group, slots)
                if furthest > reader.position:
                    reader = await self._joined(reader, furthest)
                yield reader

    async def _joined(self, reader: PresentReader, furthest: Position) -> PresentReader:
        if self._log is None:
            raise ViewsNotReady(
                next(iter(self._group.views)), "its shards are apart, and only an engine joins them"
            )
        return await join(reader, self._log, furthest, self._timeline)

    async def reached(self, position: Position, timeout: float = 30.0) -> Position:
        """Wait until every view has folded this position; return where they are.

        Raises TimeoutError after `timeout` seconds.
        """
        at = START
        try:
            with anyio.fail_after(timeout):
                if self._watermark:
                    # A runner in this process says so by itself: no need to ask the database yet.
                    at = self._watermark.position
                    with anyio.move_on_after(_POLL):
                        await self._watermark.reach(position)
                while True:
                    at = await self._at(position)
                    if at >= position:
                        return at
                    with anyio.move_on_after(_POLL if self._watermark else _POLL_REMOTE):
                        await (self._watermark or Watermark()).reach(position)
        except TimeoutError:
            raise TimeoutError(
                f"the views are at position {at}, not at {position}, after {timeout:g} s; "
                "see whether an engine runs, and how far it is"
            ) from None

    async def parked(self, limit: int = 1000) -> list[Parked]:
        """Return what the views no longer fold because an event failed, by view and position."""
        async with connected(self._pool) as connection:
            session = Session(connection)
            slots = [slot for slot in await session.slots(self._group.views) if slot.live]
            return await session.parked(slots, limit)

    async def _at(self, position: Position) -> Position:
        if self._watermark and self._watermark.position >= position:
            return self._watermark.position
        try:
            async with connected(self._pool) as connection:
                slots, _ = await self._slots(Session(connection))
        except (ViewsNotReady, ViewsUnavailable):
            return START  # may pass; the time-out says it if not
        return _position(slots)

    async def _slots(self, session: Session) -> tuple[Slots, Position]:
        """Return the slot of each view that is furthest behind, and how far any is."""
        live = [slot for slot in await session.slots(self._group.views) if slot.live]
        found: dict[str, Slot] = {}
        for slot in live:
            before = found.setdefault(slot.view, slot)
            if slot.position < before.position:
                found[slot.view] = slot
        for name, view in self._group.views.items():
            its = found.get(name)
            if its is None:
                raise ViewsNotReady(name, "it is not built yet")
            if its.version != view.version:
                raise ViewsNotReady(
                    name, f"it was built by version {its.version}, this is version {view.version}"
                )
        # Within a shard all views move together; a shard may be ahead of another.
        at = {slot.shard: slot.position for slot in live}
        for slot in live:
            if slot.position != at[slot.shard]:
                lowest = min(live, key=lambda each: each.position)
                raise ViewsNotReady(lowest.view, f"it is behind the others, at {lowest.position}")
        return found, max(at.values(), default=START)


class PostgresReader:
    """Reads of the views as they stood at one position, the same for all."""

    def __init__(self, session: Session, group: Group, slots: Slots) -> None:
        self._session, self._group, self._slots = session, group, slots

    @property
    def position(self) -> Position:
        """The position up to which every view here has folded the log."""
        return _position(self._slots)

    async def get(self, view: Projection[D], key: str) -> Found[D] | None:
        """Return one document."""
        return (await self.get_many(view, (key,))).get(key)

    async def get_many(self, view: Projection[D], keys: Iterable[str]) -> Mapping[str, Found[D]]:
        """Return the documents under these keys; those that are not there are left out."""
        slot = self._slot(view)
        wanted = [key for key in dict.fromkeys(keys) if storable(key)]
        rows = await self._session.fetch("get", slot.view, slot.generation, wanted)
        return {row[0]: self._found(view, row) for row in rows}

    async def get_each(
        self, wanted: Iterable[tuple[Projection[Any], str]]
    ) -> Mapping[tuple[str, str], Found[Any]]:
        """Return documents of several views at once, by the view's name and the key."""
        views = {view.name: view for view, _ in wanted}
        asked = [(self._slot(view), key) for view, key in wanted if storable(key)]
        rows = await self._session.fetch(
            "get_each",
            [slot.view for slot, _ in asked],
            [slot.generation for slot, _ in asked],
            [key for _, key in asked],
        )
        return {(name, row[0]): self._found(views[name], row) for name, *row in rows}

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
        slot = self._slot(view)
        check_limit(limit)
        wanted = check_where(view, where)
        if not all(map(storable, (prefix, *wanted.values()))):
            return []
        name, place = _by_index("page", slot, wanted)
        bounds = (prefix, keys_until(prefix), key_after(after))
        rows = await self._session.fetch(name, *place, *bounds, limit, *_rest(wanted))
        return [self._found(view, row) for row in rows]

    async def count(
        self, view: Projection[D], *, prefix: str = "", where: Mapping[str, str] | None = None
    ) -> int:
        """Count the documents that `page` would go through."""
        slot = self._slot(view)
        wanted = check_where(view, where)
        if not all(map(storable, (prefix, *wanted.values()))):
            return 0
        name, place = _by_index("count", slot, wanted)
        bounds = (prefix, keys_until(prefix))
        rows = await self._session.fetch(name, *place, *bounds, *_rest(wanted))
        return int(rows[0][0])

    async def tally(
        self,
        view: Projection[D],
        by: tuple[str, str],
        *,
        prefix: str = "",
        where: Mapping[str, str] | None = None,
    ) -> Mapping[tuple[str, str], int]:
        """Count the documents that `page` would go through, by their values of two indexes."""
        slot = self._slot(view)
        wanted = check_where(view, where)
        first, second = columns_of(view, by)
        if not all(map(storable, (prefix, *wanted.values()))):
            return {}
        name, place = _by_index("tally", slot, wanted)
        bounds = (prefix, keys_until(prefix))
        rows = await self._session.fetch(
            name, *place, *bounds, first + 1, second + 1, *_rest(wanted)
        )
        return {
            (one, other): count
            for one, other, count in rows
            if one is not None and other is not None
        }

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
        slot = self._slot(view)
        check_limit(limit)
        if not storable(subject):
            return []
        rows = await self._session.fetch(
            "subjects_newest_first" if newest_first else "subjects",
            slot.view,
            slot.generation,
            subject,
            START if after is None else after,
            _NO_END if before is None else before,
            limit,
        )
        return [Position(row[0]) for row in rows]

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
        slot = self._slot(view)
        check_limit(limit)
        (column,) = check_where(view, {index: ""})
        found: dict[str, list[Found[D]]] = {value: [] for value in values}
        rows = await self._session.fetch(
            f"among_by_{_COLUMNS[column]}",
            slot.view,
            slot.generation,
            [value for value in found if storable(value)],
            keys_until(""),
            limit,
        )
        for value, *row in rows:
            found[value].append(self._found(view, row))
        return found

    async def parked_of(self, view: Projection[Any]) -> Sequence[Parked]:
        """Return everything of a view that is no longer folded."""
        return await self._session.parked([self._slot(view)], _EVERYTHING)

    async def snapshots(
        self, view: Projection[Any], keys: Collection[str], until: Position
    ) -> Mapping[str, Snapshot]:
        """Return the last snapshot of each of these documents that is not after a position."""
        slot = self._slot(view)
        wanted = [key for key in keys if storable(key)]
        rows = await self._session.fetch("snapshots", slot.view, slot.generation, wanted, until)
        return {row[0]: Snapshot(slot.view, row[0], Position(row[1]), row[2]) for row in rows}

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
        slot = self._slot(view)
        wanted = check_where(view, dict([where]) if where else None)
        if not all(map(storable, (prefix, *wanted.values()))):
            return []
        bounds = (prefix, keys_until(prefix), key_after(after), limit)
        place = (slot.view, slot.generation)
        for column, value in wanted.items():
            rows = await self._session.fetch("formerly", *place, column, value, *bounds)
            return [row[0] for row in rows]
        return [row[0] for row in await self._session.fetch("once_gone", *place, *bounds)]

    async def filed(
        self, view: SubjectIndex, subjects: Mapping[str, Position], until: Position
    ) -> Mapping[str, Sequence[Position]]:
        """Return what is filed under subjects, each after a position of its own."""
        slot = self._slot(view)
        wanted = {subject: after for subject, after in subjects.items() if storable(subject)}
        rows = await self._session.fetch(
            "filed", slot.view, slot.generation, list(wanted), list(wanted.values()), until
        )
        found: dict[str, list[Position]] = {}
        for subject, position in rows:
            found.setdefault(subject, []).append(Position(position))
        return found

    def _slot(self, view: Projection[Any] | SubjectIndex) -> Slot:
        slot = self._slots.get(view.name)
        if slot is None:
            raise ValueError(f"the view {view.name} is not among those that are kept here")
        return slot

    def _found(self, view: Projection[D], row: Iterable[Any]) -> Found[D]:
        key, position, body = row
        try:
            document: D = self._group.decode(view.name, body)
        except msgspec.MsgspecError as error:
            raise ViewUnreadable(view.name, key, error) from error
        return Found(key, Position(position), document)


def _position(slots: Slots) -> Position:
    return min((slot.position for slot in slots.values()), default=START)


def _by_index(query: str, slot: Slot, wanted: Mapping[int, str]) -> tuple[str, tuple[Any, ...]]:
    """Choose the query that goes by the first wanted index, and its first arguments."""
    for column in sorted(wanted):
        return f"{query}_by_{_COLUMNS[column]}", (slot.view, slot.generation, wanted[column])
    return query, (slot.view, slot.generation)


def _rest(wanted: Mapping[int, str]) -> tuple[str | None, ...]:
    """Return what the other columns must be, None for any."""
    if not wanted:
        return ()
    first = min(wanted)
    return tuple(wanted.get(column) for column in range(INDEX_COLUMNS) if column != first)
