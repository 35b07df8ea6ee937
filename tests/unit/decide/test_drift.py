"""How drift is met, case by case: what is ignored, accepted, waited for, and who is at war."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.decide.compare import compare
from engine.decide.decision import decide
from engine.decide.situation import Situation
from events.catalog import (
    AcceptanceEnded,
    CorrectionApplied,
    DriftAccepted,
    DriftDetected,
    DriftResolved,
    Fact,
    ReconcileHeld,
    SyncRequested,
)
from events.vocabulary import DifferenceKind, Outcome, Presence, Result, Verb
from projections.drift import DRIFT, SECOND, WAR_ROUNDS, calm_after, wait_after
from projections.targets import Adoption
from tests.deciding import (
    NOW,
    TARGET,
    Stored,
    application,
    event,
    folded,
    live_body,
    observed,
    ref_of,
)
from tests.deciding import situation as situation_of

MAP = ref_of("ConfigMap")


def drifted(now: int = NOW, live: str = "two", **spec: Any) -> Situation:
    stored = Stored()
    declared = application()
    declared = replace(declared, spec={**declared.spec, **spec})
    there = observed(stored, MAP, live=live)
    return replace(situation_of({MAP: "one"}, [there], stored), application=declared, now=now)


def after(made: Situation, *facts: Fact) -> Situation:
    return folded(made, facts)


def codes(facts: Sequence[Fact]) -> list[str]:
    return [fact.code for fact in facts if isinstance(fact, ReconcileHeld)]


def accepted(made: Situation, until: int) -> Situation:
    opened = after(made, *(f for f in decide(made).facts if isinstance(f, DriftDetected)))
    case = opened.drift.open
    assert case is not None
    return after(opened, DriftAccepted(case.case, case.differences, "eve may", until))


@pytest.mark.parametrize("path", [".data.key", ".data", "/data/key", "/data", ".data.key[*]"])
def test_a_field_is_ignored_at_or_below_its_path(path: str) -> None:
    found = compare(drifted(ignoreDifferences=[{"paths": [path]}]))
    is_ignored = path != ".data.key[*]"
    assert (found.repairs == []) is is_ignored
    assert [d.kind for d in found.ignored] == ([DifferenceKind.IGNORED] if is_ignored else [])


@pytest.mark.parametrize(
    "rule",
    [{"kind": "Secret"}, {"name": "b"}, {"namespace": "x"}, {"group": "apps"}, {"managers": ["m"]}],
)
def test_a_rule_that_is_about_something_else_ignores_nothing(rule: dict[str, Any]) -> None:
    found = compare(drifted(ignoreDifferences=[{"paths": [".data.key"], **rule}]))
    assert len(found.repairs) == 1


def test_a_name_that_only_begins_like_a_path_is_not_below_it() -> None:
    found = compare(drifted(ignoreDifferences=[{"paths": [".data.ke"]}, {"paths": ["/data/ke"]}]))
    assert len(found.repairs) == 1


def test_what_was_accepted_is_left_until_its_time_and_drift_again_after_it() -> None:
    made = accepted(drifted(), NOW + SECOND)
    decision = decide(made)
    (resolved,) = (fact for fact in decision.facts if isinstance(fact, DriftResolved))
    assert (resolved.how, decision.plan, decision.until) == ("accepted", None, NOW + SECOND)
    later = replace(after(made, *decision.facts), now=NOW + SECOND)
    plan = decide(later).plan
    assert plan is not None
    assert plan.drift_case.endswith("#2")


def test_another_value_of_an_accepted_field_is_drift() -> None:
    made = accepted(drifted(), 0)
    stored = Stored()
    there = observed(stored, MAP, live="three")
    changed = replace(made, observed={MAP.identity: there}, bodies=stored.bodies)
    plan = decide(changed).plan
    assert plan is not None
    assert plan.actions[0].leave == ()


def test_an_acceptance_that_a_person_ends_is_over_at_once() -> None:
    made = after(accepted(drifted(), 0), AcceptanceEnded("over"))
    assert decide(made).plan is not None


def test_a_grace_begins_when_the_drift_was_seen_first() -> None:
    made = drifted(drift={"after": "5m"})
    first = decide(made)
    assert (first.plan, codes(first.facts)) == (None, ["drift-grace"])
    assert first.until == NOW + 300 * SECOND
    seen = after(made, *first.facts)
    assert decide(replace(seen, now=NOW + 299 * SECOND)).facts == ()
    plan = decide(replace(seen, now=NOW + 300 * SECOND)).plan
    assert plan is not None
    assert plan.cause == "drift"


def test_what_is_gone_cannot_be_adopted_and_is_made_again() -> None:
    stored = Stored()
    declared = application()
    declared = replace(declared, spec={**declared.spec, "drift": {"policy": "adopt"}})
    gone = observed(stored, MAP, presence=Presence.ABSENT)
    made = replace(situation_of({MAP: "one"}, [gone], stored), application=declared)
    plan = decide(made).plan
    assert plan is not None
    assert (plan.cause, plan.actions[0].leave) == ("drift", ())
    there = drifted(drift={"policy": "adopt"})
    adopted = decide(there).plan
    assert adopted is not None
    assert adopted.cause == "adoption"
    assert [rule.path for rule in adopted.actions[0].leave] == [".data.key"]


def half_taken(*, adoption: bool) -> Situation:
    """What it is after the first of a take-over's two requests: all fields are ours."""
    stored = Stored()
    live = live_body("one")
    live["metadata"]["managedFields"][0]["fieldsV1"]["f:data"]["f:old"] = {}
    live["data"]["old"] = "theirs"
    body = stored.put(orjson.dumps(live))
    there = replace(observed(stored, MAP), body=body, digest="seen:half:uid-1")
    made = situation_of({MAP: "one"}, [there], stored)
    asked = Adoption(6, "user:ada", "moved", NOW) if adoption else None
    return replace(made, target=replace(made.target, adoption=asked))


