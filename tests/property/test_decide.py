"""What holds of every decision, whatever the situation."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.decide.compare import NO_SUCH_KIND, NOT_LISTED, REPAIRS, compare, is_applied
from engine.decide.decision import PLAN_CAUSES, decide, findings
from engine.decide.order import is_protected
from engine.decide.show import SHOWN_ONLY, all_differences
from engine.decide.situation import Situation
from engine.decide.state import SyncState, satisfied, status
from events.catalog import (
    CorrectionPlanned,
    DriftDetected,
    DriftResolved,
    Facts,
    HealthChanged,
    ReconcileHeld,
    TargetSynced,
)
from events.vocabulary import Difference, DifferenceKind, Health, ObjectRef, Presence, Verb
from projections.clusters import ClusterDocument
from projections.corrections import CorrectionDocument, Ended
from projections.declared import Suspension
from projections.desired import DesiredDocument, RenderFailure
from projections.drift import Acceptance, DriftCase, DriftDocument, Fight
from projections.observed import ObservedDocument
from projections.sources import Failure, SourceDocument
from projections.targets import Adoption, Hold, Request, Synced
from tests.deciding import (
    COMMIT,
    KINDS,
    NOW,
    OTHER_COMMIT,
    Stored,
    application,
    folded,
    kinds,
    observed,
    ref_of,
    situation,
    target,
)

HOUR = 3_600_000_000
NAMES = st.sampled_from("ab")
values = st.sampled_from(["one", "two"])
suspensions = st.sampled_from([None, None, None, Suspension("freeze", "user:ada", 8, NOW)])
positions = st.integers(1, 12)
chance = st.sampled_from([True, False])


def mostly(usual: Any, otherwise: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw what is usual most of the time, so that most situations leave something to do."""
    return st.integers(0, 3).flatmap(lambda n: otherwise if n == 0 else st.just(usual))


@st.composite
def objects(draw: st.DrawFn, stored: Stored, ref: ObjectRef) -> ObservedDocument:
    applied = draw(st.none() | values)
    return observed(
        stored,
        ref,
        presence=draw(st.sampled_from([Presence.PRESENT, Presence.PRESENT, *Presence])),
        applied=applied,
        live=draw(st.none() | values),
        recreated=draw(st.sampled_from([False, False, True])),
        health=draw(st.sampled_from(Health)),
        message=draw(st.sampled_from(["", "1 of 3"])),
        mine=draw(chance),
    )


ended = st.builds(
    Ended,
    plan=st.just(1),
    position=positions,
    at=st.integers(NOW - 2 * HOUR, NOW),
    commit=st.just(COMMIT),
    cause=st.just("commit"),
    actions=st.just(1),
    facts=st.just(Facts(1)),
    code=st.sampled_from(["", "abandoned", "invalid", "unreachable"]),
    retry_at=st.integers(NOW - HOUR, NOW + HOUR),
    said_at=st.integers(NOW - HOUR, NOW + HOUR),
    drift_case=st.sampled_from(["", "case"]),
    failed=st.sampled_from([(), (ref_of("ConfigMap").identity,), (ref_of("Secret").identity,)]),
)
corrections = st.builds(
    CorrectionDocument, last=st.none() | ended, failures=st.integers(0, 5), plan=st.none()
)
differences = st.builds(
    Difference,
    kind=st.just(DifferenceKind.CHANGED),
    ref=st.just(ref_of("Secret")),
    path=st.just(".data.key"),
)
drifts = st.builds(
    DriftDocument,
    open=st.none()
    | st.builds(
        DriftCase,
        case=st.just("case"),
        opened=positions,
        opened_at=st.just(NOW),
        differences=st.tuples(differences),
    ),
    cases=st.integers(1, 3),
)
failures = st.none() | st.builds(
    Failure, code=st.just("x"), message=st.just("why"), position=positions, at=st.just(NOW)
)
sources = st.builds(
    SourceDocument,
    commit=st.sampled_from([COMMIT, OTHER_COMMIT]),
    resolved=st.sampled_from([COMMIT, OTHER_COMMIT]),
    requested=st.integers(0, 12),
    requested_failed=st.sampled_from(["", "unreachable"]),
    failure=failures,
)
desireds = st.builds(
    DesiredDocument,
    commit=st.just(COMMIT),
    declared=st.integers(0, 4),
    objects=st.just("inventory"),
    position=st.integers(0, 12),
    failure=st.none()
    | st.builds(
        RenderFailure,
        commit=st.just(OTHER_COMMIT),
        declared=st.integers(0, 4),
        code=st.just("path-missing"),
        message=st.just("there is no folder"),
        position=positions,
        at=st.just(NOW),
    ),
)
targets = st.builds(
    target,
    assigned=mostly(True, st.just(False)),
    cascade=chance,
    suspended=suspensions,
    request=mostly(
        None,
        st.builds(
            Request, position=positions, actor=st.just("a"), reason=st.just("r"), at=st.just(NOW)
        ),
    ),
    synced=st.none()
    | st.builds(
        Synced,
        commit=st.just(COMMIT),
        desired=positions,
        objects=st.just("inventory"),
        position=positions,
        at=st.just(NOW),
    ),
    hold=st.none()
    | st.builds(
        Hold,
        code=st.sampled_from(["manual", "suspended"]),
        message=st.just("m"),
        position=positions,
        at=st.just(NOW),
    ),
    health=st.sampled_from(Health),
    health_message=st.sampled_from(["", "1 of 3"]),
)
codes = st.sampled_from(["", "forbidden", NO_SUCH_KIND])
applications = mostly(
    application(),
    st.none()
    | st.builds(
        application,
        mode=st.sampled_from(["auto", "manual"]),
        prune=chance,
        self_heal=chance,
        withdrawn=mostly(False, st.just(True)),
        position=st.integers(1, 4),
    ),
)


