"""Plain YAML scalars to values, by the resolver of sigs.k8s.io/yaml (go-yaml v2). Pure.

`kubectl label --local -f - a=b -o json` shows what it makes of a file; the tests compare.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import Any

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE"), True),
    **dict.fromkeys(("on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE"), False),
    **dict.fromkeys(("off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_NOT_FINITE = frozenset(
    sign + word
    for sign, words in (("", "inf Inf INF nan NaN NAN"), ("+", "inf Inf INF"), ("-", "inf Inf INF"))
    for word in (f".{one}" for one in words.split())
)
_INTEGER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
# Go's own reading, which allows `_` between two digits, where a number begins with the dot.
_DOT_FLOAT = re.compile(r"\.[0-9]+(_[0-9]+)*([eE][-+]?[0-9]+(_[0-9]+)*)?\Z")
_LONGEST_NUMBER = 400
"""Longer digits are no number that a double can tell apart, and slow to convert."""
_FIRST = frozenset("+-.0123456789")
_PREFIX = "tag:yaml.org,2002:"
_INT64 = 2**63


class NotThatTag(ValueError):
    """A value is not what its tag says, or no value that JSON has."""


def resolve(text: str, tag: str | None, plain: bool) -> Any:
    """Return the value of a scalar: None, bool, int, float or str.

    `tag` as libyaml gives it, `plain` where it stands without quotes. Raises `NotThatTag`.
    """
    if tag is None:
        return _implicit(text) if plain else text
    kind = tag.removeprefix(_PREFIX)
    if kind == "binary":
        return _binary(text)
    expected = _TAGGED.get(kind) if tag.startswith(_PREFIX) else None
    if expected is None:
        return text
    value = _implicit(text)
    if not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected):
        raise NotThatTag(f"a value is not of the type that its tag !!{kind} says")
    return value


_TAGGED: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "null": (type(None),),
}


def key_text(value: Any, text: str = "") -> str | None:
    """Return a mapping's key as JSON has it, or None for what cannot be one.

    `text` is how it was written. A float is a key only where that changes nothing.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and f"{value:g}" == text:
        return text
    return None


def number(value: float) -> int | float:
    """Return a number as Kubernetes keeps it: an int64 where it is one, else a double."""
    if isinstance(value, int):
        return value if -_INT64 <= value < _INT64 else float(value)
    if value.is_integer() and -_INT64 <= value < _INT64:
        return int(value)
    return value


def _implicit(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _FIRST or len(text) > _LONGEST_NUMBER:
        return text
    if text in _NOT_FINITE:
        raise NotThatTag("infinity and NaN have no place in an object")
    digits = text.replace("_", "")
    if text[0] == ".":
        return _float(text, digits) if _DOT_FLOAT.match(text) else text
    if _INTEGER.match(digits):
        value = _integer(digits)
        if -_INT64 <= value < 2 * _INT64:
            return number(value)
    return _float(text, digits) if _FLOAT.match(digits) else text


def _integer(digits: str) -> int:
    bare = digits.lstrip("+-").lower()
    if len(bare) > 1 and bare[0] == "0" and bare[1].isdigit():
        bare = "0o" + bare[1:]
    value = int(bare, 0)
    return -value if digits[0] == "-" else value


def _float(text: str, digits: str) -> Any:
    value = float(digits)
    return text if math.isinf(value) else number(value)


def _binary(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise NotThatTag("a !!binary value must be base64 of UTF-8 text") from error
