"""Which clusters an application goes to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.decide.assignment import assignments, selected
from events.catalog import TargetAssigned, TargetUnassigned
from projections.declared import DeclaredDocument
from projections.targets import TargetDocument
from tests.deciding import TARGET, application, target

ALL = ("dev", "prod", "stage")


def cluster(name: str, project: str = "default", **labels: str) -> DeclaredDocument:
    return DeclaredDocument("Cluster", project, name, {}, labels, 1, 0, "user:ada")


def wanting(
    clusters: tuple[str, ...] = (), labels: dict[str, str] | None = None, **changes: bool
) -> DeclaredDocument:
    targets: dict[str, object] = {"clusters": list(clusters), "namespace": "shop"}
    if labels:
        targets["selector"] = {"matchLabels": labels}
    made = application()
    return replace(made, spec=made.spec | {"targets": targets}, **changes)


def on(cluster_name: str, **changes: object) -> TargetDocument:
    return target(cluster=cluster_name, **changes)


def test_clusters_are_selected_by_name_or_by_all_labels_within_the_project() -> None:
    clusters = [
        cluster("dev", stage="dev"),
        cluster("prod", stage="prod", region="eu"),
        cluster("west", stage="prod", region="us"),
        cluster("theirs", "other", stage="prod", region="eu"),
        replace(cluster("gone", stage="prod", region="eu"), withdrawn=True),
    ]
    assert selected(wanting(("dev",)), clusters) == ["dev"]
    assert selected(wanting(labels={"stage": "prod", "region": "eu"}), clusters) == ["prod"]
    assert selected(wanting(("dev", "gone"), {"stage": "prod"}), clusters) == [
        "dev",
        "prod",
        "west",
    ]
    assert selected(wanting(("dev",), withdrawn=True), clusters) == []


def test_a_cluster_that_is_no_longer_selected_keeps_its_objects() -> None:
    (change,) = assignments(wanting(("dev",)), [cluster("dev")], [on("dev"), on("prod")])
    assert change.target.cluster == "prod"
    assert change.fact == TargetUnassigned("cluster not selected", cascade=False)


def test_a_withdrawn_application_deletes_only_where_that_was_asked_for() -> None:
    for cascade in (False, True):
        (change,) = assignments(wanting(withdrawn=True, cascade=cascade), [], [on("prod")])
        assert change.fact == TargetUnassigned("application withdrawn", cascade)


def test_asking_for_the_deletion_later_is_heard_too() -> None:
    left = on("prod", assigned=False)
    (change,) = assignments(wanting(withdrawn=True, cascade=True), [], [left])
    assert change.fact == TargetUnassigned("application withdrawn", cascade=True)


def test_another_default_namespace_is_another_assignment() -> None:
    (change,) = assignments(wanting(("prod",)), [cluster("prod")], [on("prod", namespace="old")])
    assert change.fact == TargetAssigned(TARGET.application, "prod", "shop")


@given(
    st.sets(st.sampled_from(ALL)),
    st.sets(st.sampled_from(ALL)),
    st.dictionaries(st.sampled_from(ALL), st.tuples(st.booleans(), st.booleans())),
    st.booleans(),
    st.booleans(),
)
def test_once_assigned_there_is_nothing_more_to_assign(
    wanted: set[str],
    declared: set[str],
    known: dict[str, tuple[bool, bool]],
    withdrawn: bool,
    cascade: bool,
) -> None:
    app = wanting(tuple(sorted(wanted)), withdrawn=withdrawn, cascade=withdrawn and cascade)
    clusters = [cluster(name) for name in sorted(declared)]
    targets = {name: on(name, assigned=a, cascade=c and not a) for name, (a, c) in known.items()}
    changes = assignments(app, clusters, targets.values())
    for change in changes:
        name = change.target.cluster
        match change.fact:
            case TargetAssigned(namespace=namespace):
                targets[name] = on(name, namespace=namespace)
            case TargetUnassigned(cascade=asked):
                targets[name] = on(name, assigned=False, cascade=asked)
                assert not asked or app.cascade
    assert assignments(app, clusters, targets.values()) == []
    now = {name for name, document in targets.items() if document.assigned}
    assert now == (set() if withdrawn else wanted & declared)
