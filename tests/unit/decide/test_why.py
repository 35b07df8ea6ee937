"""What `why` says is so, also of what is left as it is."""

from __future__ import annotations

from msgspec.structs import replace

from engine.decide.decision import decide, findings
from engine.decide.situation import Situation
from engine.decide.why import Guard, why
from events.catalog import CorrectionFailed, ReconcileHeld
from events.vocabulary import (
    Difference,
    DifferenceKind,
    Health,
    Outcome,
    Presence,
    Result,
    Verb,
)
from projections.targets import Synced
from tests.deciding import (
    COMMIT,
    NOW,
    Stored,
    application,
    folded,
    observed,
    ref_of,
    situation,
    target,
)

MAP = ref_of("ConfigMap")
OTHER = ref_of("ConfigMap", "b")
SYNCED = Synced(COMMIT, 4, "inventory", 8, NOW - 30_000_000)


def guard(made: Situation, name: str) -> Guard:
    told = why(made, findings(made))
    return next(each for each in told.guards if each.name == name)


def test_an_object_that_is_pruned_and_not_gone_yet_is_told_until_it_is() -> None:
    stored = Stored()
    ending = observed(stored, OTHER, presence=Presence.TERMINATING)
    made = situation({MAP: "one"}, [observed(stored, MAP), ending], stored)
    decision = decide(made)
    (held,) = (fact for fact in decision.facts if isinstance(fact, ReconcileHeld))
    assert (held.code, held.objects, decision.plan) == ("not-gone-yet", (OTHER,), None)
    assert "TargetSynced" in {type(fact).__name__ for fact in decision.facts}
    assert guard(made, "difference").message.startswith("nothing is to be put right; 1 objects")
    gone = replace(ending, presence=Presence.ABSENT)
    later = folded(replace(made, observed={**made.observed, OTHER.identity: gone}), decision.facts)
    assert [type(fact).__name__ for fact in decide(later).facts] == ["HoldLifted"]


def test_what_differs_and_is_left_is_not_called_the_same() -> None:
    stored = Stored()
    ending = observed(stored, MAP, live="two", presence=Presence.TERMINATING)
    told = guard(situation({MAP: "one"}, [ending], stored), "difference")
    assert (told.passes, told.message) == (
        True,
        "nothing is to be put right; 1 objects wait (above)",
    )
    there = observed(stored, MAP)
    assert there.applied is not None
    mutated = Difference(DifferenceKind.MUTATED, MAP, ".data.key", "one", "two")
    there = replace(there, applied=replace(there.applied, mutated=(mutated,)))
    told = guard(situation({MAP: "one"}, [there], stored), "difference")
    assert told.message == "nothing is to be put right; 1 fields are as admission made them"
    spared = replace(mutated, kind=DifferenceKind.IGNORED)
    there = replace(there, applied=replace(there.applied, mutated=(spared,)))
    told = guard(situation({MAP: "one"}, [there], stored), "difference")
    assert "1 fields are as they are live" in told.message
    told = guard(situation({MAP: "one"}, [observed(stored, MAP)], stored), "difference")
    assert told.message == "nothing differs"


def test_a_target_that_is_not_synced_is_so_since_its_hold_and_not_since_its_last_sync() -> None:
    stored = Stored()
    ending = observed(stored, MAP, presence=Presence.TERMINATING)
    made = situation({MAP: "one"}, [ending], stored, target=target(synced=SYNCED))
    held = folded(made, decide(made).facts)
    told = guard(held, "synced")
    assert (told.passes, told.at) == (False, NOW)
    assert "terminating" in guard(held, "object").message


def test_the_message_of_a_health_on_its_way_is_that_of_its_beginning() -> None:
    stored = Stored()
    there = observed(stored, MAP, health=Health.PROGRESSING, message="Replicas: 0/2")
    made = situation({MAP: "one"}, [there], stored)
    assert guard(folded(made, decide(made).facts), "health").message == (
        f"progressing (at first: {MAP}: Replicas: 0/2)"
    )


def test_what_is_in_conflict_is_not_said_to_be_missing() -> None:
    made = situation({MAP: "one"}, [])
    planned = folded(made, decide(made).facts)
    plan = planned.corrections.plan
    assert plan is not None
    result = Result(Verb.APPLY, MAP, Outcome.CONFLICT, managers=("helm",))
    failed = CorrectionFailed(plan.position, (result,), "conflict", "helm has it", 1, NOW + 1)
    told = guard(folded(planned, [failed]), "health")
    assert told.message == "missing: what is in conflict is there, and does not count as ours"


def test_what_a_commit_changes_differs_since_the_commit_and_not_since_a_drift_before_it() -> None:
    stored = Stored()
    there = observed(stored, MAP, live="two")
    drifted = situation({MAP: "one"}, [there], stored)
    seen = folded(
        drifted, [fact for fact in decide(drifted).facts if "Drift" in type(fact).__name__]
    )
    told = guard(seen, "difference")
    assert (told.message, told.position) == ("1 drifted", 11)
    changed = situation({MAP: "three"}, [there], stored, drift=seen.drift)
    changed = replace(changed, desired=replace(changed.desired, position=12, at=NOW))
    told = guard(changed, "difference")
    assert told.message == "1 changed in Git, 1 drifted fields go with it"
    assert (told.position, told.at) == (12, NOW)


def test_what_a_withdrawn_application_leaves_until_it_is_gone_is_told() -> None:
    stored = Stored()
    ending = observed(stored, MAP, presence=Presence.TERMINATING)
    left = target(assigned=False, cascade=True, unassigned="application withdrawn")
    made = situation({}, [ending], stored, target=left, application=application(withdrawn=True))
    held = folded(made, decide(made).facts)
    told = why(held, findings(held))
    assert "not gone yet" in guard(held, "assigned").message
    assert {each.name for each in told.guards}.isdisjoint({"source", "render", "health"})
    gone = replace(ending, presence=Presence.ABSENT)
    after = decide(replace(held, observed={MAP.identity: gone}))
    assert [type(fact).__name__ for fact in after.facts] == ["HoldLifted"]
