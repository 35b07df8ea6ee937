"""How an object is marked as ours, and when it counts as ours."""

import re

import pytest

from engine.objects.identity import ObjectRefused
from engine.objects.ownership import (
    OWNER_ANNOTATION,
    OWNER_LABEL,
    label_selector,
    label_value,
    owner_of,
    stamp,
)
from engine.ports import Owner

OWNER = Owner("log1", "default", "podinfo")


def test_a_stamped_object_has_label_and_annotation_and_the_input_has_not() -> None:
    obj = {"kind": "ConfigMap", "metadata": {"name": "a", "labels": {"app": "web"}}}
    stamped = stamp(obj, OWNER)
    assert stamped["metadata"]["labels"] == {"app": "web", OWNER_LABEL: label_value(OWNER)}
    assert stamped["metadata"]["annotations"] == {OWNER_ANNOTATION: "log1/default/podinfo"}
    assert obj == {"kind": "ConfigMap", "metadata": {"name": "a", "labels": {"app": "web"}}}
    assert owner_of(stamped) == OWNER


def test_an_object_cannot_claim_another_owner_in_its_manifest() -> None:
    forged = {"metadata": {"annotations": {OWNER_ANNOTATION: "other/default/web"}}}
    assert owner_of(stamp(forged, OWNER)) == OWNER


def test_the_label_is_a_valid_label_value_and_selects_one_owner() -> None:
    value = label_value(OWNER)
    assert re.fullmatch(r"[0-9a-f]{32}", value)
    assert value != label_value(Owner("log1", "default", "podinf"))
    assert label_selector() == "trueup.dev/owner"
    assert label_selector(OWNER) == f"trueup.dev/owner={value}"


def test_a_changed_or_removed_label_leaves_the_object_ours() -> None:
    stamped = stamp({"metadata": {"name": "a"}}, OWNER)
    stamped["metadata"]["labels"][OWNER_LABEL] = "other"
    assert owner_of(stamped) == OWNER
    del stamped["metadata"]["labels"]
    assert owner_of(stamped) == OWNER


def test_a_replica_set_that_inherited_the_annotation_is_not_ours() -> None:
    replica_set = {
        "metadata": {
            "annotations": {OWNER_ANNOTATION: OWNER.annotation},
            "ownerReferences": [{"kind": "Deployment", "name": "web", "controller": True}],
        }
    }
    assert owner_of(replica_set) is None
    replica_set["metadata"]["ownerReferences"] = [{"kind": "Thing", "name": "web"}]  # type: ignore[list-item]
    assert owner_of(replica_set) == OWNER


@pytest.mark.parametrize("value", ["", "a", "a/b", "a/b/", "a/b/c/d", "//", 7, None])
def test_a_malformed_annotation_is_nobodys(value: object) -> None:
    assert owner_of({"metadata": {"annotations": {OWNER_ANNOTATION: value}}}) is None


@pytest.mark.parametrize("metadata", [[], {"labels": "x"}, {"annotations": []}])
def test_metadata_that_is_no_map_is_refused(metadata: object) -> None:
    with pytest.raises(ObjectRefused) as refused:
        stamp({"metadata": metadata}, OWNER)
    assert refused.value.code == "bad-metadata"
