"""What a simulated API server refuses names, keys and sizes with; `tests/e2e` has the truth."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.simulator.names import check_data, check_metadata

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("metadata", "field", "why"),
    [
        ({"labels": {"a b": "c"}}, "metadata.labels", "name part must consist of"),
        ({"labels": {"UPPER/a": "c"}}, "metadata.labels", "prefix part a lowercase RFC 1123"),
        ({"labels": {"/a": "c"}}, "metadata.labels", "prefix part must be non-empty"),
        ({"labels": {"a/b/c": "c"}}, "metadata.labels", "a valid label key must consist of"),
        ({"labels": {"a" * 64: "c"}}, "metadata.labels", "name part must be no more than 63"),
        ({"labels": {"a": "c d"}}, "metadata.labels", "a valid label must be an empty string"),
        ({"labels": {"a": "c" * 64}}, "metadata.labels", "must be no more than 63 bytes"),
        ({"annotations": {"a b": "c"}}, "metadata.annotations", "name part must consist of"),
        ({"annotations": {"a": "c" * 262_144}}, "metadata.annotations", "Too long"),
        ({"finalizers": ["mine"]}, "metadata.finalizers[0]", "nor is it fully qualified"),
    ],
)
def test_metadata_that_no_server_takes(metadata: Any, field: str, why: str) -> None:
    (found,) = check_metadata(metadata)
    assert found["field"] == field
    assert why in found["message"]


def test_metadata_that_every_server_takes() -> None:
    metadata = {
        "labels": {"app.kubernetes.io/name": "Shop_1", "empty": ""},
        "annotations": {"Example.org/Any_Name": "any text: \u00e4 \n"},
        "finalizers": ["foregroundDeletion", "example.org/hold"],
    }
    assert not list(check_metadata(metadata))


@pytest.mark.parametrize("key", ["a b", "", ".", "..", "..a", "x" * 254, "a/b"])
def test_a_key_that_is_no_file_name_is_refused(key: str) -> None:
    (found,) = check_data({"kind": "ConfigMap", "data": {key: "1"}})
    assert found["field"] == f"data[{key}]"


def test_values_are_measured_as_they_are_stored() -> None:
    assert not list(check_data({"kind": "ConfigMap", "data": {"a": "x" * MIB}}))
    (found,) = check_data({"kind": "ConfigMap", "data": {"a": "x" * MIB, "b": "y"}})
    assert (found["reason"], found["field"]) == ("FieldValueTooLong", "[]")
    encoded = "QUFB" * (MIB // 3)
    assert not list(check_data({"kind": "Secret", "data": {"a": encoded}}))
    (found,) = check_data({"kind": "Secret", "data": {"a": encoded, "b": "QUFB"}})
    assert found["field"] == "data"


@given(st.dictionaries(st.text(), st.text()), st.lists(st.text()))
def test_any_metadata_is_judged(names: dict[str, str], finalizers: list[str]) -> None:
    found = check_metadata({"labels": names, "annotations": names, "finalizers": finalizers})
    assert all(each["reason"] and each["message"] for each in found)
