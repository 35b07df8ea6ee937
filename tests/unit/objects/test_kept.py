"""The kept form, where a rule needs its own case."""

from typing import Any

import orjson
import pytest

from engine.objects.compare import MAX_DIFFERENCES
from engine.objects.identity import ObjectRefused
from engine.objects.kept import Kept, compare_with, differences, extract, freeze
from engine.objects.typed import OMITTED
from events.vocabulary import Difference, DifferenceKind, ObjectRef

REF = ObjectRef("x.io/v1", "Thing", "", "thing")


def obj(spec: Any, *entries: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "x.io/v1",
        "kind": "Thing",
        "metadata": {"name": "thing", "managedFields": list(entries)},
        "spec": spec,
    }


def applied(fields: Any, manager: str = "trueup", **more: Any) -> dict[str, Any]:
    base = {"manager": manager, "operation": "Apply", "fieldsV1": {"f:spec": fields}}
    return {**base, **more}


def updated(fields: Any, manager: str = "other", **more: Any) -> dict[str, Any]:
    return applied(fields, manager, operation="Update", **more)


def kept_of(spec: Any, fields: Any, sent: Any = None) -> Kept:
    kept = freeze(obj(spec, applied(fields)), sent=None if sent is None else obj(sent))
    assert kept is not None
    return kept


def found(kept: Kept, spec: Any, *entries: dict[str, Any]) -> list[tuple[Any, ...]]:
    mine = {"manager": "trueup", "operation": "Apply", "fieldsV1": kept.owned}
    listed = differences(kept, obj(spec, mine, *entries), REF)
    return [(d.kind.value, d.path, d.before, d.after) for d in listed]


def test_an_object_that_nobody_applied_for_us_has_no_kept_form() -> None:
    for entry in (
        applied({"f:a": {}}, "kubectl"),
        updated({"f:a": {}}, "trueup"),
        applied({"f:a": {}}, subresource="status"),
    ):
        assert freeze(obj({"a": 1}, entry)) is None
    assert freeze({"kind": "Thing"}) is None
    assert freeze(obj({"a": 1}, applied({"f:a": {}}, "mine")), "mine") is not None


@pytest.mark.parametrize("after", [True, 1.0, "1", [1], 2])
def test_values_are_compared_by_type(after: Any) -> None:
    kept = kept_of({"a": 1}, {"f:a": {}})
    assert found(kept, {"a": after}) == [("changed", ".spec.a", 1, after)]
    nested = kept_of({"a": [{"b": 1}]}, {"f:a": {}})
    live = [{"b": after}]
    assert found(nested, {"a": live}) == [("changed", ".spec.a", [{"b": 1}], live)]


def test_null_is_as_good_as_gone() -> None:
    kept = kept_of({"a": 1, "m": {"b": 1}}, {"f:a": {}, "f:m": {"f:b": {}}})
    assert found(kept, {"a": None, "m": None}) == [
        ("removed", ".spec.a", 1, None),
        ("removed", ".spec.m", {"b": 1}, None),
    ]


def test_a_map_that_became_a_scalar_is_one_change() -> None:
    kept = kept_of({"m": {"a": 1, "b": 2}}, {"f:m": {"f:a": {}, "f:b": {}}})
    assert found(kept, {"m": "x"}) == [("changed", ".spec.m", {"a": 1, "b": 2}, "x")]


@pytest.mark.parametrize("empty", [{}, []])
def test_a_named_empty_counts_only_when_it_is_gone(empty: Any) -> None:
    kept = kept_of({"e": empty}, {"f:e": {}}, {"e": empty})
    full: Any = {"x": 1} if empty == {} else [{"x": 1}]
    below = updated({"f:e": {"f:x": {}}})
    assert found(kept, {"e": full}, below) == []
    assert found(kept, {}) == [("removed", ".spec.e", empty, None)]


def test_a_named_empty_that_another_owns_as_a_whole_was_replaced() -> None:
    kept = kept_of({"e": {}}, {"f:e": {}})
    atomic = updated({"f:e": {}})
    assert found(kept, {"e": {"x": 1}}, atomic) == [("changed", ".spec.e", {}, {"x": 1})]
    live = obj({"e": {"x": 1}}, atomic)
    assert extract(kept, live)["spec"] == {"e": {"x": 1}}
    assert found(kept, {"e": {}}, atomic) == []


