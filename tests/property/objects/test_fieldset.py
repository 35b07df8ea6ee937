"""Field sets are sets: held to Python's own."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.objects.fieldset import (
    MAX_DEPTH,
    FieldSet,
    Path,
    key_element,
    normal_element,
    path_text,
    value_element,
)
from engine.objects.identity import ObjectRefused

elements = st.sampled_from(
    ["f:a", "f:b", "f:c", 'k:{"name":"x"}', 'k:{"port":80,"protocol":"TCP"}', 'v:"x"', "v:1", "i:0"]
)
paths = st.lists(elements, min_size=1, max_size=4).map(tuple)
sets = st.frozensets(paths, max_size=12)


@given(sets)
def test_a_set_holds_exactly_its_paths(model: frozenset[Path]) -> None:
    fields = FieldSet.of(model)
    assert sorted(fields.leaves()) == sorted(model)
    assert len(fields) == len(model)
    assert bool(fields) == bool(model)
    assert all(path in fields for path in model)


@given(sets, paths)
def test_membership_is_that_of_the_model(model: frozenset[Path], path: Path) -> None:
    fields = FieldSet.of(model)
    assert (path in fields) == (path in model)
    assert fields.reaches(path) == any(other[: len(path)] == path for other in model)
    bare = {p for p in model if not any(q != p and q[: len(p)] == p for q in model)}
    assert fields.covers(path) == (path in model or any(path[: len(p)] == p for p in bare))


@given(sets)
def test_the_top_members_are_those_below_no_other(model: frozenset[Path]) -> None:
    top = {p for p in model if not any(q != p and p[: len(q)] == q for q in model)}
    assert set(FieldSet.of(model).top()) == top


@given(sets, sets)
def test_the_operations_are_those_of_sets(a: frozenset[Path], b: frozenset[Path]) -> None:
    left, right = FieldSet.of(a), FieldSet.of(b)
    assert left | right == FieldSet.of(a | b)
    assert left - right == FieldSet.of(a - b)
    assert left & right == FieldSet.of(a & b)
    assert (left == right) == (a == b)
    if a == b:
        assert hash(left) == hash(right)


@given(sets, sets)
def test_operations_leave_their_operands_alone(a: frozenset[Path], b: frozenset[Path]) -> None:
    left, right = FieldSet.of(a), FieldSet.of(b)
    before = orjson.dumps([left.raw(), right.raw()])
    _ = left | right, left - right, left & right
    assert orjson.dumps([left.raw(), right.raw()]) == before


@given(sets)
def test_what_is_written_is_read_back(model: frozenset[Path]) -> None:
    fields = FieldSet.of(model)
    assert FieldSet.parse(orjson.loads(orjson.dumps(fields.raw()))) == fields


def test_spellings_of_one_element_are_one() -> None:
    a = FieldSet.parse({'k:{"b":1,"a":"<x>"}': {".": {}, "f:c": {}}})
    b = FieldSet.parse({'k:{"a":"\\u003cx\\u003e","b":1}': {".": {}, "f:c": {}}})
    assert a == b
    assert normal_element('v:"\\u0026"') == 'v:"&"'
    assert FieldSet.parse({"f:a": {".": {}}}) == FieldSet.parse({"f:a": {}})


def test_elements_of_unknown_kinds_are_left_out() -> None:
    assert FieldSet.parse({"z:1": {"f:a": {}}, "f:a": {}}) == FieldSet.of([("f:a",)])


@pytest.mark.parametrize(
    "raw",
    [[], "f:a", {"a": {}}, {"": {}}, {"k:nope": {}}, {"k:[1]": {}}, {"v:{": {}}, {"i:x": {}},
     {"i:-1": {}}, {"f:a": "x"}, {"f:a": [1]}],
)  # fmt: skip
def test_what_is_no_field_set_is_refused(raw: Any) -> None:
    with pytest.raises(ObjectRefused) as refused:
        FieldSet.parse(raw)
    assert refused.value.code == "bad-fields"


def test_endless_sets_are_refused() -> None:
    deep: Any = {}
    for _ in range(MAX_DEPTH + 1):
        deep = {"f:a": deep}
    with pytest.raises(ObjectRefused, match="levels deep"):
        FieldSet.parse(deep)
    with pytest.raises(ObjectRefused, match="over 500000 elements"):
        FieldSet.parse({f"f:{n}": {} for n in range(500_001)})


def test_paths_are_written_as_kubectl_does() -> None:
    path = ("f:spec", "f:containers", 'k:{"name":"app"}', "f:image")
    assert path_text(path) == '.spec.containers[name="app"].image'
    ports = key_element({"protocol": "TCP", "containerPort": 80})
    assert path_text(("f:ports", ports)) == '.ports[containerPort=80,protocol="TCP"]'
    assert path_text(("f:finalizers", value_element("x/y"))) == '.finalizers[="x/y"]'
    assert path_text(("f:args", "i:2")) == ".args[2]"
