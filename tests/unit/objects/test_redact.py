"""No secret value survives redaction, and equal values stay equal."""

from base64 import b64encode
from copy import deepcopy
from typing import Any

import orjson
import pytest

from engine.objects.redact import LAST_APPLIED, Redactor

CANARY = "canary-7f1c"
ENCODED = b64encode(CANARY.encode()).decode()
REDACTOR = Redactor(b"k" * 32, "k1")


def secret(**fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, **fields}


def test_data_and_string_data_of_one_value_have_one_digest() -> None:
    from_data, found = REDACTOR.redact(secret(data={"k": ENCODED}))
    from_text, _ = REDACTOR.redact(secret(stringData={"k": CANARY}))
    assert found
    assert from_data["data"]["k"] == from_text["stringData"]["k"]
    assert from_data["data"]["k"].startswith("hmac:k1:")
    assert len(from_data["data"]["k"]) == len("hmac:k1:") + 64


def test_another_value_or_key_gives_another_digest() -> None:
    one = REDACTOR.redact(secret(data={"k": "YQ=="}))[0]["data"]["k"]
    two = REDACTOR.redact(secret(data={"k": "Yg=="}))[0]["data"]["k"]
    other_key = Redactor(b"j" * 32, "k1").redact(secret(data={"k": "YQ=="}))[0]["data"]["k"]
    assert len({one, two, other_key}) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"data": {"k": ENCODED}},
        {"data": {"k": CANARY}},
        {"data": {"k": {"deep": [CANARY]}}},
        {"data": CANARY},
        {"data": [ENCODED]},
        {"stringData": {"k": CANARY}},
        {"metadata": {"annotations": {LAST_APPLIED: f'{{"data":{{"k":"{ENCODED}"}}}}'}}},
        {"metadata": {"annotations": {LAST_APPLIED: {"data": {"k": ENCODED}}}}},
        {"metadata": {"annotations": {"x/original": f' {{"stringData":{{"k":"{CANARY}"}}}}'}}},
    ],
)
def test_no_value_survives_and_the_input_is_left_alone(fields: dict[str, Any]) -> None:
    original = secret(**fields)
    before = deepcopy(original)
    redacted, found = REDACTOR.redact(original)
    assert found
    assert original == before
    text = orjson.dumps(redacted).decode()
    assert CANARY not in text
    assert ENCODED not in text


def test_a_value_that_looks_redacted_is_redacted_again() -> None:
    marker = "hmac:k1:" + "0" * 64
    assert REDACTOR.redact(secret(stringData={"k": marker}))[0]["stringData"]["k"] != marker


def test_other_objects_and_empty_secrets_come_back_as_they_are() -> None:
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v"}}
    assert REDACTOR.redact(obj) == (obj, False)
    assert REDACTOR.redact(secret(data=None)) == (secret(data=None), False)
    note = {"annotations": {"note": "some data here"}}
    assert REDACTOR.redact(secret(metadata=note)) == (secret(metadata=note), False)


@pytest.mark.parametrize(("key", "key_id"), [(b"short", "k"), (b"k" * 32, ""), (b"k" * 32, "a:b")])
def test_a_weak_key_or_unclear_key_id_is_refused(key: bytes, key_id: str) -> None:
    with pytest.raises(ValueError):
        Redactor(key, key_id)
