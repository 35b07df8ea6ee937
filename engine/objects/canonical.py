"""One byte form for each object, so that equal objects have equal digests. Pure.

The form is JSON with keys sorted and no spaces. Numbers that mean the same are written the same:
`1.0` and `-0.0` become `1` and `0`, as in RFC 8785.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from math import isfinite
from typing import Any

import orjson

from engine.objects.identity import ObjectRefused

# Above this a float no longer holds every integer, so that it stays a float.
_EXACT = 2.0**53


def canonical(obj: Mapping[str, Any]) -> bytes:
    """Return the canonical JSON of an object.

    Raises `ObjectRefused("bad-value")` where JSON has no form for a value: NaN, infinities, whole
    numbers beyond 64 bits, keys that are not strings, unpaired surrogates, deep nesting.
    """
    try:
        return trimmed(orjson.dumps(_normal(obj), option=orjson.OPT_SORT_KEYS))
    except (TypeError, RecursionError) as error:
        raise ObjectRefused("bad-value", f"The object cannot be written as JSON: {error}") from None


def trimmed(body: bytes) -> bytes:
    """Return a copy that takes no more than it needs, for what is kept a while.

    What orjson returns keeps the room that it was written into: 16 KB for a text of 1 KB.
    """
    return bytes(memoryview(body))


def object_digest(obj: Mapping[str, Any]) -> str:
    """Return `sha256:` and 64 hexadecimal digits of the canonical JSON. Raises `ObjectRefused`."""
    return digest_of(canonical(obj))


def digest_of(body: bytes) -> str:
    """Return `sha256:` and 64 hexadecimal digits of these bytes."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _normal(value: Any) -> Any:
    # `type(x) is` and not isinstance: this walks every value of every object.
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return _number(value)
    if kind is dict or isinstance(value, Mapping):
        return {key: _normal(inner) for key, inner in value.items()}
    if kind is list or isinstance(value, list | tuple):
        return [_normal(inner) for inner in value]
    raise TypeError(f"a value of type {kind.__name__} has no JSON form")


def _number(value: float) -> int | float:
    if not isfinite(value):
        raise TypeError(f"{value} has no JSON form")
    return int(value) if value.is_integer() and abs(value) <= _EXACT else value
