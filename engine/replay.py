"""Makes recorded decisions again, on the facts that they were made on, and compares.

A decision is what the reconciler appended to a target's stream in one go: its facts carry the
position at which the views were read (`seen`), and the time. The views as of that position give the
same situation, and `decide` has to give the same facts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from engine.decide.decision import decide
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
from events.codec import fact_of
from events.event import Event, Micros, Position
from events.log import BodyErased, EventLog
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


class Recorded(Struct, frozen=True):
    """A decision as the log has it: neighbours in a stream, made at one time on one position."""

    seen: Position
    at: Micros
    events: tuple[Event, ...]
    facts: tuple[Fact, ...]


class Replayed(Struct, frozen=True):
    """A decision that was made again. `now` is what it comes to today; `problem` why it cannot be.

    `same` is None where it could not be made again.
    """

    recorded: Recorded
    now: tuple[Fact, ...] = ()
    same: bool | None = None
    problem: str = ""


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
    return [
        Recorded(
            Position(_seen(group[0][1])),
            group[0][0].occurred_at,
            tuple(event for event, _ in group),
            tuple(fact for _, fact in group),
        )
        for group in groups
    ]


async def replay(
    log: EventLog, views: Views, target: TargetId, recorded: Sequence[Recorded]
) -> AsyncIterator[Replayed]:
    """Make decisions about one target again, one after the other. Raises what the log raises."""
    inventories = Inventories(log)
    for decision in recorded:
        if not decision.seen:
            problem = "an earlier release did not note what it was made on"
            yield Replayed(decision, problem=problem)
            continue
        async with as_of(views, log, decision.seen) as reader:
            try:
                situation = await read_situation(
                    reader, log, target, decision.at, inventories=inventories
                )
            except BodyErased as error:
                yield Replayed(decision, problem=str(error))
                continue
        if situation is None:
            yield Replayed(decision, same=False, problem="there was no such target then")
            continue
        now = decide(situation).facts
        is_same = now == _bare(decision.facts)
        if not is_same and lacks_bodies(situation):
            yield Replayed(decision, now, problem="a body that it was made on was redacted since")
            continue
        yield Replayed(decision, now, same=is_same)


def _bare(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """Return facts as `decide` gives them, without the position that is noted afterwards."""
    return tuple(replace(fact, seen=0) if hasattr(fact, "seen") else fact for fact in facts)


def _seen(fact: Fact) -> int:
    if isinstance(fact, CorrectionPlanned):
        return fact.facts.seen
    return int(getattr(fact, "seen", 0))


def _goes_on(last: tuple[Event, Fact], event: Event, fact: Fact) -> bool:
    before, said = last
    return (
        event.version == before.version + 1
        and event.occurred_at == before.occurred_at
        and _seen(fact) == _seen(said)
    )