def test_a_named_empty_that_another_names_too_was_not_replaced_by_a_third() -> None:
    kept = kept_of({"e": {}}, {"f:e": {}})
    also = updated({"f:e": {}}, "also")
    assert found(kept, {"e": {"x": 1}}, also, updated({"f:e": {"f:x": {}}})) == []
    assert found(kept, {"e": [1]}, also) == [("changed", ".spec.e", {}, [1])]


def test_what_the_server_filled_is_never_taken_for_replaced() -> None:
    kept = kept_of({"e": {"default": 1}}, {"f:e": {}}, {"e": {}})
    also = applied({"f:e": {}}, "also")
    assert found(kept, {"e": {"default": 2}}, also) == []
    assert found(kept, {"e": "x"}, also) == [("changed", ".spec.e", {}, "x")]
    assert found(kept, {}, also) == [("removed", ".spec.e", {}, None)]


def test_defaults_within_a_named_empty_are_not_ours_where_what_was_sent_is_known() -> None:
    fields = {"f:strategy": {}}
    defaulted = {"strategy": {"type": "RollingUpdate"}}
    kept = kept_of(defaulted, fields, {"strategy": {}})
    assert kept.values["spec"] == {"strategy": {}}
    assert found(kept, {"strategy": {"type": "Recreate"}}) == []
    atomic = kept_of(defaulted, fields, {"strategy": {"type": "RollingUpdate"}})
    assert len(found(atomic, {"strategy": {"type": "Recreate"}})) == 1


def test_a_null_that_was_sent_names_nothing() -> None:
    kept = kept_of({"replicas": 1}, {"f:replicas": {}, "f:x": {}}, {"replicas": None, "x": None})
    assert found(kept, {"replicas": 5, "x": 1}) == []


@pytest.mark.parametrize("zero", [False, 0, ""])
def test_a_zero_that_the_server_left_out_has_to_stay_unset(zero: Any) -> None:
    kept = kept_of({}, {"f:z": {}, "f:m": {"f:z": {}}}, {"z": zero, "m": {"z": zero}})
    assert found(kept, {}) == found(kept, {"z": zero, "m": {}}) == []
    assert found(kept, {"z": 7}) == [("changed", ".spec.z", None, 7)]
    inside = kept_of({"m": {}}, {"f:m": {"f:z": {}}}, {"m": {"z": zero}})
    assert found(inside, {"m": {"z": 7}}) == [("changed", ".spec.m.z", None, 7)]
    assert found(inside, {}) == []


def test_what_admission_took_away_may_come_back() -> None:
    kept = kept_of({}, {"f:a": {}}, {"a": "sent"})
    assert found(kept, {"a": "sent"}) == []


ITEMS = {
    "f:l": {
        'k:{"name":"a"}': {".": {}, "f:name": {}, "f:v": {}},
        'k:{"name":"b"}': {".": {}, "f:name": {}, "f:v": {}},
    }
}


def item(name: str, value: Any) -> dict[str, Any]:
    return {"name": name, "v": value}


def test_items_are_found_by_key_wherever_they_are() -> None:
    kept = kept_of({"l": [item("a", 1), item("x", 9), item("b", 2)]}, ITEMS)
    assert kept.values["spec"] == {"l": [item("a", 1), item("b", 2)]}
    assert found(kept, {"l": [item("y", 0), item("a", 1), item("b", 2), item("z", 0)]}) == []
    assert found(kept, {"l": [item("y", 0), item("a", 3), item("b", 2)]}) == [
        ("changed", '.spec.l[name="a"].v', 1, 3)
    ]


def test_a_vanished_item_is_one_difference() -> None:
    kept = kept_of({"l": [item("a", 1), item("b", 2)]}, ITEMS)
    for live in ([item("b", 2)], [item("b", 2), "junk", {"name": ["a"]}, None]):
        assert found(kept, {"l": live}) == [("removed", '.spec.l[name="a"]', item("a", 1), None)]
    assert [d[:2] for d in found(kept, {"l": []})] == [
        ("removed", '.spec.l[name="a"]'),
        ("removed", '.spec.l[name="b"]'),
    ]
    assert [d[:2] for d in found(kept, {})] == [("removed", ".spec.l")]


