"""What an API server's refusals come to, in the log's terms."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clusters.status import explain, printable, refusal, status_of
from engine.clusters.wire import Response
from events.vocabulary import Outcome


def _answer(code: int, message: str = "", reason: str = "", **details: Any) -> Response:
    status = {
        "kind": "Status",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "details": details,
        "code": code,
    }
    return Response(code, orjson.dumps(status))


def test_a_conflict_names_managers_and_fields() -> None:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "kubectl-client-side-apply" using apps/v1',
            "field": ".spec.replicas",
        },
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "hpa" with subresource "scale" using apps/v1',
            "field": ".spec.template",
        },
    ]
    found = refusal(_answer(409, "Apply failed", "Conflict", causes=causes), secret=False)
    assert found.outcome is Outcome.CONFLICT
    assert found.managers == ("hpa", "kubectl-client-side-apply")
    assert ".spec.replicas, .spec.template" in found.message


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (_answer(409, "the object has been modified", "Conflict"), Outcome.STALE),
        (_answer(409, "already exists", "AlreadyExists"), Outcome.STALE),
        (
            _answer(422, "immutable", "Invalid", causes=[{"field": "metadata.uid"}]),
            Outcome.STALE,
        ),
        (_answer(422, "bad", "Invalid", causes=[{"field": "spec.x"}]), Outcome.INVALID),
        (_answer(400, "bad", "BadRequest"), Outcome.INVALID),
        (_answer(413, "large"), Outcome.INVALID),
        (_answer(401, "who", "Unauthorized"), Outcome.UNREACHABLE),
        (_answer(403, "no", "Forbidden"), Outcome.FORBIDDEN),
        (
            _answer(403, "ending", causes=[{"reason": "NamespaceTerminating"}]),
            Outcome.FAILED,
        ),
        (_answer(404, 'namespaces "x" not found', kind="namespaces", name="x"), Outcome.FAILED),
        (_answer(429, "slow down"), Outcome.FAILED),
        (_answer(500, "failed calling webhook"), Outcome.FAILED),
        (
            _answer(500, "failed to create typed patch object (x; v1, Kind=C): .a: field not"),
            Outcome.INVALID,
        ),
        (_answer(503, "unavailable"), Outcome.FAILED),
        (Response(502, b"<html>"), Outcome.FAILED),
        (Response(409, b""), Outcome.STALE),
    ],
)
def test_each_refusal_has_its_outcome_and_words(answer: Response, outcome: Outcome) -> None:
    found = refusal(answer, secret=False)
    assert found.outcome is outcome
    assert found.message


def test_a_secrets_refusal_names_fields_and_no_values() -> None:
    causes = [
        {
            "reason": "FieldValueInvalid",
            "message": 'Invalid value: "hunter2"',
            "field": "data[key]",
        }
    ]
    answer = _answer(422, 'Secret "x" is invalid: data[key]: "hunter2"', "Invalid", causes=causes)
    said = explain(answer, secret=True)
    assert said == "Invalid; data[key]: FieldValueInvalid"
    assert explain(_answer(500, 'cannot parse "hunter2"'), secret=True) == "status 500"


@pytest.mark.parametrize(
    "words",
    [
        'secrets "x" is forbidden: User "system:serviceaccount:a" cannot patch resource "secrets" '
        'in API group "" in the namespace "shop"',
        'secrets is forbidden: User "jane" cannot list resource "secrets" in API group "" at the '
        "cluster scope",
        'secrets "x" is forbidden: exceeded quota: few, requested: secrets=1,count/secrets=1, '
        "used: count/secrets=1,secrets=4, limited: count/secrets=1,secrets=10",
        'secrets "x" is forbidden: unable to create new content in namespace shop because it is '
        "being terminated",
    ],
)
def test_a_secrets_refusal_that_can_hold_no_value_is_passed_on(words: str) -> None:
    assert explain(_answer(403, words, "Forbidden"), secret=True) == words
    for more in (words + ' "hunter2"', "hunter2 " + words, words.replace("forbidden:", "f:")):
        assert explain(_answer(403, more, "Forbidden"), secret=True) == "Forbidden"
    assert explain(_answer(422, words, "Invalid"), secret=True) == "Invalid"


@given(st.binary())
def test_any_body_is_some_status(body: bytes) -> None:
    status_of(body)
    assert explain(Response(500, body)).isprintable()


@given(st.text())
def test_words_are_on_one_line(text: str) -> None:
    words = printable(text)
    assert len(words) <= 1000
    assert not set(words) & {"\n", "\r", "\x1b", "\x00", "\u2028"}
