"""One step of the fold: a batch of events into some generations of views that move together."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from msgspec.structs import replace

from events.catalog import ProjectionParked
from events.codec import fact_of
from events.event import START, Actor, Event, Micros, NewEvent, Position, StreamName, stream
from events.log import EventLog, IdReused, LogCorrupt
from projections.batch import Group, Parked
from projections.clock import Clock
from projections.errors import FencedOut
from projections.folding import Folding
from projections.shards import part_of
from projections.store import Session, Slot, Slots, Untold

ACTOR = Actor("engine:views")
"""Who says that a fold failed."""
BUFFER = 8 * 2**20
"""Bytes that are folded of the past before they are stored; in memory they take about the double.

The more it is, the fewer times a document is written on the way; but the server ends a transaction
that idles, as one does while a machine has no time to encode what is stored.
"""


class Keeper:
    """Moves one slot of each view of a group, all from one position to the next.

    Build it with `open`. Every method may raise `ViewsUnavailable`.
    """

    def __init__(
        self, session: Session, group: Group, slots: Slots, clock: Clock, *, any_parked: bool
    ) -> None:
        self._session, self._group, self._clock = session, group, clock
        self._slots, self._any_parked = dict(slots), any_parked
        self._news = any_parked
        self._folding, self._folded = Folding(group), self.position

    @classmethod
    async def open(cls, session: Session, group: Group, slots: Slots, clock: Clock) -> Keeper:
        """Take up the views where these slots stand."""
        some = list(slots.values())
        return cls(session, group, slots, clock, any_parked=await session.any_parked(some))

    @property
    def slots(self) -> Slots:
        """Where the views stand."""
        return self._slots

    @property
    def position(self) -> Position:
        """The position that all views have reached, as stored."""
        return next(iter(self._slots.values())).position

    @property
    def folded(self) -> Position:
        """The position up to which events are folded, though not all may be stored yet."""
        return self._folded

    async def advance(self, events: Sequence[Event]) -> None:
        """Fold the events that follow the position, and store what comes of it, all at once.

        Raises `FencedOut` where somebody else moved the views, `LogCorrupt` on a hole.
        """
        await self.store()
        await self.fold(events)
        await self.store()
        while self.position < events[-1].position:
            await self.fold(events)
            await self.store()

    async def fold(self, events: Sequence[Event]) -> bool:
        """Fold the events that follow `folded`; return whether there is enough of it to `store`.

        Raises what `advance` raises.
        """
        for place, event in enumerate(events, start=self._folded + 1):
            if event.position != place:
                raise LogCorrupt(
                    f"after position {place - 1} the log goes on at {event.position}: a hole; "
                    "run `trueup fsck`"
                )
        plan = self._group.plan(events)
        shards = next(iter(self._slots.values())).shards
        if shards > 1 and self._session.shard is not None:
            subjects = frozenset(self._group.subjects)
            plan = part_of(plan, self._session.shard, shards, subjects)
        unread = self._folding.unread(plan)
        stored, parked = await self._session.load(
            self._slots, plan, unread, any_parked=self._any_parked
        )
        self._folding.step(plan, stored, parked)
        self._folded = events[-1].position
        return self._folding.size >= BUFFER

    async def store(self) -> None:
        """Store what was folded, all at once.

        Where a rebuild put another generation in the place of one, nothing is, and it has to be
        folded again: `folded` goes back to `position`. Raises `FencedOut` where somebody else
        moved the views.
        """
        if self._folded == self.position:
            return
        folding, to = self._folding, self._folded
        self._folding, self._folded = Folding(self._group), self.position
        changes = folding.changes()
        event_ids = [self._clock.event_id() for _ in changes.parked]
        if not await self._session.save(self._slots, to, changes, event_ids):
            await self._look_again()
            return
        self._slots = {name: _at(slot, to) for name, slot in self._slots.items()}
        self._folded = to
        if changes.parked:
            self._any_parked = self._news = True

    async def tell(self, log: EventLog) -> None:
        """Say in the log what was parked and is not said there yet.

        Raises `events.log.LogError`; what was not said is said at the next call.
        """
        while self._news:
            untold = await self._session.untold(list(self._slots.values()))
            if not untold:
                self._news = False
                return
            # The fold of a ProjectionParked can fail too: to say that as well might never end.
            ours = {
                event.position
                for event in await log.read_at([each.parked.position for each in untold])
                if event.type == ProjectionParked.__name__
            }
            say = [each for each in untold if each.parked.position not in ours]
            if say:
                try:
                    await log.append([self._event(each) for each in say])
                except IdReused:
                    await self._renew(log, say)
                    continue
            await self._session.told([each.event_id for each in untold])

    async def _renew(self, log: EventLog, untold: Sequence[Untold]) -> None:
        """Give new ids to what waited so long that the log no longer knows the old ones."""
        for each in untold:
            parked = each.parked
            said = await log.read(START, types=[ProjectionParked.__name__], stream=_stream(parked))
            facts = [(event.causation, fact_of(event)) for event in said]
            if (parked.position, _fact(parked)) in facts:
                await self._session.told([each.event_id])
            else:
                await self._session.renew(each.event_id, self._clock.event_id())

    @staticmethod
    def _event(untold: Untold) -> NewEvent:
        parked = untold.parked
        # The id has the time at which it was parked, so that a second attempt says the very same.
        parked_at = Micros((UUID(untold.event_id).int >> 80) * 1000)
        return NewEvent(
            event_id=untold.event_id,
            stream=_stream(parked),
            fact=_fact(parked),
            actor=ACTOR,
            occurred_at=parked_at,
            causation=parked.position,
        )

    async def _look_again(self) -> None:
        position, mine = self.position, next(iter(self._slots.values()))
        found: dict[str, Slot] = {}
        for slot in await self._session.slots(self._slots):
            ours = self._slots[slot.view]
            if slot.live if ours.live else slot.generation == ours.generation:
                found[slot.view] = replace(slot, shard=ours.shard)
        for name, ours in self._slots.items():
            why, now = "", found.get(name)
            if now is None or now.live != ours.live:
                why = f"generation {ours.generation} of the view {name} is gone"
            elif now.epoch != mine.epoch:
                why = f"epoch {now.epoch} took over the view {name}"
            elif now.position != position:
                why = f"the view {name} is at {now.position} already"
            elif (now.version, now.shards) != (ours.version, ours.shards):
                why = f"the view {name} is kept by version {now.version} in {now.shards} shards now"
            if why:
                raise FencedOut(mine.epoch, position, why)
        if found == self._slots:
            return  # the same after all: a swap that was rolled back, so try again
        self._slots = found
        self._any_parked = await self._session.any_parked(list(found.values()))


def _stream(parked: Parked) -> StreamName:
    return stream("view", "default", parked.view)


def _fact(parked: Parked) -> ProjectionParked:
    return ProjectionParked(parked.view, parked.name, parked.position, parked.message)


def _at(slot: Slot, position: Position) -> Slot:
    return replace(slot, position=position)
