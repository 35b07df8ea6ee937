"""Equal objects have equal bytes, and nothing is lost on the way."""

import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.objects.canonical import canonical, object_digest
from engine.objects.identity import ObjectRefused

text = st.text(st.characters(codec="utf-8"), max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4)
)
objects = st.dictionaries(text, values, max_size=5)


def shuffled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(list(value))}
    return [shuffled(inner) for inner in value] if isinstance(value, list) else value


@given(objects)
def test_the_order_of_keys_does_not_matter(obj: dict[str, Any]) -> None:
    assert canonical(obj) == canonical(shuffled(obj))


@given(objects)
def test_reading_back_gives_an_equal_object_with_the_same_bytes(obj: dict[str, Any]) -> None:
    body = canonical(obj)
    assert orjson.loads(body) == obj
    assert canonical(orjson.loads(body)) == body


@given(objects, objects)
def test_digests_are_equal_only_for_equal_objects(a: dict[str, Any], b: dict[str, Any]) -> None:
    if canonical(a) != canonical(b):
        assert object_digest(a) != object_digest(b)
    else:
        assert a == b


def test_numbers_that_mean_the_same_are_written_the_same() -> None:
    assert (
        canonical({"a": 1.0, "b": -0.0, "c": 1.5, "d": True}) == b'{"a":1,"b":0,"c":1.5,"d":true}'
    )
    assert canonical({"a": 1e300}) == b'{"a":1e+300}'


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 2**70, {1: 2}, b"x", {"a", "b"}, "\ud800", object()]
)
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(ObjectRefused) as refused:
        canonical({"a": [value]})
    assert refused.value.code == "bad-value"


def test_deep_nesting_is_refused_and_does_not_crash() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(ObjectRefused):
        canonical(deep)
