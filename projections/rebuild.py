"""Folding a view anew beside the live one, comparing, and putting it in its place.

The runner goes on meanwhile; it notices the swap at its next batch.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from events.event import Position
from events.log import EventLog
from projections.batch import Group, is_subject_index
from projections.build import Pace, Progress, Report, catch_up
from projections.clock import Clock
from projections.errors import FencedOut, RebuildRefused
from projections.keeper import Keeper
from projections.projection import Projection, SubjectIndex
from projections.store import Session, Slot, Store

__all__ = ["Progress", "Rebuilt", "drop_previous", "rebuild"]

DIFFERING_LIMIT = 100
"""How many differing keys a rebuild names."""
_SWAP_LIMIT = 200
"""Events that may be left to fold while the live view is held for the swap."""
_PAGE = 1000


class Rebuilt(Struct, frozen=True):
    """What a rebuild came to.

    `documents` is how many documents (entries, of a subject index) the new generation has, and
    `digest` the SHA-256 over them, as they were compared at `position`. `differing` names the keys
    (subjects) that the view had otherwise before, at most `DIFFERING_LIMIT` of them.
    """

    view: str
    generation: int
    position: Position
    documents: int
    digest: str
    differing: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether the view was as it should be."""
        return not self.differing


async def rebuild(
    log: EventLog,
    store: Store,
    view: Projection[Any] | SubjectIndex,
    progress: Report | None = None,
    *,
    clock: Clock,
) -> Rebuilt:
    """Build the next generation of a view, compare it with the live one, and make it live.

    The one before is kept until `drop_previous`. Raises `RebuildRefused` where the view is not
    live, or another rebuild of it took over; `ViewsUnavailable`, `LogError`.
    """
    group = Group.of(view)
    async with store.session() as session:
        slot = await _begin(session, view)
        keeper = await Keeper.open(session, group, {view.name: slot}, clock)
        pace = Pace([view.name], clock, progress)
        try:
            await _follow_live(log, session, keeper, view, clock, pace)
            rebuilt = await _compare(log, session, group, keeper, view)
            while not await _swap(log, session, keeper, view):
                await _follow_live(log, session, keeper, view, clock, pace)
        except FencedOut as error:
            raise RebuildRefused(f"another rebuild of the view {view.name} took over") from error
        await keeper.tell(log)
    return rebuilt


async def drop_previous(store: Store, view: str) -> int:
    """Remove the generations of a view before the live one; return how many there were."""
    async with store.session() as session:
        slots = await session.slots([view])
        live = max((slot.generation for slot in slots if slot.live), default=0)
        previous = [slot for slot in slots if slot.generation < live]
        for slot in previous:
            await session.drop(slot)
    return len(previous)


async def _begin(session: Session, view: Projection[Any] | SubjectIndex) -> Slot:
    async with session.transaction():
        slots = await session.prepare([view.name])
        _live(slots, view)
        number = max(slot.generation for slot in slots) + 1
        # Epoch 0: no engine's. The swap takes over that of the live one.
        begun = await session.begin_generation(view.name, number, view.version, epoch=0)
    for slot in slots:
        if not slot.live:
            await session.drop(slot)
    return begun


async def _follow_live(
    log: EventLog,
    session: Session,
    keeper: Keeper,
    view: Projection[Any] | SubjectIndex,
    clock: Clock,
    pace: Pace,
) -> None:
    """Fold until the live view is hardly ahead."""
    while True:
        live = _live(await session.slots([view.name]), view)
        if live.position - keeper.position <= 0:
            return
        await catch_up(log, keeper, live.position, clock, pace)


async def _swap(
    log: EventLog, session: Session, keeper: Keeper, view: Projection[Any] | SubjectIndex
) -> bool:
    """Swap, if the live view is hardly ahead: it stands still meanwhile, so this must be short."""
    async with session.transaction():
        slots = await session.prepare([view.name])
        live = _live(slots, view)
        ahead = live.position - keeper.position
        if ahead > _SWAP_LIMIT:
            return False
        if ahead:
            await keeper.advance(await log.read(keeper.position, ahead))
        mine = keeper.slots[view.name]
        if not any(slot.generation == mine.generation and not slot.live for slot in slots):
            raise RebuildRefused(f"another rebuild of the view {view.name} took over")
        await session.set_live({live: False, mine: True}, live.epoch)
    return True


async def _compare(
    log: EventLog,
    session: Session,
    group: Group,
    keeper: Keeper,
    view: Projection[Any] | SubjectIndex,
) -> Rebuilt:
    kind = "subjects" if is_subject_index(view) else "documents"
    async with session.snapshot():
        slots = await session.slots([view.name])
        live, mine = _live(slots, view), keeper.slots[view.name]
        (row,) = await session.scan(f"digest_{kind}", view.name, mine.generation)
        moving = await _touched(log, group, mine.position, live.position)
        differing: list[str] = []
        after = ""
        while len(differing) < DIFFERING_LIMIT:
            bounds = (view.name, live.generation, mine.generation, after, _PAGE)
            until = () if kind == "documents" else (mine.position,)
            keys = [each[0] for each in await session.scan(f"differing_{kind}", *bounds, *until)]
            differing += [key for key in keys if key not in moving]
            if len(keys) < _PAGE:
                break
            after = keys[-1]
    return Rebuilt(
        view.name,
        mine.generation,
        mine.position,
        row[0],
        f"sha256:{row[1]}",
        tuple(differing[:DIFFERING_LIMIT]),
    )


async def _touched(log: EventLog, group: Group, after: Position, until: Position) -> set[str]:
    """Name the documents that the live view has already folded further."""
    touched: set[str] = set()
    while after < until:
        events = await log.read(after, min(_PAGE, until - after))
        if not events:
            break
        touched.update(key for _, key in group.plan(events).touched)
        after = events[-1].position
    return touched


def _live(slots: list[Slot], view: Projection[Any] | SubjectIndex) -> Slot:
    live = next((slot for slot in slots if slot.live), None)
    if live is None:
        raise RebuildRefused(
            f"the view {view.name} is not live: start an engine, it builds what is missing"
        )
    if live.version != view.version:
        raise RebuildRefused(
            f"the view {view.name} was built by version {live.version}, this is version "
            f"{view.version}: start an engine of this release, it rebuilds the view"
        )
    return live
