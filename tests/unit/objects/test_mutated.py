"""What the server made of a manifest."""

from typing import Any

import pytest

from engine.objects.mutated import mutated
from events.vocabulary import DifferenceKind
from tests.unit.objects.test_kept import REF, applied, obj


def told(sent: Any, answer: Any, fields: Any = None) -> list[tuple[str, Any, Any]]:
    found = mutated(obj(sent), obj(answer, applied(fields or {})), REF)
    assert all(d.kind is DifferenceKind.MUTATED for d in found)
    return [(d.path, d.before, d.after) for d in found]


def test_changed_and_dropped_fields_are_told() -> None:
    sent = {"image": "app:1", "cpu": "0.5", "gone": {"a": 1}, "same": True}
    answer = {"image": "mirror/app:1", "cpu": "500m", "same": True, "added": 1}
    assert told(sent, answer) == [
        (".spec.image", "app:1", "mirror/app:1"),
        (".spec.cpu", "0.5", "500m"),
        (".spec.gone", {"a": 1}, None),
    ]


@pytest.mark.parametrize("nothing", [None, {}, [], "", 0, False, {"a": None, "b": {"c": ""}}])
def test_what_names_nothing_may_be_left_out(nothing: Any) -> None:
    assert told({"a": nothing}, {}) == []
    assert told({"a": nothing}, {"a": None}) == []


@pytest.mark.parametrize("empty", [None, {}, []])
def test_defaults_in_place_of_an_empty_are_no_change(empty: Any) -> None:
    assert told({"a": empty}, {"a": {"x": 1}}) == []
    assert told({"a": empty}, {"a": [1]}) == []
    assert told({"a": empty}, {"a": "x"}) == []


def test_a_zero_that_came_back_as_something_is_a_change() -> None:
    assert told({"a": False}, {"a": True}) == [(".spec.a", False, True)]
    assert told({"a": ""}, {"a": "x"}) == [(".spec.a", "", "x")]


def test_numbers_are_compared_by_value_and_nothing_else_is() -> None:
    assert told({"a": 1.0}, {"a": 1}) == []
    assert told({"a": 1}, {"a": True}) == [(".spec.a", 1, True)]
    assert told({"a": 1}, {"a": "1"}) == [(".spec.a", 1, "1")]


def test_items_are_aligned_by_the_keys_of_managed_fields() -> None:
    key = 'k:{"port":80,"protocol":"TCP"}'
    fields = {"f:p": {key: {".": {}, "f:port": {}, "f:x": {}}}}
    answer = {"p": [{"port": 1, "protocol": "TCP"}, {"port": 80, "protocol": "TCP", "x": 2}]}
    assert told({"p": [{"port": 80, "x": 2}]}, answer, fields) == []
    assert told({"p": [{"port": 80, "x": 1}]}, answer, fields) == [
        ('.spec.p[port=80,protocol="TCP"].x', 1, 2)
    ]
    assert told({"p": [{"port": 9, "x": 1}]}, answer, fields) == [
        (".spec.p[port=9]", {"port": 9, "x": 1}, None)
    ]


def test_an_item_without_its_default_key_is_not_taken_for_its_neighbour() -> None:
    tcp, udp = 'k:{"port":80,"protocol":"TCP"}', 'k:{"port":80,"protocol":"UDP"}'
    fields = {"f:p": {tcp: {".": {}, "f:x": {}}, udp: {".": {}, "f:x": {}}}}
    answer = {
        "p": [
            {"port": 80, "protocol": "SCTP", "x": 3},
            {"port": 80, "protocol": "UDP", "x": 2},
            {"port": 80, "protocol": "TCP", "x": 1},
        ]
    }
    sent = {"p": [{"port": 80, "x": 1}, {"port": 80, "protocol": "UDP", "x": 2}]}
    assert told(sent, answer, fields) == []


def test_sets_are_compared_by_member_and_other_lists_by_place() -> None:
    fields = {"f:s": {'v:"a"': {}}, "f:l": {}}
    assert told({"s": ["b", "a"]}, {"s": ["a", "x", "b"]}, fields) == []
    assert told({"s": ["b"]}, {"s": ["a"]}, fields) == [('.spec.s[="b"]', "b", None)]
    assert told({"l": [{"a": 1}]}, {"l": [{"a": 2, "default": 1}]}, fields) == [
        (".spec.l[0].a", 1, 2)
    ]
    assert told({"l": [1]}, {"l": [1, 2]}, fields) == [(".spec.l", [1], [1, 2])]


def test_preconditions_in_what_was_sent_are_no_fields() -> None:
    sent = obj({"a": 1})
    sent["metadata"].update(uid="old", resourceVersion="1")
    answer = obj({"a": 1}, applied({"f:a": {}}))
    answer["metadata"].update(uid="new", resourceVersion="2")
    assert mutated(sent, answer, REF) == []
