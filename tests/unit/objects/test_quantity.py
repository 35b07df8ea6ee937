"""Quantities: which ones are the same, and where that counts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.objects.mutated import mutated
from engine.objects.quantity import parsed, same_quantity
from events.vocabulary import ObjectRef

LIMITS = ("f:spec", "f:limits", "f:cpu")
REF = ObjectRef("v1", "Pod", "shop", "a")


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        ("0.5", "500m"),
        ("1000m", "1"),
        (1, "1"),
        (0.5, "500m"),
        ("1024Mi", "1Gi"),
        ("1073741824", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1e3", "1k"),
        ("2E2", "200"),
        (".5", "500m"),
        ("0", "0"),
    ],
)
def test_the_same_in_other_words(sent: Any, answer: str) -> None:
    assert same_quantity(sent, answer, LIMITS)
    assert not same_quantity(sent, answer, ("f:data", "f:cpu"))


@pytest.mark.parametrize(
    ("sent", "answer"), [("1", "1k"), ("1M", "1Mi"), ("x", "x"), (True, "1"), ("1", 1), ("1 ", "1")]
)
def test_what_is_another_quantity_or_none(sent: Any, answer: Any) -> None:
    assert not same_quantity(sent, answer, LIMITS)


@given(st.text(max_size=12))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    value = parsed(text)
    assert value is None or isinstance(value, Decimal)


def test_a_quantity_that_the_server_writes_otherwise_is_nothing_that_admission_made() -> None:
    sent = {"spec": {"limits": {"cpu": "0.5", "memory": "1Gi"}, "version": "1.10"}}
    answer = {"spec": {"limits": {"cpu": "500m", "memory": "2Gi"}, "version": "1.1"}}
    found = mutated(sent, answer, REF)
    assert [each.path for each in found] == [".spec.limits.memory", ".spec.version"]
