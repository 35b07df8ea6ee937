"""What counts as a difference between a recorded decision and the same one made today."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.decide.again import Discrepancy, discrepancies
from events.catalog import CorrectionPlanned, Fact, Facts, HealthChanged, HoldLifted, TargetSynced
from events.vocabulary import Action, Health, ObjectRef, Verb

REF = ObjectRef("v1", "ConfigMap", "web", "settings")
OLD = CorrectionPlanned("c0", Facts(3), (Action(Verb.APPLY, REF, "new"),), "commit")
NEW = replace(OLD, actions=(replace(OLD.actions[0], adopt=True),), run=7, stage="wave 0")


def test_what_an_earlier_release_did_not_know_is_not_compared() -> None:
    assert discrepancies([OLD], [1], [NEW]) == ()


def test_what_it_knew_and_left_at_its_default_is() -> None:
    assert discrepancies([OLD], [2], [NEW]) == (
        Discrepancy("CorrectionPlanned.actions[0].adopt", None, True),
        Discrepancy("CorrectionPlanned.run", None, 7),
        Discrepancy("CorrectionPlanned.stage", None, "wave 0"),
    )


def test_what_it_said_is_compared_whether_its_schema_has_it_or_not() -> None:
    said = replace(OLD, run=6)
    assert discrepancies([said], [1], [NEW]) == (Discrepancy("CorrectionPlanned.run", 6, 7),)
    assert discrepancies([said], [1], [OLD]) == (Discrepancy("CorrectionPlanned.run", 6, None),)


def test_a_field_that_it_knew_is_named_with_both_values() -> None:
    other = replace(NEW, cause="drift", actions=(*NEW.actions, *NEW.actions))
    paths = [each.path for each in discrepancies([OLD], [1], [other])]
    assert paths == ["CorrectionPlanned.actions", "CorrectionPlanned.cause"]


def test_where_it_was_seen_is_no_part_of_a_decision() -> None:
    then, now = HealthChanged(Health.HEALTHY, seen=4), HealthChanged(Health.HEALTHY)
    assert discrepancies([then], [2], [now]) == ()


def test_facts_that_only_one_of_them_has_go_by_their_type() -> None:
    lifted, synced = HoldLifted("suspended"), TargetSynced("c0", 1, "sha256:0")
    assert discrepancies([lifted, OLD], [1, 1], [OLD, synced]) == (
        Discrepancy("HoldLifted", {"code": "suspended"}, None),
        Discrepancy("TargetSynced", None, {"commit": "c0", "desired": 1, "objects": "sha256:0"}),
    )
    (order,) = discrepancies([lifted, OLD], [1, 1], [OLD, lifted])
    assert (order.path, order.then[0], order.now[0]) == ("order", "HoldLifted", "CorrectionPlanned")


@given(st.lists(st.sampled_from([OLD, NEW, HoldLifted("x"), TargetSynced("c", 1, "o", count=3)])))
def test_facts_are_as_they_are_whatever_their_schema(facts: list[Fact]) -> None:
    for schema in (1, 2):
        assert discrepancies(facts, [schema] * len(facts), facts) == ()
