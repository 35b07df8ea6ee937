"""Whether the stored views are what the log folds to: a fresh fold in memory, held against them.

Memory grows with the documents (their stored bytes), not with the events.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from events.event import START, Position
from events.fsck import Finding, Told
from events.log import EventLog
from projections.batch import Changes, Group, Stored
from projections.folding import fold
from projections.store import Session, Slot

_EVENTS = 1000
_PAGE = 2000
_LISTED = 20
_END = "\U0010ffff"


class ViewCheck:
    """Goes through the live generation of every view of a group.

    Use it within `Session.snapshot`, so that the views stand still.
    """

    def __init__(
        self, session: Session, log: EventLog, group: Group, told: Told = lambda _: None
    ) -> None:
        self._session, self._log, self._group, self._told = session, log, group, told
        self._documents: dict[tuple[str, str], Stored] = {}
        self._filed: dict[str, int] = {}
        self._moving: set[tuple[str, str]] = set()
        self.documents = 0

    async def findings(self) -> AsyncIterator[Finding]:
        """Yield what differs; raises `ViewError` and `LogError`."""
        slots: dict[str, Slot] = {}
        parked, furthest = set(), START
        for slot in await self._session.slots(self._group.views):
            if slot.live:
                furthest = max(furthest, slot.position)
                before = slots.setdefault(slot.view, slot)
                slots[slot.view] = min(before, slot, key=lambda each: each.position)
        for view, its in sorted(self._group.views.items()):
            if view not in slots:
                yield _finding(
                    view, "it is not built", "start an engine: it builds what is missing"
                )
            elif slots[view].version != its.version:
                what = f"it was built by version {slots[view].version}, this is {its.version}"
                yield _finding(view, what, "start an engine of this release: it builds it anew")
                del slots[view]
        for each in await self._session.parked(list(slots.values()), 1_000_000):
            parked.add((each.view, each.scope, each.name))
            what = f"{each.scope} {each.name} is parked since position {each.position}"
            yield _finding(each.view, f"{what}: {each.message}", f"`trueup rebuild {each.view}`")
        until = min((slot.position for slot in slots.values()), default=START)
        async for finding in self._fold(slots, until):
            yield finding
        await self._pass_over(until, furthest)
        for view, slot in sorted(slots.items()):
            compared = self._compare if view in self._group.documents else self._count
            async for finding in compared(slot):
                yield finding

    async def _fold(self, slots: Mapping[str, Slot], until: Position) -> AsyncIterator[Finding]:
        """Fold the log in memory, and look for each subject's entries on the way."""
        group, at, parked = self._group.only(slots), START, set[Any]()
        while at < until:
            events = await self._log.read(at, min(_EVENTS, until - at))
            plan = group.plan(events)
            stored = {key: found for key in plan.touched if (found := self._documents.get(key))}
            changes = fold(group, plan, stored, parked)
            parked.update((each.view, each.scope, each.name) for each in changes.parked)
            self._keep(changes)
            async for finding in self._entries(slots, changes.filed):
                yield finding
            at = events[-1].position
            self._told(at)

    async def _pass_over(self, until: Position, furthest: Position) -> None:
        """Leave out what shards that are ahead of the others have folded further already."""
        at = until
        while at < furthest:
            events = await self._log.read(at, min(_EVENTS, furthest - at))
            self._moving.update(self._group.plan(events).touched)
            at = events[-1].position

    def _keep(self, changes: Changes) -> None:
        for row in changes.rows:
            self._documents[row.view, row.key] = Stored(row.position, row.document, row.tail)
        for key in changes.gone:
            self._documents.pop(key, None)

    async def _entries(
        self, slots: Mapping[str, Slot], filed: Iterable[tuple[str, str, Position]]
    ) -> AsyncIterator[Finding]:
        by_view: dict[str, list[tuple[str, Position]]] = {}
        for view, subject, position in filed:
            by_view.setdefault(view, []).append((subject, position))
        for view, entries in by_view.items():
            self._filed[view] = self._filed.get(view, 0) + len(entries)
            subjects, positions = zip(*entries, strict=True)
            rows = await self._session.fetch(
                "missing_entries", view, slots[view].generation, subjects, positions, _LISTED
            )
            for subject, position in rows:
                what = f"the event at position {position} is not filed under {subject}"
                yield _finding(view, what, f"`trueup rebuild {view}`")

    async def _compare(self, slot: Slot) -> AsyncIterator[Finding]:
        """Hold the stored documents of a view against those that were folded."""
        mine = {
            key: at
            for (view, key), at in self._documents.items()
            if view == slot.view and (view, key) not in self._moving
        }
        self.documents += len(mine)
        differing: list[str] = []
        after = ""
        while rows := await self._session.fetch(
            "page", slot.view, slot.generation, "", _END, after, _PAGE
        ):
            for key, position, document in rows:
                if (slot.view, key) in self._moving:
                    continue
                folded = mine.pop(key, None)
                if folded is None:
                    differing.append(f"{key} should not be there")
                elif (folded.position, folded.document) != (position, document):
                    differing.append(f"{key} is not what the log folds to")
            after = rows[-1][0]
        differing += [f"{key} is missing" for key in mine]
        for what in differing[:_LISTED]:
            yield _finding(slot.view, what, f"`trueup rebuild {slot.view}`")
        if len(differing) > _LISTED:
            more = f"and {len(differing) - _LISTED} more documents"
            yield _finding(slot.view, more, f"`trueup rebuild {slot.view}`")

    async def _count(self, slot: Slot) -> AsyncIterator[Finding]:
        place = (slot.view, slot.generation, slot.position)
        (row,) = await self._session.scan("count_entries", *place)
        expected = self._filed.get(slot.view, 0)
        if row[0] > expected:
            what = f"it has {row[0]} entries, and the log files {expected}"
            yield _finding(slot.view, what, f"`trueup rebuild {slot.view}`")


def _finding(view: str, what: str, remedy: str) -> Finding:
    return Finding("view", f"view {view}", what, remedy)
