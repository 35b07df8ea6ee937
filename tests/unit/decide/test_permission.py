"""Whether what differs may be corrected now: windows, confirmations, approvals, retries."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from engine.decide.decision import PLAN_ACTIONS, Decision, decide, findings
from engine.decide.permission import plan_digest, proposed
from engine.decide.situation import Situation, in_force
from engine.decide.state import SyncState, status
from events.catalog import Facts, ReconcileHeld, TargetSynced
from events.vocabulary import Health, Verb
from projections.corrections import CorrectionDocument, Ended
from projections.declared import Suspension
from projections.observed import ObservedDocument
from projections.sources import SourceDocument
from projections.targets import Approval, Pin, Request, Synced
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

MAP = ref_of("ConfigMap")
SECOND = 1_000_000
NIGHT = {"schedule": "0 22 * * *", "duration": "2h"}
"""NOW is 2023-11-14T22:13:20Z: it is open, for 1 h 46 min 40 s more."""
LEFT = 6400 * SECOND


def new(**changes: Any) -> Situation:
    """Return a situation in which a commit makes one object new."""
    return situation({MAP: "one"}, **changes)


def held(decision: Decision) -> ReconcileHeld:
    assert decision.plan is None
    (hold,) = [fact for fact in decision.facts if isinstance(fact, ReconcileHeld)]
    return hold


def asked(**how: Any) -> dict[str, Any]:
    """Return changes that make a situation one in which a sync was asked for, and looked at."""
    request = Request(8, "user:ada", "now", NOW, **how)
    source = SourceDocument(commit=COMMIT, resolved=COMMIT, requested=8)
    return {"target": target(request=request), "source": source}


# Windows.


def test_an_open_deny_window_holds_everything_until_its_end() -> None:
    decision = decide(new(application=application(windows=[{"kind": "deny", **NIGHT}])))
    hold = held(decision)
    assert hold.code == "window"
    assert "'0 22 * * *' for 2h" in hold.message
    assert decision.until == hold.until == NOW + LEFT


def test_a_deny_window_that_is_over_holds_nothing() -> None:
    made = new(application=application(windows=[{"kind": "deny", **NIGHT}]))
    assert decide(replace(made, now=NOW + LEFT - 1)).plan is None
    assert decide(replace(made, now=NOW + LEFT)).plan is not None


def test_where_there_are_allow_windows_one_of_them_has_to_be_open() -> None:
    noon = {"kind": "allow", "schedule": "0 12 * * *", "duration": "1h"}
    closed = decide(new(application=application(windows=[noon])))
    assert closed.until == NOW + (13 * 3600 + 46 * 60 + 40) * SECOND  # the next noon
    open_too = application(windows=[noon, {"kind": "allow", **NIGHT}])
    assert decide(new(application=open_too)).plan is not None


def test_a_window_is_meant_in_its_own_time_zone() -> None:
    # 22:13 in London in November is 23:13 in Berlin.
    berlin = {
        "kind": "deny",
        "schedule": "0 23 * * *",
        "duration": "1h",
        "timeZone": "Europe/Berlin",
    }
    assert decide(new(application=application(windows=[berlin]))).plan is None
    utc = {**berlin, "timeZone": "UTC"}
    assert decide(new(application=application(windows=[utc]))).plan is not None


def test_a_schedule_that_never_comes_stays_closed_and_is_not_waited_for() -> None:
    never = {"kind": "allow", "schedule": "0 0 29 2 1", "duration": "1h"}
    decision = decide(new(application=application(windows=[never])))
    assert held(decision).code == "window"
    assert decision.until > NOW  # a 29 February that is a Monday comes, late


def test_a_request_waits_for_the_window_unless_it_overrides_it() -> None:
    closed = application(windows=[{"kind": "deny", **NIGHT}])
    assert held(decide(new(application=closed, **asked()))).code == "window"
    plan = decide(new(application=closed, **asked(override=True))).plan
    assert plan is not None
    assert plan.cause == "request"


def test_nothing_to_do_is_nothing_to_hold() -> None:
    stored = Stored()
    made = situation(
        {MAP: "one"},
        [observed(stored, MAP)],
        stored,
        application=application(windows=[{"kind": "deny", **NIGHT}]),
    )
    assert any(isinstance(fact, TargetSynced) for fact in decide(made).facts)


# Suspensions that end by themselves.


def test_a_suspension_ends_when_it_was_said_to() -> None:
    suspended = target(suspended=Suspension("load test", "user:ada", 8, NOW, NOW + SECOND))
    decision = decide(new(target=suspended))
    assert held(decision).code == "suspended"
    assert decision.until == NOW + SECOND
    over = new(target=suspended, now=NOW + SECOND)
    assert decide(over).plan is not None
    assert status(over).sync is not SyncState.SUSPENDED


# Deletions.


def pruning(stored: Stored, number: int, kept: int = 1, **changes: Any) -> Situation:
    """Return a situation in which `number` objects are no longer desired, and `kept` are."""
    there: list[ObservedDocument] = [
        observed(stored, ref_of("ConfigMap", f"old-{index}")) for index in range(number)
    ]
    wanted = {ref_of("ConfigMap", f"kept-{index}"): "one" for index in range(kept)}
    there += [observed(stored, ref) for ref in wanted]
    return situation(wanted, there, stored, **changes)


def test_more_deletions_than_the_limit_wait_for_a_person() -> None:
    assert decide(pruning(Stored(), 1, kept=1)).plan is not None  # 50 %
    hold = held(decide(pruning(Stored(), 2, kept=1)))
    assert hold.code == "prune-limit"
    assert "2 objects are no longer desired" in hold.message
    plan = decide(pruning(Stored(), 2, kept=1, **asked(prune=True))).plan
    assert plan is not None
    assert [action.verb for action in plan.actions] == [Verb.DELETE, Verb.DELETE]
    assert held(decide(pruning(Stored(), 2, kept=1, **asked()))).code == "prune-limit"


def test_the_limit_is_the_application_s_own() -> None:
    assert decide(pruning(Stored(), 2, application=application(pruneLimit=100))).plan is not None
    none = application(pruneLimit=0)
    assert held(decide(pruning(Stored(), 1, kept=9, application=none))).code == "prune-limit"


def test_deletions_that_wait_do_not_hold_up_the_rest() -> None:
    made = pruning(Stored(), 3, application=application(confirmPrune=True))
    extra = situation({ref_of("ConfigMap", "kept-0"): "one", ref_of("Deployment"): "one"})
    made = replace(made, inventory=extra.inventory)
    plan = decide(made).plan
    assert plan is not None
    assert [(action.verb, action.ref.kind) for action in plan.actions] == [
        (Verb.APPLY, "Deployment")
    ]


def test_a_target_whose_deletions_wait_is_not_synced() -> None:
    decision = decide(pruning(Stored(), 1, kept=5, application=application(confirmPrune=True)))
    assert held(decision).code == "prune-confirm"
    assert not any(isinstance(fact, TargetSynced) for fact in decision.facts)


# Approvals.


def approved(made: Situation, plan: str) -> Situation:
    approval = Approval(plan, 9, "user:grace", "looked at", NOW)
    return replace(made, target=replace(made.target, approval=approval))


def digest(made: Situation) -> str:
    found = findings(made)
    assert found is not None
    return plan_digest(made, found, proposed(found))


def test_an_approved_plan_is_carried_out_though_syncs_are_manual() -> None:
    made = new(application=application(mode="manual"))
    assert held(decide(made)).code == "manual"
    plan = decide(approved(made, digest(made))).plan
    assert plan is not None
    assert (plan.cause, plan.approval) == ("approval", 9)


def test_an_approval_covers_the_deletions_that_were_looked_at() -> None:
    made = pruning(Stored(), 4, application=application(mode="manual", confirmPrune=True))
    plan = decide(approved(made, digest(made))).plan
    assert plan is not None
    assert len(plan.actions) == 4


def test_an_approval_covers_what_one_plan_does_not_hold() -> None:
    wanted = {ref_of("ConfigMap", f"c{n:04}"): "one" for n in range(PLAN_ACTIONS + 1)}
    made = situation(wanted, application=application(mode="manual"))
    made = approved(made, digest(made))
    plan = decide(made).plan
    assert plan is not None
    assert plan.remaining == 1
    stored = Stored()
    there = [observed(stored, action.ref) for action in plan.actions]
    result = Ended(
        10, 11, NOW, COMMIT, plan.cause, PLAN_ACTIONS, plan.facts, approval=9, rest=plan.rest
    )
    made = replace(
        made,
        observed={doc.ref.identity: doc for doc in there},
        bodies=stored.bodies,
        corrections=CorrectionDocument(last=result),
    )
    following = decide(made).plan
    assert following is not None
    assert [action.ref.name for action in following.actions] == [f"c{PLAN_ACTIONS:04}"]
    assert (following.cause, following.approval) == ("approval", 9)
    changed = replace(made, corrections=CorrectionDocument(last=replace(result, rest="other")))
    assert held(decide(changed)).code == "manual"


def test_an_approval_expires_when_the_facts_change() -> None:
    stored = Stored()
    manual = application(mode="manual")
    made = situation(
        {MAP: "two"}, [observed(stored, MAP, applied="one")], stored, application=manual
    )
    plan = digest(made)
    assert decide(approved(made, plan)).plan is not None
    moved = situation(
        {MAP: "two"},
        [observed(stored, MAP, applied="one", live="three")],
        stored,
        application=manual,
    )
    assert held(decide(approved(moved, plan))).code == "manual"
    other = replace(made, desired=replace(made.desired, commit=OTHER_COMMIT))
    assert held(decide(approved(other, plan))).code == "manual"


def test_a_status_that_moves_leaves_an_approval_as_it_is() -> None:
    stored = Stored()
    document = observed(stored, MAP, applied="one")
    made = situation({MAP: "two"}, [document], stored)
    later = situation({MAP: "two"}, [replace(document, resource_version="99")], stored)
    assert digest(made) == digest(later)


def test_an_approval_lasts_while_objects_merely_fare_otherwise() -> None:
    # A wave that was approved can make objects of the next ones unwell, and they heal again.
    stored = Stored()
    manual = application(mode="manual")
    document = observed(stored, MAP, applied="one")
    made = situation({MAP: "two"}, [document], stored, application=manual)
    plan = digest(made)
    unwell = replace(
        document, health=Health.DEGRADED, message="x", digest="seen:one:unwell", seen=8
    )
    later = situation({MAP: "two"}, [unwell], stored, application=manual)
    assert digest(later) == plan
    assert decide(approved(later, plan)).plan is not None
    # What was not applied before, or is to be deleted, is just what was looked at.
    for wanted, there in (
        ({MAP: "two"}, observed(stored, MAP, applied=None)),
        ({}, observed(stored, MAP)),
    ):
        before = situation(wanted, [there], stored, application=manual)
        after = situation(wanted, [replace(there, digest="other")], stored, application=manual)
        assert digest(before) != digest(after)


# Rollbacks.


def pinned(made: Situation) -> Situation:
    pin = Pin(OTHER_COMMIT, 3, "older", 1, 9, "user:ada", "incident 7", NOW)
    desired = in_force(made.desired, pin)
    return replace(made, target=replace(made.target, pin=pin), desired=desired)


def test_a_rolled_back_target_is_brought_to_its_commit_and_says_so() -> None:
    made = pinned(new())
    plan = decide(made).plan
    assert plan is not None
    assert (plan.cause, plan.commit, plan.facts.desired) == ("rollback", OTHER_COMMIT, 3)
    synced = Synced(OTHER_COMMIT, 3, "older", 10, NOW)
    stored = Stored()
    there = pinned(situation({MAP: "one"}, [observed(stored, MAP)], stored))
    there = replace(there, target=replace(there.target, synced=synced))
    shown = status(there)
    assert (shown.sync, shown.revision, shown.desired_revision, shown.code) == (
        SyncState.SYNCED,
        OTHER_COMMIT,
        OTHER_COMMIT,
        "rolled-back",
    )


# Retries.


def failed(failures: int, **changes: Any) -> CorrectionDocument:
    last = Ended(1, 7, NOW, COMMIT, "commit", 1, Facts(1), "invalid", "no such field", NOW)
    return CorrectionDocument(last=replace(last, **changes), failures=failures)


@pytest.mark.parametrize(("failures", "goes_on"), [(2, True), (3, False), (4, False)])
def test_retries_end_at_the_limit(failures: int, goes_on: bool) -> None:
    limited = application(retry={"limit": 3})
    decision = decide(new(application=limited, corrections=failed(failures)))
    if goes_on:
        assert decision.plan is not None
        assert decision.plan.attempt == failures + 1
    else:
        hold = held(decision)
        assert hold.code == "retries-exhausted"
        assert "no such field" in hold.message


def test_news_starts_the_count_afresh() -> None:
    limited = application(retry={"limit": 3})
    for changes in (
        {"desired": replace(new().desired, position=8)},
        asked(),
        {"application": application(retry={"limit": 3}, position=8)},
    ):
        made = new(**{"application": limited, "corrections": failed(3), **changes})
        plan = decide(made).plan
        assert plan is not None
        assert plan.attempt == 1
