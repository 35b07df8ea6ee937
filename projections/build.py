"""Bringing generations of views up to where the live ones are: at start-up, and for a rebuild."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

from msgspec import Struct

from events.event import START, Event, Position
from events.log import EventLog, LogCorrupt
from projections.batch import Group
from projections.clock import Clock
from projections.errors import FencedOut
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


async def prepare(
    log: EventLog,
    session: Session,
    group: Group,
    clock: Clock,
    *,
    epoch: int,
    report: Report | None = None,
) -> Slots:
    """Make all views of a group live, of this release's versions, at one position, kept by `epoch`.

    A view that is new, behind, or of another version is built beside what there is and put in its
    place with the others in one transaction. Raises `FencedOut` where a higher epoch keeps them.
    """
    async with session.transaction():
        found = await session.prepare(group.views)
        _check_epoch(found, epoch)
        target = max((slot.position for slot in found if slot.live), default=START)
        building: dict[str, Slot] = {}
        keeping: dict[str, Slot] = {}
        for name, view in group.views.items():
            slot = _usable([slot for slot in found if slot.view == name], view.version)
            if slot and slot.live and slot.position == target:
                keeping[name] = slot
                continue
            if slot is None:
                number = max((s.generation for s in found if s.view == name), default=0) + 1
                slot = await session.begin_generation(name, number, view.version, epoch)
            elif slot.live:
                # Behind the others: no reader may see it until it is where they are.
                await session.set_live({slot: False}, epoch)
            building[name] = _kept(slot, epoch, live=False)
        await session.claim([*keeping.values(), *building.values()], epoch)
    keeping = {name: _kept(slot, epoch, live=True) for name, slot in keeping.items()}
    if not building:
        return keeping
    for slot in found:
        chosen = building.get(slot.view)
        if chosen and not slot.live and slot.generation != chosen.generation:
            await session.drop(slot)
    built = await _build(log, session, group, building, target, clock, report)
    async with session.transaction():
        now = await session.prepare(group.views)
        _check_epoch(now, epoch)
        swap = {slot: False for slot in now if slot.live and slot.view in built}
        await session.set_live(swap | dict.fromkeys(built.values(), True), epoch)
    return keeping | {name: _kept(slot, epoch, live=True) for name, slot in built.items()}


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


def _usable(slots: Collection[Slot], version: int) -> Slot | None:
    """Choose the generation to go on with: the live one, else the newest, of the right version."""
    right = [slot for slot in slots if slot.version == version]
    return max(right, key=lambda slot: (slot.live, slot.generation), default=None)


def _check_epoch(slots: Collection[Slot], epoch: int) -> None:
    for slot in slots:
        if slot.epoch > epoch:
            raise FencedOut(epoch, slot.position, f"epoch {slot.epoch} keeps the view {slot.view}")


def _kept(slot: Slot, epoch: int, *, live: bool) -> Slot:
    return Slot(slot.view, slot.generation, slot.version, live, slot.position, epoch)