@st.composite
def clusters(draw: st.DrawFn, kind_names: list[str]) -> ClusterDocument:
    unknown = {name: draw(mostly("", codes)) for name in kind_names}
    unlisted = draw(mostly((), st.just(kind_names[:1])))
    return ClusterDocument(
        connected=draw(mostly(True, st.just(False))),
        since=draw(st.integers(NOW - 3 * HOUR, NOW)),
        lost=draw(failures),
        kinds=kinds(unknown, unlisted),
    )


policies = st.fixed_dictionaries(
    {},
    optional={
        "drift": st.sampled_from(
            [
                {"policy": "report"},
                {"policy": "adopt"},
                {"after": "1h"},
                {"rules": [{"kind": "ConfigMap", "policy": "report"}]},
            ]
        ),
        "ignoreDifferences": st.sampled_from(
            [[{"paths": [".data"]}], [{"kind": "Secret", "paths": ["/data/key"]}]]
        ),
        "foreignFields": st.sampled_from([{"policy": "report"}, {"policy": "remove"}]),
    },
)


@st.composite
def with_policies(draw: st.DrawFn, made: Situation) -> Situation:
    """Meet drift by some policy, with something accepted, fought for, and taken over."""
    declared, drift = made.application, made.drift
    if declared is not None:
        spec = {**declared.spec, **draw(policies)}
        declared = msgspec.structs.replace(declared, spec=spec)
    for ref in (item.ref for item in made.observed.values()):
        key = (ref.identity, ".data.key", "")
        if draw(st.integers(0, 5)) == 0:
            fight = Fight(*key, rounds=draw(st.integers(4, 9)), began_at=NOW, last_at=NOW)
            drift = msgspec.structs.replace(drift, fights=(*drift.fights, fight))
        if draw(st.integers(0, 5)) == 0:
            kind = draw(st.sampled_from([DifferenceKind.REMOVED, DifferenceKind.CHANGED]))
            difference = Difference(kind, ref, ".data.key", after=draw(st.none() | values))
            until = draw(st.sampled_from([0, NOW - 1, NOW + HOUR]))
            holds = Acceptance("case", (difference,), 6, "user:ada", "r", NOW, until)
            drift = msgspec.structs.replace(drift, accepted=(*drift.accepted, holds))
    adoption = draw(mostly(None, st.just(Adoption(6, "user:ada", "moved", NOW))))
    target_ = msgspec.structs.replace(made.target, adoption=adoption)
    return msgspec.structs.replace(made, application=declared, drift=drift, target=target_)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Every situation there can be, and some that there cannot."""
    stored = Stored()
    names = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=3, unique=True))
    refs = st.builds(ref_of, st.sampled_from(names), NAMES)
    desired = draw(st.dictionaries(refs, values, max_size=4))
    there = draw(st.lists(refs, max_size=5, unique=True))
    made = situation(
        desired,
        [draw(objects(stored, ref)) for ref in there],
        stored,
        target=draw(targets),
        application=draw(applications),
        source=draw(sources),
        desired=draw(mostly(DesiredDocument(COMMIT, 4, position=4), desireds)),
        cluster=draw(clusters(names)),
        corrections=draw(mostly(CorrectionDocument(), corrections)),
        drift=draw(mostly(DriftDocument(), drifts)),
        # Nothing is known that happens later than what was read.
        seen=12,
    )
    suspension = draw(suspensions)
    made = draw(with_policies(made))
    if made.application is not None and suspension is not None:
        suspended = msgspec.structs.replace(made.application, suspended=suspension)
        made = msgspec.structs.replace(made, application=suspended)
    return made


@given(situations())
def test_the_same_situation_gives_the_same_facts_in_whatever_order_it_was_read(
    made: Situation,
) -> None:
    turned = msgspec.structs.replace(
        made,
        observed=dict(reversed(list(made.observed.items()))),
        bodies=dict(reversed(list(made.bodies.items()))),
    )
    assert decide(turned) == decide(made) == decide(made)


@given(situations())
def test_what_is_decided_is_not_decided_again(made: Situation) -> None:
    first = decide(made)
    if first.plan is None:
        after = folded(made, first.facts)
        assert decide(after).facts == ()


@settings(max_examples=300)
@given(situations())
def test_nothing_is_deleted_that_prune_or_cascade_did_not_ask_for(made: Situation) -> None:
    plan = decide(made).plan
    desired = {
        place.identity
        for item in made.inventory
        for state in [made.kind(item.ref)]
        for place in ([made.placed(item.ref, state)] if state else [])
    }
    for action in plan.actions if plan else ():
        if action.verb is not Verb.DELETE:
            continue
        there = made.observed[action.ref.identity]
        assert there.presence is Presence.PRESENT
        assert not is_protected(action.ref)
        assert is_applied(made, there)
        assert (action.uid, action.resource_version) == (there.uid, there.resource_version)
        assert action.uid
        if made.target.assigned:
            assert made.spec is not None
            assert made.spec.sync.prune
            assert action.ref.identity not in desired
            state = made.cluster.kinds[f"{action.ref.api_version}/{action.ref.kind}"]
            assert state.code == "", "what could not be listed is unknown, not gone"
        else:
            assert made.target.cascade


@settings(max_examples=300)
@given(situations())
def test_an_object_of_a_kind_that_cannot_be_listed_is_left_alone(made: Situation) -> None:
    plan = decide(made).plan
    for action in plan.actions if plan and made.target.assigned else ():
        state = made.cluster.kinds[f"{action.ref.api_version}/{action.ref.kind}"]
        assert state.code == ""


@given(situations())
def test_a_plan_is_in_order_names_each_object_once_and_deletes_last(made: Situation) -> None:
    plan = decide(made).plan
    if plan is None:
        return
    assert plan.actions
    waves = [action.wave for action in plan.actions]
    assert waves == sorted(waves)
    deletes = [action.verb is Verb.DELETE for action in plan.actions]
    assert deletes == sorted(deletes)
    identities = [action.ref.identity for action in plan.actions]
    assert len(set(identities)) == len(identities)


@given(situations())
def test_nothing_is_planned_while_suspended_or_cut_off(made: Situation) -> None:
    if made.suspension or not made.cluster.connected:
        assert decide(made).plan is None


@given(situations())
def test_a_failed_correction_is_left_alone_until_its_time_unless_there_is_news(
    made: Situation,
) -> None:
    last = made.corrections.last
    if last is None or not last.code or not last.waits_until(made.now):
        return
    news = [
        made.desired.position,
        made.application.position if made.application else 0,
        made.target.request.position if made.target.request else 0,
        made.target.adoption.position if made.target.adoption else 0,
    ]
    decision = decide(made)
    if max(news) <= last.position and made.cluster.since <= last.at:
        if decision.plan is None:
            found = findings(made)
            assert decision.until in (0, last.retry_at, found.until if found else 0)
        else:
            # What drifted beside what failed is put right meanwhile.
            assert decision.plan.attempt == 0
            assert {action.reason for action in decision.plan.actions} <= REPAIRS
            assert not {a.ref.identity for a in decision.plan.actions} & set(last.failed)


@given(situations())
def test_every_difference_that_asks_for_work_has_a_plan_or_a_reason_on_record(
    made: Situation,
) -> None:
    if not made.target.assigned or made.spec is None or not made.desired.position:
        return
    found = compare(made)
    work = found.changes or found.repairs or found.prunes
    hard = [held for held in found.held if not held.soft]
    if not work and not hard:
        return
    decision = decide(made)
    if any(held.code == NOT_LISTED for held in hard):
        assert decision.waiting
        assert decision.facts == ()
        return
    after = folded(made, decision.facts)
    assert decision.plan or decision.until or after.target.hold is not None
    assert not any(isinstance(fact, TargetSynced) for fact in decision.facts)


@given(situations())
def test_a_target_without_a_difference_gets_no_plan(made: Situation) -> None:
    if not made.target.assigned or made.spec is None or not made.desired.position:
        return
    found = compare(made)
    if not (found.changes or found.repairs or found.prunes):
        assert decide(made).plan is None


@given(situations())
def test_a_drift_case_is_opened_grown_and_ended_once(made: Situation) -> None:
    facts = decide(made).facts
    detected = [fact for fact in facts if isinstance(fact, DriftDetected)]
    resolved = [fact for fact in facts if isinstance(fact, DriftResolved)]
    assert len(detected) + len(resolved) <= 1
    case = made.drift.open
    if detected and case:
        assert detected[0].case == case.case
        assert detected[0].differences != case.differences
    if resolved:
        assert case
        assert resolved[0].case == case.case
    after = folded(made, facts)
    if after.drift.open is not None and made.target.assigned and made.desired.position:
        plan = decide(made).plan
        if plan and any(action.reason in REPAIRS for action in plan.actions):
            assert plan.drift_case == after.drift.open.case


@given(situations())
def test_health_on_the_way_up_is_said_once_and_not_for_each_message(made: Situation) -> None:
    for fact in decide(made).facts:
        if isinstance(fact, HealthChanged) and fact.health is Health.PROGRESSING:
            assert made.target.health is not Health.PROGRESSING


@given(situations())
def test_a_hold_is_recorded_only_when_it_changes(made: Situation) -> None:
    known = made.target.hold
    for fact in decide(made).facts:
        if isinstance(fact, ReconcileHeld) and known:
            assert (fact.code, fact.message) != (known.code, known.message)


@given(situations())
def test_what_is_shown_to_be_the_same_is_not_planned_for(made: Situation) -> None:
    if not made.target.assigned or made.spec is None or not made.desired.position:
        return
    shown = [item for item in all_differences(made) if item.kind not in SHOWN_ONLY]
    plan = decide(made).plan
    if plan is not None:
        assert {item.ref.identity for item in shown} >= {a.ref.identity for a in plan.actions}


@given(situations(), st.integers(0, 20))
def test_a_wait_for_synced_ends_only_past_its_position_and_not_while_anything_is_open(
    made: Situation, after: int
) -> None:
    standing = status(made)
    if satisfied(standing, "synced", "", after):
        assert standing.sync is SyncState.SYNCED
        assert made.seen >= after
        assert made.target.assigned
        assert made.corrections.plan is None
        assert made.drift.open is None
        assert made.open_request is None
        assert made.desired.failure is None
        assert made.is_current


@given(situations())
def test_a_plan_names_the_facts_that_it_was_made_on(made: Situation) -> None:
    plan = decide(made).plan
    if isinstance(plan, CorrectionPlanned):
        assert plan.facts.seen == made.seen
        assert plan.facts.desired == made.desired.position
        # News starts the count afresh.
        assert plan.attempt in (1, made.corrections.failures + 1)
        assert plan.cause in PLAN_CAUSES


@given(situations())
def test_what_is_ignored_or_accepted_is_no_case_and_no_reason_to_act(made: Situation) -> None:
    if not made.target.assigned or made.spec is None or not made.desired.position:
        return
    found = compare(made)
    counted = {(item.ref.identity, item.path) for item in found.drift}
    assert not counted & {(item.ref.identity, item.path) for item in found.ignored}
    drifted = {item.ref.identity for item in found.drift}
    assert {action.ref.identity for action in found.repairs} <= drifted
    for fact in decide(made).facts:
        if isinstance(fact, DriftDetected):
            assert {item.kind for item in fact.differences}.isdisjoint(
                {DifferenceKind.IGNORED, DifferenceKind.ACCEPTED}
            )


@given(situations())
def test_drift_is_put_right_held_or_left_to_a_commit_of_the_same_object(made: Situation) -> None:
    if not made.target.assigned or made.spec is None or not made.desired.position:
        return
    found = compare(made)
    met = {action.ref.identity for action in (*found.repairs, *found.changes)}
    met |= {held.ref.identity for held in found.held}
    assert {item.ref.identity for item in found.drift} <= met
