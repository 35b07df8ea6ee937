"""Why: what is said of a target agrees with what is decided about it."""

from __future__ import annotations

from hypothesis import given

from engine.decide.decision import decide, findings
from engine.decide.situation import Situation
from engine.decide.state import SyncState
from engine.decide.why import why
from events.catalog import ReconcileHeld
from events.vocabulary import Health
from tests.property.test_decide import situations

OUTCOMES = {"difference", "synced", "health", "last-attempt", "object", "render"}
"""Guards that need not pass for a plan to be made: what it is about, and what became of others."""


@given(situations())
def test_where_a_plan_is_made_nothing_stood_in_its_way(made: Situation) -> None:
    if decide(made).plan is None or not made.target.assigned:
        return
    told = why(made, findings(made))
    blocking = [guard for guard in told.guards if not guard.passes and guard.name not in OUTCOMES]
    assert not blocking


@given(situations())
def test_what_is_held_stands_at_a_guard(made: Situation) -> None:
    held = [fact for fact in decide(made).facts if isinstance(fact, ReconcileHeld)]
    soft = {"protected", "prune-off"}
    if held and held[0].code not in soft:
        told = why(made, findings(made))
        assert told.stands_at is not None


@given(situations())
def test_what_passes_every_guard_is_synced_and_well(made: Situation) -> None:
    told = why(made, findings(made))
    if told.stands_at is None:
        assert told.status.sync is SyncState.SYNCED
        assert told.status.health in (Health.HEALTHY, Health.SUSPENDED)


@given(situations())
def test_every_guard_says_something(made: Situation) -> None:
    for guard in why(made, findings(made)).guards:
        assert guard.message
