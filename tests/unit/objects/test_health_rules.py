"""Health by an operator's own rules in CEL: what decides, what is refused, what it may cost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.objects.health import health_of
from engine.objects.health_rules import HealthRules
from engine.resources.expression import expression_fault, nesting
from engine.resources.model import HealthRule
from events.vocabulary import Health

WIDGET = HealthRule(
    kind="Widget",
    group="shop.example.org",
    progressing="has(object.status.phase) && object.status.phase == 'Building'",
    degraded="object.status.conditions.exists(c, c.type == 'Failed' && c.status == 'True')",
    suspended="has(object.spec.paused) && object.spec.paused",
    healthy="object.status.phase == 'Ready'",
    message="has(object.status.note) ? object.status.note : ''",
)


def widget(status: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "shop.example.org/v2",
        "kind": "Widget",
        "metadata": {"name": "one"},
        "spec": spec,
        "status": {"conditions": [], **status},
    }


@pytest.mark.parametrize(
    ("status", "spec", "health", "message"),
    [
        ({"phase": "Building", "note": "at it"}, {}, Health.PROGRESSING, "at it"),
        ({"phase": "Ready"}, {}, Health.HEALTHY, ""),
        ({"phase": "Ready"}, {"paused": True}, Health.SUSPENDED, ""),
        ({"phase": "Odd"}, {}, Health.PROGRESSING, "no rule says yet that it is healthy"),
    ],
)
def test_the_first_expression_that_is_true_decides(
    status: dict[str, Any], spec: dict[str, Any], health: Health, message: str
) -> None:
    assert HealthRules([WIDGET]).of(widget(status, **spec)) == (health, message)


def test_a_failed_condition_is_degraded() -> None:
    failed = {"type": "Failed", "status": "True"}
    found = HealthRules([WIDGET]).of(widget({"phase": "Ready", "conditions": [failed]}))
    assert found[0] is Health.DEGRADED


def test_what_cannot_be_evaluated_is_unknown_and_says_why() -> None:
    health, message = HealthRules([WIDGET]).of(widget({}))
    assert health is Health.UNKNOWN
    assert "no field phase" in message
    assert "has()" in message
    number = HealthRule(kind="Widget", group="shop.example.org", healthy="1 + 1")
    assert "gives a int" in HealthRules([number]).of(widget({}))[1]


def test_a_rule_is_for_its_kind_and_group_alone() -> None:
    rules = HealthRules([WIDGET])
    other = {**widget({"phase": "Ready"}), "apiVersion": "other.example.org/v1"}
    assert rules.of(other) == health_of(other)
    assert HealthRules().of(other) == health_of(other)


def test_what_is_on_its_way_out_or_not_looked_at_yet_needs_no_rule() -> None:
    ending = widget({"phase": "Ready"})
    ending["metadata"]["deletionTimestamp"] = "2026-03-03T14:00:00Z"
    assert HealthRules([WIDGET]).of(ending)[0] is Health.PROGRESSING
    behind = widget({"phase": "Ready", "observedGeneration": 1})
    behind["metadata"]["generation"] = 2
    assert HealthRules([WIDGET]).of(behind)[0] is Health.PROGRESSING


def test_a_list_that_is_too_long_is_not_gone_over() -> None:
    deep = "object.status.items.all(a, object.status.items.exists(b, b == a))"
    rules = HealthRules([HealthRule(kind="Widget", group="shop.example.org", healthy=deep)])
    assert rules.of(widget({"items": list(range(20))}))[0] is Health.HEALTHY
    health, message = rules.of(widget({"items": list(range(200))}))
    assert health is Health.UNKNOWN
    assert "a list of 200 items is too long" in message


def test_long_texts_are_not_searched_through_again_and_again() -> None:
    inner = "object.status.items.exists(b, object.status.note.contains(a + b))"
    searches = f"object.status.items.exists(a, {inner})"
    rules = HealthRules([HealthRule(kind="Widget", group="shop.example.org", degraded=searches)])
    items = ["x"] * 40
    assert rules.of(widget({"items": items, "note": "short"}))[0] is Health.HEALTHY
    health, message = rules.of(widget({"items": items, "note": "y" * 200_000}))
    assert health is Health.UNKNOWN
    assert "with texts of 200000 characters" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("object.status.", "is no CEL expression"),
        ("object.a.all(x, 'a'.matches('(a{60}){20}'))", "must not use matches()"),
        ("matches (object.b, 'a')", "must not use matches()"),
        ("objekt.status == 1", "knows no 'objekt'"),
        ("object.a.all(x, object.b.all(y, object.c.all(z, z == x)))", "at most 2"),
        ("(" * 50 + "1" + ")" * 50, "brackets at most"),
        ("object.a == 'b", "leaves a string open"),
        ("object.a)", "not open"),
        ("[1", "leaves a bracket open"),
        ('"""a"""', "triple quotes"),
        ("1 + " * 600 + "1", "at most 2000"),
    ],
)
def test_an_expression_is_refused_with_what_is_wrong(text: str, said: str) -> None:
    assert said in expression_fault(text)


def test_brackets_and_macros_in_strings_do_not_count() -> None:
    assert nesting("object.a == '.all((' && object.b == \"\\\\(\"") == 0
    assert nesting("object.a.all(x, x.b.exists(y, y)) && object.c.map(z, z).size() > 0") == 2


@given(st.text(max_size=60))
def test_no_text_breaks_the_check(text: str) -> None:
    assert isinstance(expression_fault(text), str)


def test_lists_that_an_expression_makes_longer_count_as_long_as_they_get() -> None:
    joined = " + ".join(["object.a"] * 50)
    text = f"({joined}).all(x, ({joined}).all(y, true))"
    rules = HealthRules([HealthRule(group="x.io", kind="Widget", healthy=text)])
    live = {"apiVersion": "x.io/v1", "kind": "Widget", "metadata": {}, "a": [1] * 150}
    health, message = rules.of(live)
    assert health is Health.UNKNOWN
    assert "is too long" in message
    written = f"[{', '.join(['1'] * 300)}]"
    text = f"{written}.all(x, {written}.all(y, true))"
    health, message = HealthRules([HealthRule(group="x.io", kind="Widget", healthy=text)]).of(live)
    assert health is Health.UNKNOWN
    assert "is too long" in message
