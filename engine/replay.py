"""Makes recorded decisions again, on the facts that they were made on, and compares.

A decision is what the reconciler appended to a target's stream in one go: its facts carry the
position at which the views were read (`seen`), and the time. The views as of that position give the
same situation, and `decide` has to give the same facts, in the fields that the release knew which
recorded them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from engine.decide.again import Discrepancy, discrepancies
from engine.decide.decision import decide
from engine.decide.situation import Situation
from engine.situations import Inventories, lacks_bodies, read_situation
from events.catalog import (
    CorrectionPlanned,
    DriftDetected,
    DriftResolved,
    Fact,
    HealthChanged,
    HealthTimedOut,
    HoldLifted,
    HookEnded,
    ReconcileHeld,
    RolledBack,
    TargetSynced,
)
from events.codec import UnknownFact, fact_of
from events.event import START, Event, Micros, Position
from events.log import BodyErased, EventLog
from events.shapes import unknown_to
from projections.asof import as_of
from projections.fold import TargetId
from projections.views import Views

DECIDED = (
    CorrectionPlanned,
    DriftDetected,
    DriftResolved,
    HealthChanged,
    HoldLifted,
    HealthTimedOut,
    HookEnded,
    ReconcileHeld,
    RolledBack,
    TargetSynced,
)
"""What `decide` can say."""
_TYPES = frozenset(fact.__name__ for fact in DECIDED)
_TRIED = 50
"""How many positions are tried for a decision that did not note which one it was made on."""


class Recorded(Struct, frozen=True):
    """A decision as the log has it: neighbours in a stream, made at one time on one position.

    `seen` is 0 where the release that made it did not note that position; it comes after that of
    the decision before it, `after`.
    """

    seen: Position
    at: Micros
    events: tuple[Event, ...]
    facts: tuple[Fact, ...]
    after: Position = START

    @property
    def before(self) -> Position:
        """The last position that it can have been made on."""
        return Position(self.events[0].position - 1)


class Replayed(Struct, frozen=True):
    """A decision that was made again. `now` is what it comes to today; `problem` why it cannot be.

    `same` is None where it could not be made again; `differing` says in which fields it is not.
    """

    recorded: Recorded
    now: tuple[Fact, ...] = ()
    same: bool | None = None
    problem: str = ""
    differing: tuple[Discrepancy, ...] = ()


def decisions(events: Sequence[Event]) -> list[Recorded]:
    """Group the events of one target's stream into decisions; others are left out."""
    groups: list[list[tuple[Event, Fact]]] = []
    for event in events:
        if event.type not in _TYPES:
            continue
        fact = fact_of(event)
        if isinstance(fact, RolledBack) and not fact.instead:
            continue  # a person's
        last = groups[-1][-1] if groups else None
        if last and _goes_on(last, event, fact):
            groups[-1].append((event, fact))
        else:
            groups.append([(event, fact)])
    recorded: list[Recorded] = []
    for group in groups:
        seen = Position(max(_seen(fact) for _, fact in group))
        after = Position(recorded[-1].events[-1].position - 1) if recorded else START
        made, facts = tuple(event for event, _ in group), tuple(fact for _, fact in group)
        recorded.append(Recorded(seen, group[0][0].occurred_at, made, facts, after))
    return recorded


async def replay(
    log: EventLog, views: Views, target: TargetId, recorded: Sequence[Recorded]
) -> AsyncIterator[Replayed]:
    """Make decisions about one target again, one after the other. Raises what the log raises."""
    again = _Again(log, views, target)
    for decision in recorded:
        if any(isinstance(fact, UnknownFact) for fact in decision.facts):
            problem = "a later release recorded it: make it again with that one"
            yield Replayed(decision, problem=problem)
        elif decision.seen:
            yield await again.made(decision)
        else:
            yield await again.searched(decision)


class _Again:
    """Makes decisions about one target again."""

    def __init__(self, log: EventLog, views: Views, target: TargetId) -> None:
        self._log, self._views, self._target = log, views, target
        self._inventories = Inventories(log)

    async def made(self, decision: Recorded) -> Replayed:
        """Make a decision again on the position that it notes."""
        try:
            situation = await self._situation(decision)
        except BodyErased as error:
            return Replayed(decision, problem=str(error))
        if situation is None:
            return Replayed(decision, same=False, problem="there was no such target then")
        now = decide(situation).facts
        schemas = [event.schema for event in decision.events]
        differing = discrepancies(decision.facts, schemas, now)
        if differing and lacks_bodies(situation):
            return Replayed(decision, now, problem="a body that it was made on was redacted since")
        return Replayed(decision, now, same=not differing, differing=differing)

    async def searched(self, decision: Recorded) -> Replayed:
        """Look for a position at which a decision comes out the same that does not note its own.

        The newest ones first: a decision is appended soon after its views were read.
        """
        first = max(decision.after, decision.before - _TRIED) + 1
        for position in range(decision.before, first - 1, -1):
            again = await self.made(replace(decision, seen=Position(position)))
            if again.same:
                return again
        problem = "an earlier release did not note what it was made on"
        return Replayed(decision, problem=f"{problem}, and it comes out so at no position near it")

    async def _situation(self, decision: Recorded) -> Situation | None:
        async with as_of(self._views, self._log, decision.seen) as reader:
            return await read_situation(
                reader, self._log, self._target, decision.at, inventories=self._inventories
            )


def _seen(fact: Fact) -> int:
    if isinstance(fact, CorrectionPlanned):
        return fact.facts.seen
    return int(getattr(fact, "seen", 0))


def _goes_on(last: tuple[Event, Fact], event: Event, fact: Fact) -> bool:
    before, said = last
    is_neighbour = event.version == before.version + 1 and event.occurred_at == before.occurred_at
    is_silent = _is_silent(event, fact) or _is_silent(before, said)
    return is_neighbour and (is_silent or _seen(fact) == _seen(said))


def _is_silent(event: Event, fact: Fact) -> bool:
    """Whether the release that recorded a fact did not note yet what it was decided on."""
    return not _seen(fact) and "seen" in unknown_to(event.type, event.schema)
