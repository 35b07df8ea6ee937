"""What a comparison finds, case by case."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from engine.decide.compare import (
    CHANGED,
    DRIFTED,
    EXTRA,
    NEW,
    NO_SUCH_KIND,
    UNRECORDED,
    compare,
)
from engine.decide.drift import REDACTED
from engine.decide.show import all_differences
from events.vocabulary import Desired, DifferenceKind, Health, ObjectRef, Presence, Verb
from projections.clusters import ClusterDocument
from tests.deciding import Stored, application, kinds, observed, ref_of, situation

MAP = ref_of("ConfigMap")


def cluster(**codes: str) -> ClusterDocument:
    return ClusterDocument(connected=True, kinds=kinds(codes))


def test_what_is_as_it_was_applied_is_no_difference() -> None:
    stored = Stored()
    found = compare(situation({MAP: "one"}, [observed(stored, MAP)], stored))
    assert [*found.changes, *found.repairs, *found.prunes, *found.drift, *found.held] == []
    assert found.health is Health.HEALTHY


def test_what_is_not_there_is_applied_without_force() -> None:
    (action,) = compare(situation({MAP: "one"})).changes
    assert (action.verb, action.reason, action.force, action.uid) == (Verb.APPLY, NEW, False, "")


def test_what_git_changed_is_applied_to_just_what_was_observed() -> None:
    stored = Stored()
    there = observed(stored, MAP)
    (action,) = compare(situation({MAP: "two"}, [there], stored)).changes
    assert (action.reason, action.force) == (CHANGED, True)
    seen = (there.uid, there.resource_version, there.digest)
    assert (action.uid, action.resource_version, action.observed) == seen


def test_what_was_edited_behind_git_is_drift_with_its_path() -> None:
    stored = Stored()
    found = compare(situation({MAP: "one"}, [observed(stored, MAP, live="two")], stored))
    (action,) = found.repairs
    (difference,) = found.drift
    assert action.reason == DRIFTED
    assert (difference.path, difference.before, difference.after) == (".data.key", "one", "two")


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ({"presence": Presence.ABSENT}, DifferenceKind.MISSING),
        ({"recreated": True}, DifferenceKind.RECREATED),
    ],
)
def test_what_was_deleted_or_made_anew_behind_git_is_drift(
    how: dict[str, object], kind: DifferenceKind
) -> None:
    stored = Stored()
    found = compare(situation({MAP: "one"}, [observed(stored, MAP, **how)], stored))  # type: ignore[arg-type]
    assert kind in {difference.kind for difference in found.drift}
    # With force: who makes anew what was ours in between has made no claim to it.
    assert [action.force for action in found.repairs] == [True]


def test_an_edit_that_a_commit_overtakes_is_drift_and_is_corrected_as_a_change() -> None:
    stored = Stored()
    found = compare(situation({MAP: "two"}, [observed(stored, MAP, live="three")], stored))
    assert found.drift
    assert [action.reason for action in found.changes] == [CHANGED]
    assert not found.repairs


def test_what_has_our_name_on_it_and_no_apply_on_record_is_applied() -> None:
    stored = Stored()
    (action,) = compare(
        situation({MAP: "one"}, [observed(stored, MAP, applied=None)], stored)
    ).changes
    assert action.reason == UNRECORDED


def test_what_is_no_longer_desired_is_deleted_just_as_it_was_observed() -> None:
    stored = Stored()
    there = observed(stored, MAP)
    (action,) = compare(situation({}, [there], stored)).prunes
    assert (action.verb, action.reason) == (Verb.DELETE, EXTRA)
    assert (action.uid, action.observed) == (there.uid, there.digest)


def test_with_prune_off_it_is_left_and_said() -> None:
    stored = Stored()
    made = situation({}, [observed(stored, MAP)], stored, application=application(prune=False))
    found = compare(made)
    assert not found.prunes
    assert [(held.code, held.soft) for held in found.held] == [("prune-off", True)]


@pytest.mark.parametrize("kind", ["Namespace", "PersistentVolumeClaim", "CustomResourceDefinition"])
def test_protected_kinds_are_never_pruned(kind: str) -> None:
    stored = Stored()
    found = compare(situation({}, [observed(stored, ref_of(kind))], stored))
    assert not found.prunes
    assert [(held.code, held.soft) for held in found.held] == [("protected", True)]


def test_a_desired_object_of_a_kind_that_may_not_be_listed_is_held_and_not_deleted() -> None:
    stored = Stored()
    made = situation({MAP: "one"}, [observed(stored, MAP)], stored, cluster=cluster(ConfigMap="x"))
    found = compare(made)
    assert [*found.changes, *found.repairs, *found.prunes] == []
    assert [(held.code, held.soft) for held in found.held] == [("x", False)]
    assert found.health is Health.UNKNOWN


def test_an_undesired_object_of_a_kind_that_may_not_be_listed_is_not_deleted() -> None:
    stored = Stored()
    made = situation(
        {ref_of("Secret"): "one"},
        [observed(stored, MAP), observed(stored, ref_of("Secret"))],
        stored,
        cluster=cluster(ConfigMap="forbidden"),
    )
    found = compare(made)
    assert not found.prunes
    assert [(held.code, held.ref) for held in found.held] == [("forbidden", MAP)]


def test_other_kinds_go_on_beside_one_that_may_not_be_listed() -> None:
    stored = Stored()
    other = ref_of("Deployment")
    made = situation(
        {MAP: "one", other: "two"},
        [observed(stored, MAP), observed(stored, other)],
        stored,
        cluster=cluster(ConfigMap="forbidden"),
    )
    assert [action.ref for action in compare(made).changes] == [other]


def test_objects_of_a_kind_that_the_cluster_no_longer_has_are_gone_with_it() -> None:
    stored = Stored()
    made = situation(
        {}, [observed(stored, ref_of("Widget"))], stored, cluster=cluster(Widget=NO_SUCH_KIND)
    )
    found = compare(made)
    assert [*found.prunes, *found.held] == []


def test_an_object_that_is_read_in_the_version_its_kind_is_desired_in_is_pruned() -> None:
    stored = Stored()
    old = ObjectRef("apps/v1beta1", "Deployment", "shop", "old")
    made = situation({ref_of("Deployment"): "one"}, [observed(stored, old)], stored)
    assert [action.ref for action in compare(made).prunes] == [old]


def test_somebodys_copy_with_our_annotation_on_it_is_left() -> None:
    stored = Stored()
    there = observed(stored, MAP, applied=None, mine=False)
    found = compare(situation({}, [there], stored))
    assert not found.prunes
    assert [(held.code, held.soft) for held in found.held] == [("copy", True)]


def test_what_we_applied_before_a_kill_could_record_it_is_pruned() -> None:
    stored = Stored()
    found = compare(situation({}, [observed(stored, MAP, applied=None)], stored))
    assert [action.ref for action in found.prunes] == [MAP]


def test_what_is_being_deleted_is_waited_for() -> None:
    stored = Stored()
    there = observed(stored, MAP, presence=Presence.TERMINATING)
    found = compare(situation({MAP: "one"}, [there], stored))
    assert [(held.code, held.soft) for held in found.held] == [("terminating", False)]
    assert found.health is Health.PROGRESSING


def test_where_a_body_was_redacted_the_object_is_applied_again() -> None:
    stored = Stored()
    there = observed(stored, MAP, live="two")
    assert there.applied is not None
    for digest in (there.applied.kept, there.body):
        bodies = {name: body for name, body in stored.bodies.items() if name != digest}
        made = replace(situation({MAP: "one"}, [there], stored), bodies=bodies)
        found = compare(made)
        assert [action.reason for action in found.repairs] == [DRIFTED]
        assert [difference.after for difference in found.drift] == [REDACTED]
        assert REDACTED in [difference.after for difference in all_differences(made)]


def test_two_manifests_of_one_object_are_held_once_their_namespace_is_filled_in() -> None:
    made = situation({MAP: "one"})
    twice = (*made.inventory, Desired(MAP, "desired:two"))
    made = replace(made, inventory=twice)
    found = compare(made)
    assert len(found.changes) == 1
    assert [held.code for held in found.held] == ["duplicate-object"]


def test_the_worst_health_names_its_object() -> None:
    stored = Stored()
    good = observed(stored, MAP)
    bad = observed(stored, ref_of("Deployment"), health=Health.DEGRADED, message="crash loop")
    found = compare(situation({MAP: "one", bad.ref: "one"}, [good, bad], stored))
    assert (found.health, found.health_message) == (
        Health.DEGRADED,
        "shop/Deployment/a: crash loop",
    )
