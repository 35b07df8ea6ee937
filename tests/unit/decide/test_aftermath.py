"""What becomes of a sync that does not make a target well."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from engine.decide.decision import Decision, decide
from engine.decide.situation import Situation
from events.catalog import HealthTimedOut, RolledBack
from events.vocabulary import Health
from projections.targets import Pin, Synced
from tests.deciding import (
    COMMIT,
    NOW,
    OTHER_COMMIT,
    Stored,
    application,
    observed,
    ref_of,
    situation,
    target,
)

MINUTE = 60_000_000
WELL = Synced(OTHER_COMMIT, 2, "earlier", 3, NOW - 60 * MINUTE, 7)
WEB = ref_of("Deployment")


def after(minutes: int, health: Health = Health.DEGRADED, **changes: Any) -> Situation:
    """A target that was synced so many minutes ago, and has five to be healthy."""
    stored = Stored()
    synced = Synced(COMMIT, 4, "inventory", 6, NOW - minutes * MINUTE)
    known = target(
        **{"synced": synced, "health": health, "health_message": "", "well": WELL, **changes}
    )
    there = [observed(stored, WEB, health=health)]
    app = application(healthTimeout="5m", onDegraded="rollback")
    return situation({WEB: "one"}, there, stored, target=known, application=app)


def told(decision: Decision) -> tuple[int, int]:
    """Count what is said of time-outs and rollbacks."""
    facts = decision.facts
    late = sum(isinstance(fact, HealthTimedOut) for fact in facts)
    return late, sum(isinstance(fact, RolledBack) for fact in facts)


def test_there_is_time_to_get_well() -> None:
    early = decide(after(4))
    assert told(early) == (0, 0)
    assert early.until == NOW + MINUTE


def test_what_is_unwell_after_that_goes_back_to_what_was_well() -> None:
    late = decide(after(5))
    assert told(late) == (1, 1)
    (back,) = [fact for fact in late.facts if isinstance(fact, RolledBack)]
    assert (back.commit, back.desired, back.objects, back.count) == (OTHER_COMMIT, 2, "earlier", 7)
    assert back.instead == 4
    assert "degraded 5m after the sync to c0ffee00c0ff" in back.reason


def test_what_is_well_or_was_once_since_is_left_alone() -> None:
    assert told(decide(after(9, Health.HEALTHY))) == (0, 0)
    assert told(decide(after(9, Health.SUSPENDED))) == (0, 0)
    assert told(decide(after(9, well=replace(WELL, position=6)))) == (0, 0)


def test_nothing_goes_back_twice_nor_from_where_it_went_back_to() -> None:
    assert told(decide(after(9, timed_out=8))) == (0, 0)
    assert told(decide(after(9, gone_back_from=4))) == (1, 0)
    assert told(decide(after(9, well=None))) == (1, 0)
    assert told(decide(after(9, well=replace(WELL, desired=4)))) == (1, 0)
    pin = Pin(COMMIT, 4, "inventory", 1, 5, "engine:reconciler", "degraded", NOW)
    assert told(decide(after(9, pin=pin))) == (1, 0)


def test_without_the_policy_it_is_only_said() -> None:
    made = replace(after(9), application=application(healthTimeout="5m"))
    assert told(decide(made)) == (1, 0)
    assert told(decide(replace(made, application=application()))) == (0, 0)
