"""Folding a view anew beside the live one, comparing, and putting it in its place.

The runner goes on meanwhile; it notices the swap at its next batch.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

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
            while not await _swap(log, session, keeper, view, clock):
                await _follow_live(log, session, keeper, view, clock, pace)
        except FencedOut as error:
            raise RebuildRefused(f"another rebuild of the view {view.name} took over") from error
        # Opened again: what the last events parked was parked for each shard.
        await (await Keeper.open(session, group, keeper.slots, clock)).tell(log)
    return rebuilt


async def drop_previous(store: Store, view: str) -> int:
    """Remove the generations of a view before the live one; return how many there were."""
    async with store.session() as session:
        slots = await session.slots([view])
        live = max((slot.generation for slot in slots if slot.live), default=0)
        previous = [slot for slot in _generations(slots) if slot.generation < live]
        for slot in previous:
            await session.drop(slot)
    return len(previous)


async def _begin(session: Session, view: Projection[Any] | SubjectIndex) -> Slot:
    async with session.transaction():
        slots = await session.prepare([view.name])
        shards = len(_live(slots, view))
        number = max(slot.generation for slot in slots) + 1
        # Epoch 0: no engine's. The swap takes over that of the live one.
        begun = await session.begin_generation(view.name, number, view.version, 0, shards)
    for slot in _generations(slots):
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
        lowest = min(slot.position for slot in _live(await session.slots([view.name]), view))
        if lowest <= keeper.position:
            return
        await catch_up(log, keeper, lowest, clock, pace)


async def _swap(
    log: EventLog,
    session: Session,
    keeper: Keeper,
    view: Projection[Any] | SubjectIndex,
    clock: Clock,
) -> bool:
    """Swap, if the live view is hardly ahead: it stands still meanwhile, so this must be short."""
    generation, at = keeper.slots[view.name].generation, keeper.position
    async with session.transaction():
        slots = await session.prepare([view.name])
        live = _live(slots, view)
        mine = [slot for slot in slots if slot.generation == generation and not slot.live]
        if len(mine) != len(live):
            raise RebuildRefused(f"another rebuild of the view {view.name} took over")
        ahead = max(slot.position for slot in live) - at
        if ahead > _SWAP_LIMIT:
            return False
        events = await log.read(at, ahead) if ahead else []
        for slot, its in zip(mine, live, strict=True):
            # Each shard to where it is live; this is what they have been folded apart for.
            if its.position > at:
                part = session.of_shard(slot.shard)
                one = await Keeper.open(part, Group.of(view), {view.name: slot}, clock)
                await one.advance(events[: its.position - at])
        await session.set_live(live, False)
        taken = [replace(slot, epoch=its.epoch) for slot, its in zip(mine, live, strict=True)]
        await session.set_live(taken, True)
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
        furthest = max(slot.position for slot in live)
        (row,) = await session.scan(f"digest_{kind}", view.name, mine.generation)
        moving = await _touched(log, group, mine.position, furthest)
        differing: list[str] = []
        after = ""
        while len(differing) < DIFFERING_LIMIT:
            bounds = (view.name, live[0].generation, mine.generation, after, _PAGE)
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


def _generations(slots: list[Slot]) -> list[Slot]:
    """Return one slot of each generation."""
    return list({slot.generation: slot for slot in slots}.values())


def _live(slots: list[Slot], view: Projection[Any] | SubjectIndex) -> list[Slot]:
    """Return the live slots of a view, one a shard in their order; raises `RebuildRefused`."""
    live = [slot for slot in slots if slot.live]
    if not live:
        raise RebuildRefused(
            f"the view {view.name} is not live: start an engine, it builds what is missing"
        )
    if live[0].version != view.version:
        raise RebuildRefused(
            f"the view {view.name} was built by version {live[0].version}, this is version "
            f"{view.version}: start an engine of this release, it rebuilds the view"
        )
    return live
