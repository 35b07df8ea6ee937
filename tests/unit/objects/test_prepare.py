"""What is sent: the rules of "Before applying"."""

from base64 import b64decode
from copy import deepcopy
from typing import Any

import pytest

from engine.objects.identity import ObjectRefused
from engine.objects.prepare import prepare


def test_what_only_the_server_writes_is_dropped() -> None:
    exported = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "a",
            "creationTimestamp": None,
            "uid": "1",
            "resourceVersion": "2",
            "generation": 3,
            "selfLink": "/x",
            "managedFields": [{}],
            "finalizers": ["x/y"],
        },
        "status": {"phase": "x"},
    }
    before = deepcopy(exported)
    assert prepare(exported)["metadata"] == {"name": "a", "finalizers": ["x/y"]}
    assert "status" not in prepare(exported)
    assert exported == before


@pytest.mark.parametrize("empty", [None, {}])
def test_empty_labels_and_annotations_are_dropped(empty: Any) -> None:
    obj = {"metadata": {"name": "a", "labels": empty, "annotations": empty}, "spec": {"x": empty}}
    assert prepare(obj) == {"metadata": {"name": "a"}, "spec": {"x": empty}}


def test_string_data_becomes_data_and_wins() -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "a"},
        "data": {"old": "b2xk", "both": "b2xk"},
        "stringData": {"both": "néw", "none": None},
    }
    prepared = prepare(secret)
    assert "stringData" not in prepared
    assert prepared["data"]["old"] == "b2xk"
    assert b64decode(prepared["data"]["both"]).decode() == "néw"
    assert prepared["data"]["none"] == ""


@pytest.mark.parametrize("bad", [{"k": 12345678}, ["hunter22"], {"k": "hunter22\ud800"}])
def test_a_bad_secret_is_refused_without_showing_its_value(bad: Any) -> None:
    with pytest.raises(ObjectRefused) as refused:
        prepare({"apiVersion": "v1", "kind": "Secret", "stringData": bad})
    assert refused.value.code == "bad-secret"
    assert "hunter22" not in refused.value.message
    assert "12345678" not in refused.value.message
    assert refused.value.__cause__ is None


def test_another_groups_secret_keeps_its_string_data() -> None:
    obj = {"apiVersion": "x.io/v1", "kind": "Secret", "stringData": {"a": "b"}}
    assert prepare(obj) == obj


def test_an_aggregated_cluster_role_keeps_no_rules() -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "aggregationRule": {"clusterRoleSelectors": []},
        "rules": [],
    }
    assert "rules" not in prepare(role)
    del role["aggregationRule"]
    assert prepare(role)["rules"] == []
