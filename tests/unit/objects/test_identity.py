"""What a manifest is, and which manifests are refused."""

from typing import Any

import pytest

from engine.objects.identity import ObjectRefused, ref_of, same
from events.vocabulary import ObjectRef


def test_a_reference_is_read_from_an_object() -> None:
    obj = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop"},
    }
    assert ref_of(obj) == ObjectRef("apps/v1", "Deployment", "shop", "web")


def test_an_object_without_a_namespace_has_an_empty_one() -> None:
    obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    assert ref_of(obj).namespace == ""
    obj["metadata"] = {"name": "shop", "namespace": None}
    assert ref_of(obj).namespace == ""


@pytest.mark.parametrize(
    ("obj", "code"),
    [
        ([], "not-an-object"),
        ({}, "api-version-missing"),
        ({"apiVersion": 1, "kind": "A"}, "api-version-missing"),
        ({"apiVersion": "v1"}, "kind-missing"),
        ({"apiVersion": "v1", "kind": ""}, "kind-missing"),
        ({"apiVersion": "v1", "kind": "K" * 600}, "kind-missing"),
        ({"apiVersion": "v1", "kind": "Pod"}, "metadata-missing"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": []}, "metadata-missing"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {}}, "name-missing"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": 3}}, "name-missing"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "a-"}}, "generate-name"),
        (
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": 1}},
            "bad-namespace",
        ),
    ],
)
def test_an_object_without_identity_is_refused_with_a_code(obj: Any, code: str) -> None:
    with pytest.raises(ObjectRefused) as refused:
        ref_of(obj)
    assert refused.value.code == code
    assert refused.value.message


def test_two_versions_of_one_api_name_the_same_object() -> None:
    old = ObjectRef("autoscaling/v1", "HorizontalPodAutoscaler", "shop", "web")
    new = ObjectRef("autoscaling/v2", "HorizontalPodAutoscaler", "shop", "web")
    assert same(old, new)
    assert old.identity == new.identity
    assert not same(old, ObjectRef("v1", "HorizontalPodAutoscaler", "shop", "web"))
    assert not same(old, ObjectRef("autoscaling/v1", "HorizontalPodAutoscaler", "", "web"))