def test_a_duplicate_is_one_difference() -> None:
    kept = kept_of({"l": [item("a", 1), item("b", 2)]}, ITEMS)
    twice = [item("a", 1), item("a", 1)]
    assert found(kept, {"l": [*twice, item("b", 2)]}) == [
        ("changed", '.spec.l[name="a"]', item("a", 1), twice)
    ]


def test_of_duplicates_in_an_answer_one_is_kept() -> None:
    twice = [item("a", 1), item("a", 1)]
    kept = kept_of({"l": twice}, ITEMS)
    assert kept.values["spec"] == {"l": [item("a", 1)]}
    assert found(kept, {"l": [item("a", 1)]}) == []


def test_another_order_of_our_items_is_one_difference_without_an_author() -> None:
    kept = kept_of({"l": [item("a", 1), item("b", 2)]}, ITEMS)
    live = {"l": [item("b", 2), item("x", 0), item("a", 1)]}
    theirs = updated({"f:l": {".": {}, **ITEMS["f:l"]}})
    listed = differences(kept, obj(live, applied(ITEMS), theirs), REF)
    assert listed == [Difference(DifferenceKind.REORDERED, REF, ".spec.l", ["a", "b"], ["b", "a"])]


def test_a_key_that_a_default_filled_in_is_ours() -> None:
    fields = {"f:p": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}}}
    live = {"p": [{"port": 80, "protocol": "TCP"}]}
    kept = kept_of(live, fields, {"p": [{"port": 80}]})
    assert kept.values["spec"] == live
    moved = {"p": [{"port": 80, "protocol": "UDP"}]}
    assert [d[:2] for d in found(kept, moved)] == [("removed", '.spec.p[port=80,protocol="TCP"]')]


