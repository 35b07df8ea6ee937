"""Bringing generations of views up to where the live ones are: at start-up, and for a rebuild."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from events.event import START, Event, Position
from events.log import EventLog, LogCorrupt
from projections.batch import Group
from projections.clock import Clock
from projections.errors import FencedOut, ViewsNotReady
from projections.keeper import Keeper
from projections.store import Session, Slot, Slots


class Progress(Struct, frozen=True):
    """How far a build is: at `position` of `head`, at `rate` events a second.

    `seconds_left` is None while it cannot be told.
    """

    views: tuple[str, ...]
    position: Position
    head: Position
    rate: float
    seconds_left: float | None


_OTHERS = 0.05
"""Seconds between looks at whether the other shards are built, too."""
Report: TypeAlias = Callable[[Progress], None]


class BatchSize:
    """How many events to read at once: as many as are folded quickly and fit into memory."""

    LEAST, MOST = 25, 2000
    SLOW, QUICK = 1.0, 0.3
    """Seconds that a batch took."""
    HEAVY, LIGHT = 8 * 2**20, 2 * 2**20
    """Bytes of the payloads of a batch."""

    def __init__(self) -> None:
        self.limit = 125  # until it is known how heavy they are

    def learn(self, events: Sequence[Event], seconds: float) -> None:
        """Take note of how a batch went."""
        size = sum(len(event.payload) for event in events)
        if seconds > self.SLOW or size > self.HEAVY:
            self.limit = max(self.LEAST, self.limit // 2)
        elif seconds < self.QUICK and size < self.LIGHT and len(events) >= self.limit:
            self.limit = min(self.MOST, self.limit * 2)


class Pace:
    """Measures a build, and reports it."""

    def __init__(self, views: Collection[str], clock: Clock, report: Report | None) -> None:
        self._views, self._clock, self._report = tuple(sorted(views)), clock, report
        self._began, self._events = clock.monotonic(), 0

    def step(self, events: int, position: Position, head: Position) -> None:
        """Report after a batch of so many events."""
        self._events += events
        if self._report is None:
            return
        seconds = self._clock.monotonic() - self._began
        rate = self._events / seconds if seconds > 0 else 0.0
        left = (head - position) / rate if rate > 0 else None
        self._report(Progress(self._views, position, head, rate, left))


async def catch_up(
    log: EventLog,
    keeper: Keeper,
    until: Position,
    clock: Clock,
    pace: Pace,
    stored: Callable[[Position], None] = lambda _: None,
) -> None:
    """Fold what lies between where the views of `keeper` are and a position that the log has.

    They are stored now and then, and at the end: `stored` is told. Raises what `Keeper.advance`
    and `EventLog.read` raise.
    """
    size = BatchSize()
    while keeper.position < until:
        began = clock.monotonic()
        events = await log.read(keeper.folded, min(size.limit, until - keeper.folded))
        if not events:
            raise LogCorrupt(
                f"the views are to be built up to position {until}, and the log ends at "
                f"{keeper.folded}: it is not the log that they were folded from"
            )
        full = await keeper.fold(events)
        size.learn(events, clock.monotonic() - began)
        if full or keeper.folded == until:
            await keeper.store()
            stored(keeper.position)
        pace.step(len(events), keeper.folded, until)


async def lay_out(session: Session, group: Group, shards: int, epoch: int) -> bool:
    """Decide which generations of all views there shall be, in so many shards; tell if any is new.

    Whoever leads calls it, with the epoch of that. What is live and in order stays. What is new, of
    another version or in another number of shards is begun, and `prepare` puts it in place when
    every shard of it is built. Where anything changes, all shards have to be taken anew: whoever
    kept them keeps them no longer. Raises `FencedOut` where there is one shard, and a higher epoch
    keeps it.
    """
    stale: list[Slot] = []
    async with session.transaction():
        found = await session.prepare(group.views)
        if shards == 1:
            _check_epoch(found, epoch)
        ends = _ends(found, shards)
        changed, keep = False, list[Slot]()
        for name, view in group.views.items():
            its = [slot for slot in found if slot.view == name]
            slots = _usable(its, view.version, shards)
            keep += slots
            if slots and all(slot.live and slot.position == ends[slot.shard] for slot in slots):
                continue
            changed = True
            if not slots:
                number = max((slot.generation for slot in its), default=0) + 1
                new = await session.begin_generation(name, number, view.version, 0, shards)
                keep.append(new)
            elif slots[0].live:
                # Behind the others: no reader may see it until it is where they are.
                await session.set_live(slots, False)
            kept = slots[0].generation if slots else 0
            stale += [slot for slot in its if not slot.live and slot.generation != kept]
        await session.want(group.views, keep)
        if changed:
            # Those that kept what is live stop here: it must stand still while its heir is built.
            newest = max([epoch, *(slot.epoch + 1 for slot in found)])
            live = [slot for slot in found if slot.live]
            await session.claim(live, epoch if shards == 1 else newest)
    for slot in {(slot.view, slot.generation): slot for slot in stale}.values():
        await session.drop(slot)
    return changed


async def prepare(
    log: EventLog,
    session: Session,
    group: Group,
    clock: Clock,
    *,
    epoch: int,
    report: Report | None = None,
    shards: int = 1,
) -> Slots:
    """Make one shard of all views of a group live, at one position, kept by `epoch`.

    It is the shard of `session`; where there is one alone, the generations are laid out first.
    What was begun is built up to where the live ones are, or were, and put in their place in one
    transaction when all shards of it are built, by whichever is the last. Raises `FencedOut` where
    a higher epoch keeps the shard, `ViewsNotReady` where it was not laid out for this release.
    """
    shard = session.shard or 0
    if shards == 1:
        await lay_out(session, group, 1, epoch)
    async with session.transaction():
        found = await session.prepare(group.views)
        _check_epoch(_of_shard(found, shard, shards), epoch)
        mine = {name: slots[shard] for name, slots in _chosen(found, group, shards).items()}
        await session.claim(list(mine.values()), epoch)
        target = _ends(found, shards)[shard]
    mine = {name: _kept(slot, epoch, live=slot.live) for name, slot in mine.items()}
    building = {name: slot for name, slot in mine.items() if not slot.live}
    if building:
        mine |= await _build(log, session, group, building, target, clock, report)
        while not await _put_in_place(session, group, shards, epoch):
            await clock.sleep(_OTHERS)
    return {name: _kept(slot, epoch, live=True) for name, slot in mine.items()}


async def _put_in_place(session: Session, group: Group, shards: int, epoch: int) -> bool:
    """Make live what is built, if all shards of it are; return whether everything is live."""
    async with session.transaction():
        found = await session.prepare(group.views)
        _check_epoch(_of_shard(found, session.shard or 0, shards), epoch)
        chosen = _chosen(found, group, shards)
        new = [slot for slots in chosen.values() for slot in slots if not slot.live]
        ends = _ends(found, shards)
        if any(slot.position < ends[slot.shard] for slot in new):
            return False
        views = {slot.view for slot in new}
        await session.set_live([slot for slot in found if slot.live and slot.view in views], False)
        await session.set_live(new, True)
    return True


async def _build(
    log: EventLog,
    session: Session,
    group: Group,
    building: Slots,
    target: Position,
    clock: Clock,
    report: Report | None,
) -> dict[str, Slot]:
    pace = Pace(building, clock, report)
    built = dict(building)
    while True:
        lowest = min(slot.position for slot in built.values())
        if lowest >= target:
            return built
        # Those that a killed engine left half built are joined where they are.
        cohort = {name: slot for name, slot in built.items() if slot.position == lowest}
        ahead = [slot.position for slot in built.values() if slot.position > lowest]
        keeper = await Keeper.open(session, group.only(cohort), cohort, clock)
        await catch_up(log, keeper, min([*ahead, target]), clock, pace)
        built |= keeper.slots


def _usable(slots: Collection[Slot], version: int, shards: int) -> list[Slot]:
    """Choose the generation to go on with: the live one, else the newest, of the right form.

    Returns its slots, one a shard in their order; none where there is no such generation.
    """
    right = [slot for slot in slots if slot.version == version and slot.shards == shards]
    chosen = max(right, key=lambda slot: (slot.live, slot.generation), default=None)
    return [slot for slot in right if chosen and slot.generation == chosen.generation]


def _chosen(found: Collection[Slot], group: Group, shards: int) -> dict[str, list[Slot]]:
    """Return the slots to go on with of every view; raises `ViewsNotReady` where there are none."""
    chosen: dict[str, list[Slot]] = {}
    for name, view in group.views.items():
        its = [slot for slot in found if slot.view == name]
        chosen[name] = _usable(its, view.version, shards)
        if len(chosen[name]) != shards or not all(slot.wanted for slot in chosen[name]):
            raise ViewsNotReady(
                name, f"it is not laid out in {shards} shards by version {view.version}"
            )
    return chosen


def _of_shard(found: Collection[Slot], shard: int, shards: int) -> list[Slot]:
    return [slot for slot in found if (slot.shard, slot.shards) == (shard, shards)]


def _ends(found: Collection[Slot], shards: int) -> list[Position]:
    """Return how far each shard has to be built: to where it is live, or any other shard was."""
    live = [slot for slot in found if slot.live]
    furthest = max((slot.position for slot in live), default=START)
    return [
        max(
            (slot.position for slot in live if (slot.shard, slot.shards) == (shard, shards)),
            default=furthest,
        )
        for shard in range(shards)
    ]


def _check_epoch(slots: Collection[Slot], epoch: int) -> None:
    for slot in slots:
        if slot.epoch > epoch:
            raise FencedOut(epoch, slot.position, f"epoch {slot.epoch} keeps the view {slot.view}")


def _kept(slot: Slot, epoch: int, *, live: bool) -> Slot:
    return replace(slot, epoch=epoch, live=live)
