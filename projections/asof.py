"""Any view as of any position: the last snapshot of a document before it, and the events since.

A document that nothing has touched since the position is read as it is; of any other, the last
snapshot not after it is taken, and what the timeline files under the document's subject between
the two is folded into it. So what it costs depends on how many documents are asked for, not on
how long the log is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from events.codec import fact_of
from events.event import START, Event, Position, StreamName
from events.log import EventLog
from projections.batch import Parked, Scope
from projections.errors import AheadOfViews, ViewUnreadable
from projections.projection import Found, Projection, Reader, SubjectIndex
from projections.reads import check_limit, check_where, columns_of
from projections.timeline import TIMELINE
from projections.views import PresentReader, Views

D = TypeVar("D", bound=Struct)
_PAGE = 500
"""Documents that are gone through at once."""
_EVENTS = 2000
"""Events that are read at once."""


@asynccontextmanager
async def as_of(
    views: Views, log: EventLog, position: Position, *, timeline: SubjectIndex = TIMELINE
) -> AsyncIterator[Reader]:
    """Open a consistent read of all views as they stood at a position; keep it short.

    `timeline` is the view that files every event under the subjects of the documents that it
    touches. Raises `AheadOfViews` for a position that the views have not reached, ValueError for
    a negative one.
    """
    if position < START:
        raise ValueError(f"{position} is no position: the first one is 1")
    async with views.snapshot() as now:
        if position > now.position:
            raise AheadOfViews(position, now.position)
        yield AsOfReader(now, log, position, timeline)


class AsOfReader:
    """Reads of the views as they stood at one position. Use `as_of`."""

    def __init__(
        self, now: PresentReader, log: EventLog, position: Position, timeline: SubjectIndex
    ) -> None:
        self._now, self._log, self._position, self._timeline = now, log, position, timeline
        self._parked: dict[str, Sequence[Parked]] = {}

    @property
    def position(self) -> Position:
        """The position that everything is read as of."""
        return self._position

    async def get(self, view: Projection[D], key: str) -> Found[D] | None:
        """Return one document."""
        return (await self.get_many(view, (key,))).get(key)

    async def get_many(self, view: Projection[D], keys: Iterable[str]) -> Mapping[str, Found[D]]:
        """Return the documents under these keys; those that were not there are left out."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, Found[D]] = {}
        for start in range(0, len(wanted), _PAGE):
            some = wanted[start : start + _PAGE]
            found |= await self._past(view, some, await self._now.get_many(view, some))
        return found

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
        check_limit(limit)
        found: list[Found[D]] = []
        async for some in self._matching(view, prefix, where, after):
            found += some
            if len(found) >= limit:
                break
        return found[:limit]

    async def count(
        self, view: Projection[D], *, prefix: str = "", where: Mapping[str, str] | None = None
    ) -> int:
        """Count the documents that `page` would go through, by going through them."""
        total = 0
        async for some in self._matching(view, prefix, where, ""):
            total += len(some)
        return total

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
        async for some in self._matching(view, prefix, where, ""):
            for found in some:
                values = view.index(found.document)
                one, other = values[first], values[second]
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
        end = Position(self._position + 1)
        return await self._now.subjects(
            view,
            subject,
            after=after,
            before=end if before is None else min(before, end),
            limit=limit,
            newest_first=newest_first,
        )

    async def _matching(
        self, view: Projection[D], prefix: str, where: Mapping[str, str] | None, after: str
    ) -> AsyncIterator[list[Found[D]]]:
        """Yield documents in key order: of those that have or had one of the values, who match."""
        wanted = check_where(view, where)
        if refused := sorted(set(view.present_only) & set(where or ())):
            raise ValueError(f"{view.name} cannot be asked for by {refused[0]} as of the past")
        one = next(iter((where or {}).items()), None)
        by = dict([one]) if one else None
        while True:
            live = await self._now.page(view, prefix=prefix, where=by, after=after, limit=_PAGE)
            former = await self._now.former_keys(view, one, prefix=prefix, after=after, limit=_PAGE)
            ends = [live[-1].key] if len(live) == _PAGE else []
            ends += [former[-1]] if len(former) == _PAGE else []
            known = {found.key: found for found in live}
            keys = sorted(known.keys() | set(former))
            if ends:  # beyond the shorter of two pages there may be more
                keys = [key for key in keys if key <= min(ends)]
            unread = [key for key in keys if key not in known]
            known |= await self._now.get_many(view, unread)
            past = await self._past(view, keys, known)
            documents = [past[key] for key in keys if key in past]
            yield [found for found in documents if _matches(view, found.document, wanted)]
            if not ends:
                return
            after = min(ends)

    async def _past(
        self, view: Projection[D], keys: Collection[str], now: Mapping[str, Found[D]]
    ) -> dict[str, Found[D]]:
        """Return documents as they were, given as they are."""
        past: dict[str, Found[D]] = {}
        changed: list[str] = []
        for key in keys:
            found = now.get(key)
            if found is not None and found.position <= self._position:
                past[key] = found
            else:
                changed.append(key)
        if not changed:
            return past
        since = dict.fromkeys(changed, START)
        for key, snapshot in (await self._now.snapshots(view, changed, self._position)).items():
            since[key] = snapshot.position
            if snapshot.document is not None:
                past[key] = self._decoded(view, key, snapshot.position, snapshot.document)
        fold = _Fold(view, past, await self._parked_of(view))
        by_subject = {key: view.subject(key) for key in changed}
        filed = {key: subject for key, subject in by_subject.items() if subject is not None}
        await self._fold_filed(fold, filed, since)
        for key in changed:
            if key not in filed:
                await self._fold_stream(fold, key, since[key])
        return past

    def _decoded(self, view: Projection[D], key: str, position: Position, body: bytes) -> Found[D]:
        try:
            document: D = self._now.group.decode(view.name, body)
        except msgspec.MsgspecError as error:
            raise ViewUnreadable(view.name, key, error) from error
        return Found(key, position, document)

    async def _fold_filed(
        self, fold: _Fold, filed: Mapping[str, str], since: Mapping[str, Position]
    ) -> None:
        """Fold what is filed under each key's subject, after where its document stands."""
        if not filed:
            return
        starts: dict[str, Position] = {}
        for key, subject in filed.items():
            starts[subject] = min(since[key], starts.get(subject, since[key]))
        positions = await self._now.filed(self._timeline, starts, self._position)
        touching: dict[Position, list[str]] = {}
        for key, subject in filed.items():
            for position in positions.get(subject, ()):
                if position > since[key]:
                    touching.setdefault(position, []).append(key)
        order = sorted(touching)
        for start in range(0, len(order), _EVENTS):
            for event in await self._log.read_at(order[start : start + _EVENTS]):
                if event.type in fold.types:
                    fold.step(event, touching[event.position])

    async def _fold_stream(self, fold: _Fold, key: str, after: Position) -> None:
        """Fold the events of the stream that a key names."""
        while True:
            limit = min(_EVENTS, self._position - after)
            if limit < 1:
                return
            events = await self._log.read(after, limit, stream=StreamName(key), types=fold.types)
            for event in events:
                if event.position > self._position:
                    return
                fold.step(event, (key,))
            if len(events) < limit:
                return
            after = events[-1].position

    async def _parked_of(self, view: Projection[Any]) -> Sequence[Parked]:
        if view.name not in self._parked:
            self._parked[view.name] = await self._now.parked_of(view)
        return self._parked[view.name]


class _Fold:
    """Folds events into some documents of one view, as its runner did."""

    def __init__(
        self, view: Projection[Any], documents: dict[str, Found[Any]], parked: Sequence[Parked]
    ) -> None:
        self.types = view.types
        self._view, self._documents = view, documents
        self._keys = {each.name: each.position for each in parked if each.scope is Scope.KEY}
        self._streams = {each.name: each.position for each in parked if each.scope is Scope.STREAM}

    def step(self, event: Event, keys: Iterable[str]) -> None:
        """Fold one event into those of these documents that it touches."""
        position = event.position
        if position >= self._streams.get(event.stream, position + 1):
            return
        fact = fact_of(event)
        touched = set(self._view.keys(event, fact))
        for key in keys:
            if key not in touched or position >= self._keys.get(key, position + 1):
                continue
            before = self._documents.get(key)
            after = self._view.apply(key, before.document if before else None, event, fact)
            if after is None:
                self._documents.pop(key, None)
            else:
                self._documents[key] = Found(key, position, after)


def _matches(view: Projection[D], document: D, wanted: Mapping[int, str]) -> bool:
    index = view.index(document)
    return all(index[column] == value for column, value in wanted.items())