def test_items_are_matched_to_what_was_sent_without_its_default_keys() -> None:
    fields = {"f:p": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:x": {}}}}
    answer = {"p": [{"port": 80, "protocol": "TCP", "x": 5}]}
    kept = kept_of(answer, fields, {"p": [{"port": 80, "x": None}]})
    assert found(kept, {"p": [{"port": 80, "protocol": "TCP", "x": 6}]}) == []


def test_an_item_without_its_default_key_is_not_taken_for_its_neighbour() -> None:
    fields = {
        "f:p": {
            'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:x": {}},
            'k:{"port":80,"protocol":"UDP"}': {".": {}, "f:port": {}, "f:protocol": {}, "f:x": {}},
        }
    }
    tcp, udp = {"port": 80, "x": None}, {"port": 80, "protocol": "UDP", "x": 2}
    answer = {"p": [{**tcp, "protocol": "TCP", "x": 1}, udp]}
    kept = kept_of(answer, fields, {"p": [tcp, udp]})
    assert kept.values["spec"] == {"p": [{"port": 80, "protocol": "TCP"}, udp]}


def test_sets_have_no_order_and_each_member_counts() -> None:
    kept = kept_of({"s": ["a", "b"]}, {"f:s": {'v:"a"': {}, 'v:"b"': {}}})
    assert found(kept, {"s": ["b", "x", "a"]}) == []
    assert found(kept, {"s": ["a"]}) == [("removed", '.spec.s[="b"]', "b", None)]
    assert found(kept, {"s": ["a", "b", "b"]}) == [("changed", '.spec.s[="b"]', "b", ["b", "b"])]
    numbers = kept_of({"s": [1]}, {"f:s": {"v:1": {}}})
    assert found(numbers, {"s": [True, 1.0]}) == [("removed", ".spec.s[=1]", 1, None)]


def test_the_author_is_the_latest_that_owns_the_path() -> None:
    kept = kept_of({"a": 1}, {"f:a": {}})
    live = obj(
        {"a": 2},
        updated({"f:b": {}}, "beside", time="2026-01-09T00:00:00Z"),
        updated({"f:a": {}}, "early", time="2026-01-01T00:00:00Z"),
        updated({"f:a": {}}, "late", time="2026-01-02T00:00:00Z", subresource="scale"),
    )
    (first, *_) = differences(kept, live, REF)
    assert (first.manager, first.operation, first.subresource, first.time) == (
        "late",
        "Update",
        "scale",
        "2026-01-02T00:00:00Z",
    )


def test_who_owns_only_the_map_is_not_the_author() -> None:
    kept = kept_of({"m": {"a": 1}}, {"f:m": {"f:a": {}}})
    maker = updated({"f:m": {}}, "maker", time="2026-01-09T00:00:00Z")
    live = obj({"m": {"a": 2}}, updated({"f:m": {"f:a": {}}}), maker)
    assert next(d.manager for d in differences(kept, live, REF)) == "other"
    # Our own entry too may be left with the bare map, and then the field is not ours.
    live = obj({"m": {"a": 2}}, applied({"f:m": {}}), updated({"f:m": {"f:a": {}}}))
    assert not compare_with(kept, live, REF)[1]


def test_values_that_another_took_over_are_ownership_lost() -> None:
    kept = kept_of({"a": 1, "b": 2}, {"f:a": {}, "f:b": {}})
    live = obj({"a": 1, "b": 2}, applied({"f:b": {}}), updated({"f:a": {}}, "taker"))
    listed, still = compare_with(kept, live, REF)
    assert [(d.kind, d.path, d.manager) for d in listed] == [
        (DifferenceKind.OWNERSHIP_LOST, ".spec.a", "taker")
    ]
    assert not still
    assert not any(d.kind.is_drift for d in listed)


def test_drift_is_not_told_twice_as_ownership_lost() -> None:
    kept = kept_of({"a": 1, "b": 2}, {"f:a": {}, "f:b": {}})
    live = obj({"a": 7, "b": 2}, applied({"f:b": {}}), updated({"f:a": {}}))
    assert [d.kind.value for d in differences(kept, live, REF)] == ["changed"]


def test_long_values_are_told_by_digest() -> None:
    kept = kept_of({"a": "x" * 5000}, {"f:a": {}})
    ((_, _, before, after),) = found(kept, {"a": "short"})
    assert before[OMITTED]["bytes"] == 5002
    assert before[OMITTED]["digest"].startswith("sha256:")
    assert after == "short"


def test_endless_differences_are_cut_and_counted() -> None:
    spec = {f"a{n}": n for n in range(1000)}
    kept = kept_of(spec, {f"f:{name}": {} for name in spec})
    listed = found(kept, {})
    assert len(listed) == MAX_DIFFERENCES + 1
    assert listed[-1][3] == {OMITTED: {"differences": 1000 - MAX_DIFFERENCES}}


@pytest.mark.parametrize(
    "body", [b"", b"nope", b"[]", b'{"api_version":1}', b'{"format":9}',
             b'{"api_version":"v1","owned":{},"values":{},"marks":{},"format":9}'],
)  # fmt: skip
def test_what_is_no_kept_form_is_refused(body: bytes) -> None:
    with pytest.raises(ObjectRefused) as refused:
        Kept.decode(body)
    assert refused.value.code == "bad-kept"


def test_a_kept_form_nested_too_deeply_is_refused() -> None:
    deep: Any = {}
    for _ in range(400):
        deep = {"a": deep}
    with pytest.raises(ObjectRefused) as refused:
        kept_of({"a": deep}, {"f:a": {}}).encode()
    assert refused.value.code == "bad-value"


def test_a_number_is_kept_as_it_was() -> None:
    kept = kept_of({"a": 1.0, "b": 1}, {"f:a": {}, "f:b": {}})
    again = Kept.decode(kept.encode())
    assert found(again, {"a": 1.0, "b": 1}) == []
    assert len(found(again, {"a": 1, "b": 1.0})) == 2
    assert orjson.loads(kept.encode())["values"]["spec"] == {"a": 1.0, "b": 1}


@pytest.mark.parametrize(
    "live",
    [
        {},
        {"metadata": None},
        {"metadata": {"managedFields": "x"}},
        {"metadata": {"managedFields": [1, {"manager": 3}]}},
    ],
)
def test_malformed_objects_are_compared_and_do_not_crash(live: dict[str, Any]) -> None:
    kept = kept_of({"a": 1}, {"f:a": {}})
    assert [d.kind.value for d in differences(kept, live, REF)] == ["removed", "ownership-lost"]
