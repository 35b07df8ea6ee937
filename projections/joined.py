"""Views whose shards are at different positions, read at the lowest of these: exactly.

Every shard moves at its own pace, so some documents have been folded further than others. Which
ones, the events between the lowest position and the furthest tell: those documents are read as of
the lowest position, everything else as it is stored. So it costs what the shards are apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from msgspec import Struct

from events.event import Position
from events.log import EventLog
from projections.asof import AsOfReader
from projections.batch import Group, Parked, Snapshot
from projections.errors import ViewsNotReady
from projections.projection import Found, Projection, SubjectIndex
from projections.reads import check_limit, check_where, columns_of
from projections.views import PresentReader

D = TypeVar("D", bound=Struct)
APART = 20_000
"""Events that shards may be apart: beyond that they are not joined, and the views wait."""
_EVENTS = 2000


async def join(
    now: PresentReader, log: EventLog, furthest: Position, timeline: SubjectIndex
) -> JoinedReader:
    """Return reads at the position of `now`, the lowest; some shards are ahead, up to `furthest`.

    Raises `ViewsNotReady` where they are too far apart.
    """
    at = now.position
    if furthest - at > APART:
        raise ViewsNotReady(
            next(iter(now.group.views)),
            f"one of its shards is {furthest - at} events behind the others, at {at}",
        )
    ahead: dict[str, set[str]] = {}
    while at < furthest:
        events = await log.read(at, min(_EVENTS, furthest - at))
        for view, key in now.group.plan(events).touched:
            ahead.setdefault(view, set()).add(key)
        at = events[-1].position
    return JoinedReader(now, log, ahead, timeline)


class JoinedReader:
    """Reads of the views at the lowest position of their shards. Use `join`."""

    def __init__(
        self,
        now: PresentReader,
        log: EventLog,
        ahead: Mapping[str, set[str]],
        timeline: SubjectIndex,
    ) -> None:
        self._now, self._ahead = now, ahead
        self._then = AsOfReader(now, log, now.position, timeline)
        self._past: dict[str, Mapping[str, Found[Any]]] = {}

    @property
    def position(self) -> Position:
        """The position up to which every view here has folded the log."""
        return self._now.position

    @property
    def group(self) -> Group:
        """The views."""
        return self._now.group

    async def get(self, view: Projection[D], key: str) -> Found[D] | None:
        """Return one document."""
        return (await self.get_many(view, (key,))).get(key)

    async def get_many(self, view: Projection[D], keys: Iterable[str]) -> Mapping[str, Found[D]]:
        """Return the documents under these keys; those that are not there are left out."""
        wanted = list(dict.fromkeys(keys))
        ahead = self._ahead.get(view.name, set())
        past = await self._as_it_was(view) if ahead.intersection(wanted) else {}
        found = await self._now.get_many(view, [key for key in wanted if key not in ahead])
        return {**found, **{key: past[key] for key in wanted if key in past}}

    async def get_each(
        self, wanted: Iterable[tuple[Projection[Any], str]]
    ) -> Mapping[tuple[str, str], Found[Any]]:
        """Return documents of several views at once, by the view's name and the key."""
        asked = list(wanted)
        found = dict(await self._now.get_each(asked))
        for view, key in asked:
            if key in self._ahead.get(view.name, ()):
                past = (await self._as_it_was(view)).get(key)
                found.pop((view.name, key), None)
                if past is not None:
                    found[view.name, key] = past
        return found

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
        ahead = self._ahead.get(view.name, set())
        most = limit + len(ahead)
        some = await self._now.page(view, prefix=prefix, where=where, after=after, limit=most)
        if not ahead:
            return some
        last = some[-1].key if len(some) == most else None
        found = [each for each in some if each.key not in ahead]
        found += [
            each
            for each in await self._matching(view, prefix, where)
            if each.key > after and (last is None or each.key <= last)
        ]
        return sorted(found, key=lambda each: each.key)[:limit]

    async def count(
        self, view: Projection[D], *, prefix: str = "", where: Mapping[str, str] | None = None
    ) -> int:
        """Count the documents that `page` would go through."""
        total = await self._now.count(view, prefix=prefix, where=where)
        if view.name not in self._ahead:
            return total
        there = await self._matching(view, prefix, where, await self._as_it_is(view))
        return total - len(there) + len(await self._matching(view, prefix, where))

    async def tally(
        self,
        view: Projection[D],
        by: tuple[str, str],
        *,
        prefix: str = "",
        where: Mapping[str, str] | None = None,
    ) -> Mapping[tuple[str, str], int]:
        """Count the documents that `page` would go through, by their values of two indexes."""
        counts = Counter(await self._now.tally(view, by, prefix=prefix, where=where))
        if view.name not in self._ahead:
            return counts
        first, second = columns_of(view, by)
        for step, documents in ((-1, await self._as_it_is(view)), (1, await self._as_it_was(view))):
            for found in await self._matching(view, prefix, where, documents):
                values = view.index(found.document)
                one, other = values[first], values[second]
                if one is not None and other is not None:
                    counts[one, other] += step
        return {values: count for values, count in counts.items() if count}

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
        return await self._then.subjects(
            view, subject, after=after, before=before, limit=limit, newest_first=newest_first
        )

    async def among(
        self, view: Projection[D], index: str, values: Collection[str], *, limit: int
    ) -> Mapping[str, list[Found[D]]]:
        """Return, for each of these values of an index, the first documents, in key order.

        Raises ValueError for a limit below 1 and for an index that the view does not have.
        """
        if view.name not in self._ahead:
            return await self._now.among(view, index, values, limit=limit)
        return {value: await self.page(view, where={index: value}, limit=limit) for value in values}

    async def parked_of(self, view: Projection[Any]) -> Sequence[Parked]:
        """Return everything of a view that is no longer folded."""
        parked = await self._now.parked_of(view)
        return [each for each in parked if each.position <= self.position]

    async def snapshots(
        self, view: Projection[Any], keys: Collection[str], until: Position
    ) -> Mapping[str, Snapshot]:
        """Return the last snapshot of each of these documents that is not after a position."""
        return await self._now.snapshots(view, keys, until)

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
        return await self._now.former_keys(view, where, prefix=prefix, after=after, limit=limit)

    async def filed(
        self, view: SubjectIndex, subjects: Mapping[str, Position], until: Position
    ) -> Mapping[str, Sequence[Position]]:
        """Return what is filed under subjects, each after a position of its own."""
        return await self._now.filed(view, subjects, until)

    async def _as_it_was(self, view: Projection[D]) -> Mapping[str, Found[D]]:
        """Return the documents that some shard has folded further, as of our position."""
        if view.name not in self._past:
            self._past[view.name] = await self._then.get_many(view, sorted(self._ahead[view.name]))
        return self._past[view.name]

    async def _as_it_is(self, view: Projection[D]) -> Mapping[str, Found[D]]:
        return await self._now.get_many(view, self._ahead[view.name])

    async def _matching(
        self,
        view: Projection[D],
        prefix: str,
        where: Mapping[str, str] | None,
        documents: Mapping[str, Found[D]] | None = None,
    ) -> list[Found[D]]:
        """Return those that match of some documents, or of those as they were."""
        wanted = check_where(view, where)
        if documents is None:
            documents = await self._as_it_was(view)
        found: list[Found[D]] = []
        for each in documents.values():
            index = view.index(each.document)
            if each.key.startswith(prefix) and all(index[at] == v for at, v in wanted.items()):
                found.append(each)
        return found