def test_a_take_over_that_was_broken_off_between_its_requests_is_finished() -> None:
    plan = decide(half_taken(adoption=True)).plan
    assert plan is not None
    assert [(each.reason, each.adopt) for each in plan.actions] == [("taken over", True)]
    assert decide(half_taken(adoption=False)).plan is None


def round_of(made: Situation, now: int) -> Situation:
    """Have drift put right at a time; the other side answers at once."""
    made = replace(made, now=now)
    decision = decide(made)
    assert decision.plan is not None
    planned = after(made, *decision.facts)
    result = Result(Verb.APPLY, MAP, Outcome.CHANGED)
    plan = planned.corrections.plan
    assert plan is not None
    return after(planned, CorrectionApplied(plan.position, (result,)))


def test_who_overwrites_us_each_time_is_met_ever_more_slowly_and_named() -> None:
    made, now = drifted(), NOW
    for _ in range(WAR_ROUNDS):
        made = round_of(made, now)
        now += SECOND
    waits = []
    for _ in range(4):
        held = decide(replace(made, now=now))
        assert held.plan is None
        assert codes(held.facts) == ["war"]
        (fact,) = (f for f in held.facts if isinstance(f, ReconcileHeld))
        assert ".data.key of shop/ConfigMap/a" in fact.message
        waits.append(held.until - now)
        made = round_of(after(replace(made, now=now), *held.facts), held.until)
        now = held.until + SECOND
    assert waits == sorted(waits)
    assert waits[-1] > 4 * waits[0]
    # A person's word begins afresh, and so does a time of quiet.
    asked = after(replace(made, now=now), SyncRequested("again"))
    assert decide(asked).plan is not None
    quiet = now + calm_after(made.drift.fights[0].rounds) + SECOND
    assert decide(replace(made, now=quiet)).plan is not None


def test_edits_that_are_far_apart_are_no_war() -> None:
    made = drifted()
    for turn in range(3 * WAR_ROUNDS):
        made = round_of(made, NOW + turn * 61 * SECOND)
    assert made.drift.fights[0].rounds == 1


@given(st.integers(0, 10_000))
def test_waits_grow_and_stay_within_an_hour(rounds: int) -> None:
    assert wait_after(rounds) <= wait_after(rounds + 1) <= 3600 * SECOND
    assert calm_after(rounds) > wait_after(rounds)


def test_a_case_remembers_nothing_of_objects_that_no_longer_differ() -> None:
    made = drifted()
    opened = after(made, *decide(made).facts)
    assert opened.drift.open is not None
    assert set(opened.drift.open.began) == {MAP.identity}
    fact = DriftDetected(opened.drift.open.case, ())
    happened = event(fact, TARGET.stream, 99, 99)
    emptied = DRIFT.apply(TARGET.stream, opened.drift, happened, fact)
    assert emptied is not None
    assert emptied.open is not None
    assert emptied.open.began == {}
