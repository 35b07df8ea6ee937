"""Which hooks run, under which names, and what becomes of those of earlier syncs."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from engine.decide.decision import decide
from engine.decide.situation import Situation
from events.catalog import CorrectionPlanned, HookEnded, ReconcileHeld
from events.vocabulary import Desired, Health, Verb
from projections.corrections import CorrectionDocument, Hook
from projections.targets import Request, Synced
from tests.deciding import (
    COMMIT,
    NOW,
    Stored,
    declared_ref,
    observed,
    ref_of,
    situation,
    target,
)

SYNCED = Synced(COMMIT, 1, "inventory", 2, NOW)
OLD = ref_of("Job", "migrate-00000000")


def hook(*phases: str, name: str = "migrate") -> Desired:
    ref = declared_ref(ref_of("Job", name))
    return Desired(ref, "desired:one", hooks=phases, cleanup=("before-hook-creation",))


def made(*inventory: Desired, **changes: Any) -> Situation:
    return situation({}, (), Stored(), inventory=inventory, **changes)


def planned(made: Situation) -> list[tuple[Verb, str, str]]:
    plan = decide(made).plan
    actions = plan.actions if isinstance(plan, CorrectionPlanned) else ()
    return [(a.verb, a.ref.name.rpartition("-")[0], a.hook) for a in actions]


def left(health: Health, **changes: Any) -> Situation:
    """An earlier sync has left a Job; this one is to run its own."""
    stored = Stored()
    corrections = CorrectionDocument(run=1, hooks=(Hook(OLD, "pre-sync", 1, applied=True),))
    return situation(
        {},
        [observed(stored, OLD, health=health, message="it says so")],
        stored,
        inventory=(hook("pre-sync"),),
        corrections=corrections,
        **changes,
    )


def test_helms_hooks_know_an_installation_from_an_upgrade() -> None:
    both = hook("pre-install", name="first"), hook("pre-upgrade", name="later")
    assert planned(made(*both)) == [(Verb.APPLY, "first", "pre-sync")]
    upgraded = made(*both, target=target(synced=SYNCED))
    assert planned(upgraded) == [(Verb.APPLY, "later", "pre-sync")]


def test_a_long_name_is_cut_so_that_it_fits_into_a_label() -> None:
    plan = decide(made(hook("sync", name="a" * 52 + "." * 3 + "b" * 60))).plan
    assert plan is not None
    (action,) = plan.actions
    assert len(action.ref.name) <= 63
    assert "." not in action.ref.name


def test_what_an_earlier_sync_left_goes_when_the_hook_runs_again() -> None:
    facts = decide(left(Health.HEALTHY)).facts
    (ended,) = [fact for fact in facts if isinstance(fact, HookEnded)]
    assert (ended.run, ended.succeeded, ended.message) == (1, True, "it says so")
    assert planned(left(Health.HEALTHY)) == [
        (Verb.APPLY, "migrate", "pre-sync"),
        (Verb.DELETE, "migrate", "pre-sync"),
    ]


def test_a_hook_of_an_earlier_sync_that_still_runs_is_waited_for() -> None:
    still = left(Health.PROGRESSING)
    assert decide(still).plan is None
    (hold,) = [fact for fact in decide(still).facts if isinstance(fact, ReconcileHeld)]
    assert hold.code == "hook-running"
    assert OLD.name in hold.message


def test_a_persons_sync_does_not_wait_for_it_and_takes_it_away() -> None:
    asked = Request(8, "user:ada", "now", NOW)
    still = left(Health.PROGRESSING, target=target(request=asked))
    source = replace(still.source, requested=9)
    assert planned(replace(still, source=source)) == [
        (Verb.APPLY, "migrate", "pre-sync"),
        (Verb.DELETE, "migrate", "pre-sync"),
    ]


def test_a_hook_that_somebody_deleted_before_it_ended_has_failed() -> None:
    first = made(hook("pre-sync"))
    plan = decide(first).plan
    assert plan is not None
    run = Hook(plan.actions[0].ref, "pre-sync", plan.run, applied=True)
    gone = replace(first, corrections=CorrectionDocument(run=plan.run, hooks=(run,)))
    ended, *_ = (fact for fact in decide(gone).facts if isinstance(fact, HookEnded))
    assert not ended.succeeded
    (hold,) = [fact for fact in decide(gone).facts if isinstance(fact, ReconcileHeld)]
    assert hold.code == "hook-failed"
    assert "deleted before it was seen to end" in hold.message
