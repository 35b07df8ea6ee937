"""What is decided, case by case."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from engine.decide.decision import PLAN_ACTIONS, decide
from engine.decide.outcome import Backoff, conclude
from engine.decide.situation import Situation
from events.catalog import (
    CorrectionAbandoned,
    CorrectionApplied,
    CorrectionFailed,
    CorrectionPlanned,
    DriftDetected,
    DriftResolved,
    Fact,
    Facts,
    HealthChanged,
    HoldLifted,
    ReconcileHeld,
    TargetSynced,
)
from events.codec import encode
from events.limits import MAX_PAYLOAD
from events.vocabulary import (
    Action,
    Difference,
    DifferenceKind,
    Health,
    ObjectRef,
    Observation,
    Outcome,
    Presence,
    Result,
    Verb,
)
from projections.clusters import ClusterDocument
from projections.corrections import CORRECTIONS, CorrectionDocument, Ended
from projections.declared import Suspension
from projections.desired import DesiredDocument, RenderFailure
from projections.drift import DriftCase, DriftDocument
from projections.sources import Failure, SourceDocument
from projections.targets import Hold, Request, Synced
from tests.deciding import (
    COMMIT,
    NOW,
    OTHER_COMMIT,
    Stored,
    application,
    event,
    folded,
    kinds,
    observed,
    ref_of,
    situation,
    target,
)

MAP = ref_of("ConfigMap")
REQUEST = Request(8, "user:ada", "now", NOW)
SYNCED = Synced(COMMIT, 4, "inventory", 6, NOW)


def names(facts: tuple[Fact, ...]) -> list[str]:
    return [type(fact).__name__ for fact in facts]


def one(facts: tuple[Fact, ...], kind: type[Fact]) -> Fact:
    (found,) = [fact for fact in facts if isinstance(fact, kind)]
    return found


def failed(**changes: object) -> CorrectionDocument:
    last = Ended(1, 7, NOW - 1_000, COMMIT, "commit", 1, Facts(1), "invalid", "no", NOW + 5_000_000)
    return CorrectionDocument(last=replace(last, **changes), failures=1)


def test_a_first_look_at_what_is_as_desired_says_synced_and_how_it_fares() -> None:
    stored = Stored()
    decision = decide(situation({MAP: "one"}, [observed(stored, MAP)], stored))
    assert names(decision.facts) == ["HealthChanged", "TargetSynced"]


def test_a_second_look_says_nothing() -> None:
    stored = Stored()
    made = situation(
        {MAP: "one"},
        [observed(stored, MAP)],
        stored,
        target=target(synced=SYNCED, health=Health.HEALTHY),
    )
    assert decide(made).facts == ()


def test_drift_opens_a_case_whose_plan_names_it() -> None:
    stored = Stored()
    made = situation({MAP: "one"}, [observed(stored, MAP, live="two")], stored)
    facts = decide(made).facts
    case, plan = one(facts, DriftDetected), one(facts, CorrectionPlanned)
    assert isinstance(case, DriftDetected)
    assert isinstance(plan, CorrectionPlanned)
    assert (plan.cause, plan.drift_case) == ("drift", case.case)


def test_drift_beside_a_commit_is_a_case_and_the_plan_is_of_the_commit() -> None:
    stored = Stored()
    other = ref_of("Deployment")
    made = situation({MAP: "one", other: "one"}, [observed(stored, MAP, live="two")], stored)
    plan = decide(made).plan
    assert plan is not None
    assert (plan.cause, bool(plan.drift_case)) == ("commit", True)


def test_a_plan_without_repairs_claims_no_drift_case() -> None:
    stored = Stored()
    made = situation(
        {MAP: "one", ref_of("Deployment"): "one"},
        [observed(stored, MAP, live="two")],
        stored,
        application=application(self_heal=False),
    )
    plan = decide(made).plan
    assert plan is not None
    assert plan.drift_case == ""
    assert [action.ref.kind for action in plan.actions] == ["Deployment"]


def case(**changes: object) -> DriftDocument:
    difference = Difference(DifferenceKind.CHANGED, MAP, ".data.key")
    made = DriftCase("case", 5, NOW, (difference,))
    return DriftDocument(open=replace(made, **changes), cases=1)


def test_a_case_ends_as_corrected_reverted_or_superseded() -> None:
    stored = Stored()
    there = [observed(stored, MAP)]
    ours = failed(code="", drift_case="case")
    others = failed(code="", drift_case="")
    for corrections, how in (
        (ours, "corrected"),
        (others, "superseded"),
        (CorrectionDocument(), "reverted"),
    ):
        made = situation({MAP: "one"}, there, stored, drift=case(), corrections=corrections)
        resolved = one(decide(made).facts, DriftResolved)
        assert isinstance(resolved, DriftResolved)
        assert resolved.how == how


def test_a_case_of_a_target_that_is_no_more_ends() -> None:
    made = situation({}, target=target(assigned=False), drift=case())
    assert decide(made).facts == (DriftResolved("case", "unassigned"),)


def test_a_case_is_told_again_only_when_it_grows() -> None:
    stored = Stored()
    drifted = observed(stored, MAP, live="two")
    first = decide(situation({MAP: "one"}, [drifted], stored))
    told = one(first.facts, DriftDetected)
    assert isinstance(told, DriftDetected)
    known = case(differences=told.differences)
    manual = application(mode="manual")
    again = situation({MAP: "one"}, [drifted], stored, drift=known, application=manual)
    assert "DriftDetected" not in names(decide(again).facts)
    other = observed(stored, ref_of("Secret"), live="two")
    grown = situation(
        {MAP: "one", other.ref: "one"}, [drifted, other], stored, drift=known, application=manual
    )
    fact = one(decide(grown).facts, DriftDetected)
    assert isinstance(fact, DriftDetected)
    assert (fact.case, len(fact.differences)) == ("case", 2)


def test_manual_mode_holds_and_a_fetched_request_lets_it_go_on() -> None:
    manual = application(mode="manual")
    held = one(decide(situation({MAP: "one"}, application=manual)).facts, ReconcileHeld)
    assert isinstance(held, ReconcileHeld)
    assert (held.code, held.message) == ("manual", "1 object differs; sync.mode is manual")
    asked = situation(
        {MAP: "one"},
        application=manual,
        target=target(request=REQUEST, hold=Hold("manual", "m", 5, NOW)),
        source=SourceDocument(commit=COMMIT, resolved=COMMIT, requested=8),
    )
    facts = decide(asked).facts
    assert "HoldLifted" in names(facts)
    plan = one(facts, CorrectionPlanned)
    assert isinstance(plan, CorrectionPlanned)
    assert plan.cause == "request"


def test_a_request_waits_for_the_look_at_the_repository_that_it_asked_for() -> None:
    stored = Stored()
    made = situation(
        {MAP: "one"},
        [observed(stored, MAP)],
        stored,
        target=target(request=REQUEST, synced=replace(SYNCED, position=6)),
    )
    assert "TargetSynced" not in names(decide(made).facts)
    looked = replace(made, source=replace(made.source, requested=8))
    assert "TargetSynced" in names(decide(looked).facts)


def test_a_request_whose_look_failed_is_held_with_the_reason() -> None:
    stored = Stored()
    made = situation(
        {MAP: "one"},
        [observed(stored, MAP)],
        stored,
        target=target(request=REQUEST, synced=SYNCED),
        source=SourceDocument(
            commit=COMMIT,
            resolved=COMMIT,
            requested=8,
            requested_failed="unreachable",
            failure=Failure("unreachable", "no route", 9, NOW),
        ),
    )
    held = one(decide(made).facts, ReconcileHeld)
    assert isinstance(held, ReconcileHeld)
    assert held.code == "source-failed"
    assert "no route" in held.message


def test_a_suspension_holds_whatever_is_to_be_done_deletion_too() -> None:
    stored = Stored()
    suspended = Suspension("freeze", "user:ada", 8, NOW)
    made = situation({MAP: "one"}, target=target(suspended=suspended))
    held = one(decide(made).facts, ReconcileHeld)
    assert isinstance(held, ReconcileHeld)
    assert held.message == "suspended by user:ada: freeze"
    withdrawn = situation(
        {},
        [observed(stored, MAP)],
        stored,
        target=target(assigned=False, cascade=True, suspended=suspended),
        application=application(withdrawn=True),
    )
    assert names(decide(withdrawn).facts) == ["ReconcileHeld"]


def test_an_unassigned_target_is_left_as_it_is() -> None:
    stored = Stored()
    made = situation({}, [observed(stored, MAP)], stored, target=target(assigned=False))
    assert decide(made).facts == ()


def test_a_cascade_deletes_what_we_made_in_reverse_and_nothing_else() -> None:
    stored = Stored()
    there = [
        observed(stored, MAP),
        observed(stored, ref_of("Deployment")),
        observed(stored, ref_of("Namespace")),
        observed(stored, ref_of("PersistentVolumeClaim")),
        observed(stored, ref_of("ConfigMap", "copy"), applied=None, mine=False),
    ]
    made = situation(
        {},
        there,
        stored,
        target=target(assigned=False, cascade=True),
        application=application(withdrawn=True),
    )
    plan = decide(made).plan
    assert plan is not None
    assert plan.cause == "withdrawal"
    assert {action.verb for action in plan.actions} == {Verb.DELETE}
    assert [action.ref for action in plan.actions] == [ref_of("Deployment"), MAP]


def test_a_lost_cluster_holds_with_its_reason() -> None:
    lost = ClusterDocument(
        connected=False, lost=Failure("unreachable", "time-out", 8, NOW), kinds=kinds()
    )
    held = one(decide(situation({MAP: "one"}, cluster=lost)).facts, ReconcileHeld)
    assert isinstance(held, ReconcileHeld)
    assert (held.code, held.message) == ("cluster-lost", "cluster prod: unreachable: time-out")


def test_back_off_is_respected_and_ended_by_news() -> None:
    made = situation({MAP: "one"}, corrections=failed())
    waiting = decide(made)
    assert (waiting.plan, waiting.until) == (None, NOW + 5_000_000)
    assert decide(replace(made, now=NOW + 5_000_000)).plan is not None
    assert decide(replace(made, desired=replace(made.desired, position=8))).plan is not None
    asked = target(request=REQUEST)
    assert decide(replace(made, target=asked)).plan is not None
    back = replace(made.cluster, since=NOW)
    assert decide(replace(made, cluster=back)).plan is not None


def test_a_clock_that_was_set_back_keeps_nothing_waiting() -> None:
    made = situation({MAP: "one"}, corrections=failed(said_at=NOW))
    assert decide(made).plan is None
    assert decide(replace(made, now=NOW - 3_600_000_000)).plan is not None


def test_what_drifts_beside_a_failed_object_is_put_right_while_that_one_waits() -> None:
    stored = Stored()
    other = ref_of("Deployment")
    there = observed(stored, other, live="two")
    waiting = failed(failed=(MAP.identity,))
    made = situation({MAP: "one", other: "one"}, [there], stored, corrections=waiting)
    facts = decide(made).facts
    plan = one(facts, CorrectionPlanned)
    assert isinstance(plan, CorrectionPlanned)
    assert [action.ref for action in plan.actions] == [other]
    assert (plan.cause, plan.attempt) == ("drift", 0)
    planned = folded(made, facts)
    position = planned.corrections.plan.position if planned.corrections.plan else 0
    after = folded(planned, [CorrectionApplied(position, ())])
    assert after.corrections.last == waiting.last, "that one goes on waiting"
    assert after.corrections.failures == 1
    mended = replace(after, observed={other.identity: observed(stored, other)})
    resolved = one(decide(mended).facts, DriftResolved)
    assert isinstance(resolved, DriftResolved)
    assert (resolved.how, resolved.correction) == ("corrected", after.seen)
    assert decide(mended).until == waiting.last.retry_at  # type: ignore[union-attr]


def test_a_repair_beside_that_fails_too_waits_with_the_other() -> None:
    stored = Stored()
    other = ref_of("Deployment")
    there = observed(stored, other, live="two")
    waiting = failed(failed=(MAP.identity,))
    made = situation({MAP: "one", other: "one"}, [there], stored, corrections=waiting)
    planned = folded(made, decide(made).facts)
    position = planned.corrections.plan.position if planned.corrections.plan else 0
    result = Result(Verb.APPLY, other, Outcome.FORBIDDEN, message="no")
    after = folded(planned, [CorrectionFailed(position, (result,), "forbidden", "no", 0)])
    assert decide(after).plan is None
    assert decide(after).until == waiting.last.retry_at  # type: ignore[union-attr]


def test_a_repair_beside_that_came_too_late_is_tried_again_before_the_other() -> None:
    stored = Stored()
    other = ref_of("Deployment")
    there = observed(stored, other, live="two")
    waiting = failed(failed=(MAP.identity,))
    made = situation({MAP: "one", other: "one"}, [there], stored, corrections=waiting)
    planned = folded(made, decide(made).facts)
    position = planned.corrections.plan.position if planned.corrections.plan else 0
    result = Result(Verb.APPLY, other, Outcome.STALE, message="moved on")
    ended = conclude(position, 0, [result], now=NOW, chance=0.5, backoff=Backoff())
    assert isinstance(ended, CorrectionFailed)
    after = folded(planned, [ended])
    assert decide(after).plan is None, "not without a moment in between"
    assert decide(after).until == ended.retry_at < waiting.last.retry_at  # type: ignore[union-attr]
    again = decide(replace(after, now=ended.retry_at)).plan
    assert again is not None
    assert [action.ref for action in again.actions] == [other]


def test_what_came_too_late_beside_what_failed_does_not_wait_for_it() -> None:
    stored = Stored()
    other = ref_of("Deployment")
    there = observed(stored, other, live="two")
    made = situation({MAP: "one", other: "one"}, [there], stored)
    planned = folded(made, decide(made).facts)
    position = planned.corrections.plan.position if planned.corrections.plan else 0
    results = [
        Result(Verb.APPLY, MAP, Outcome.INVALID, message="no"),
        Result(Verb.APPLY, other, Outcome.STALE, message="moved on"),
    ]
    ended = conclude(position, 1, results, now=NOW, chance=0.5, backoff=Backoff())
    again = decide(folded(planned, [ended])).plan
    assert again is not None
    assert [action.ref for action in again.actions] == [other]


def test_the_message_of_a_rising_target_is_not_news_and_of_a_degraded_one_is() -> None:
    stored = Stored()
    for health, expected in ((Health.PROGRESSING, 0), (Health.MISSING, 0), (Health.DEGRADED, 1)):
        there = observed(stored, MAP, health=health, message="2 of 3")
        known = target(synced=SYNCED, health=health, health_message="1 of 3")
        facts = decide(situation({MAP: "one"}, [there], stored, target=known)).facts
        assert len([fact for fact in facts if isinstance(fact, HealthChanged)]) == expected


def test_an_unrenderable_first_commit_is_held_with_the_reason() -> None:
    failure = RenderFailure(OTHER_COMMIT, 2, "path-missing", "there is no folder", 4, NOW)
    made = situation(desired=DesiredDocument(failure=failure))
    held = one(decide(made).facts, ReconcileHeld)
    assert isinstance(held, ReconcileHeld)
    assert held.message == f"commit {OTHER_COMMIT[:12]}: there is no folder"


def test_after_a_later_commit_that_does_not_render_the_last_good_one_stays_in_force() -> None:
    stored = Stored()
    failure = RenderFailure(OTHER_COMMIT, 2, "path-missing", "there is no folder", 8, NOW)
    made = situation(
        {MAP: "one"},
        [observed(stored, MAP, live="two")],
        stored,
        desired=DesiredDocument(COMMIT, 2, position=4, failure=failure),
    )
    plan = decide(made).plan
    assert plan is not None
    assert [action.verb for action in plan.actions] == [Verb.APPLY]


def test_a_hold_that_is_over_is_lifted() -> None:
    stored = Stored()
    known = target(hold=Hold("manual", "m", 5, NOW), synced=SYNCED, health=Health.HEALTHY)
    made = situation({MAP: "one"}, [observed(stored, MAP)], stored, target=known)
    assert decide(made).facts == (HoldLifted("manual"),)


def test_what_prune_leaves_over_does_not_keep_a_target_from_being_synced() -> None:
    stored = Stored()
    made = situation({}, [observed(stored, ref_of("Namespace"))], stored)
    facts = decide(made).facts
    assert isinstance(one(facts, TargetSynced), TargetSynced)
    held = one(facts, ReconcileHeld)
    assert isinstance(held, ReconcileHeld)
    assert held.code == "protected"


# Many objects.


def many(number: int, **changes: object) -> Situation:
    return situation({ref_of("ConfigMap", f"c{n:04}"): "one" for n in range(number)}, **changes)


def test_what_one_plan_does_not_hold_comes_in_the_next() -> None:
    made, done = many(2 * PLAN_ACTIONS + 1), []
    plan = decide(made).plan
    assert plan is not None
    assert (len(plan.actions), plan.remaining) == (PLAN_ACTIONS, PLAN_ACTIONS + 1)
    stored = Stored()
    for remaining in (PLAN_ACTIONS + 1, 1, 0):
        plan = decide(made).plan
        assert plan is not None
        assert plan.remaining == remaining
        done += [action.ref for action in plan.actions]
        there = [observed(stored, ref) for ref in done]
        made = replace(
            made, observed={doc.ref.identity: doc for doc in there}, bodies=stored.bodies
        )
    assert len(set(done)) == 2 * PLAN_ACTIONS + 1
    assert any(isinstance(fact, TargetSynced) for fact in decide(made).facts)


def test_actions_that_fail_again_and_again_do_not_keep_the_others_from_being_tried() -> None:
    tried = set()
    for failures in range(3):
        corrections = replace(failed(retry_at=NOW, position=9), failures=failures)
        plan = decide(many(2 * PLAN_ACTIONS + 1, corrections=corrections)).plan
        assert plan is not None
        assert plan.remaining + len(plan.actions) == 2 * PLAN_ACTIONS + 1
        tried |= {action.ref for action in plan.actions}
    assert len(tried) == 2 * PLAN_ACTIONS + 1


def test_the_largest_plan_and_its_outcome_fit_into_an_event() -> None:
    digest = "sha256:" + "0" * 64
    wide = ObjectRef("some.group.example.org/v1beta1", "SomeKind", "n" * 63, "x" * 253)
    altered = Difference(DifferenceKind.MUTATED, wide, "." + "p" * 500, "b" * 500, "a" * 500)
    seen = Observation(
        wide,
        Presence.PRESENT,
        "u" * 36,
        "1" * 20,
        digest,
        digest,
        "default/" + "a" * 63,
        Health.PROGRESSING,
        "m" * 500,
    )
    action = Action(
        Verb.APPLY, wide, "no record of an apply", digest, True, "u" * 36, "1" * 20, digest, True, 5
    )
    facts = Facts(10**9, 10**9, 10**9, 10**9)
    plan = CorrectionPlanned(COMMIT, facts, (action,) * PLAN_ACTIONS, "recovery", 99)
    assert len(encode(plan)) < MAX_PAYLOAD
    for outcome, message in ((Outcome.CHANGED, ""), (Outcome.FAILED, "w" * 1000)):
        result = Result(
            Verb.APPLY,
            wide,
            outcome,
            digest,
            "u" * 36,
            "1" * 20,
            digest,
            seen if not message else None,
            () if message else (altered,) * 200,
            message,
        )
        fact = conclude(1, 1, [result] * PLAN_ACTIONS, now=NOW, chance=0.5, backoff=Backoff())
        assert len(encode(fact)) < MAX_PAYLOAD


# Applies whose answer never came.


def unsure(stored: Stored, manager: str = "trueup", **ended: Any) -> Situation:
    """Return a situation in which a commit was applied, perhaps: the live value is the new one."""
    last = Ended(1, 7, NOW - 1_000, COMMIT, "commit", 1, Facts(1), **ended)
    seen = observed(stored, MAP, applied="one", live="two", mine=manager == "trueup")
    made = situation({MAP: "two"}, [seen], stored)
    return replace(made, corrections=CorrectionDocument(last=last))


def test_what_an_apply_without_an_answer_did_is_no_drift() -> None:
    made = unsure(Stored(), code="abandoned", unsure=(MAP.identity,))
    facts = decide(made).facts
    assert "DriftDetected" not in names(facts)
    plan = one(facts, CorrectionPlanned)
    assert isinstance(plan, CorrectionPlanned)
    assert [action.reason for action in plan.actions] == ["changed in Git"]


def test_what_no_apply_of_ours_explains_is_drift_whatever_else_is_to_be_done() -> None:
    other = ref_of("ConfigMap", "other").identity
    for made in (
        unsure(Stored(), code="abandoned", unsure=(other,)),
        unsure(Stored(), code="invalid"),
        unsure(Stored()),
    ):
        assert "DriftDetected" in names(decide(made).facts)


def ends(*outcomes: Outcome | None) -> CorrectionDocument:
    """Fold applies of one object, one after the other, that came to this; None: abandoned."""
    stream, known, position = "target/default/shop@prod", None, 0
    for outcome in outcomes:
        position += 2
        action = Action(Verb.APPLY, MAP, "new", desired="desired:two")
        planned = CorrectionPlanned(COMMIT, Facts(1), (action,), "commit")
        results = (Result(Verb.APPLY, MAP, outcome),) if outcome else ()
        fact: Fact = CorrectionFailed(position, results, "x", "x", 1, 0)
        if outcome is None:
            fact = CorrectionAbandoned(position, "killed")
        for offset, each in enumerate((planned, fact)):
            happened = event(each, stream, position + offset, position + offset)
            known = CORRECTIONS.apply(stream, known, happened, each)
    assert known is not None
    return known


def test_an_apply_stays_unanswered_until_a_later_one_is_answered() -> None:
    """A server that hung does late what it was asked: what is sent then finds the object moved."""
    lost, stale = Outcome.UNREACHABLE, Outcome.STALE
    for outcomes in ((lost, stale), (None, stale), (lost, Outcome.FORBIDDEN), (lost, None)):
        last = ends(*outcomes).last
        assert last is not None
        assert last.unsure == (MAP.identity,)
    answered = ends(lost, Outcome.CHANGED).last
    assert answered is not None
    assert answered.unsure == ()
