"""Values of fields: equality by type, finding list items, and bounds on what is shown. Pure."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import orjson

from engine.objects.fieldset import Path, key_of, path_text, value_of

MAX_VALUE: Final = 1024
"""Bytes of JSON of a value that a difference carries whole."""
MAX_PATH: Final = 1024
OMITTED: Final = "trueup.dev/omitted"


class Missing:
    """The type of MISSING: where there is no value, which null is not."""


MISSING: Final = Missing()


def same_value(a: Any, b: Any) -> bool:
    """Whether two JSON values are equal and of equal types: 1, 1.0 and true are three values."""
    kind = type(a)
    if kind is not type(b):
        return False
    if kind is dict:
        return len(a) == len(b) and all(
            key in b and same_value(value, b[key]) for key, value in a.items()
        )
    if kind is list:
        return len(a) == len(b) and all(map(same_value, a, b))
    return bool(a == b)


def is_composite(value: Any) -> bool:
    """Whether this is a map or a list."""
    return type(value) is dict or type(value) is list


def is_empty(value: Any) -> bool:
    """Whether this is an empty map or list."""
    return is_composite(value) and not value


def is_nothing(value: Any) -> bool:
    """Whether the server may leave this out: null, or the zero of its type."""
    return value is None or not value


def item_key(item: Any, names: tuple[str, ...]) -> tuple[Any, ...] | None:
    """Return the values of a list item's key fields; None where it is no item with such keys."""
    if type(item) is not dict:
        return None
    key = tuple(item.get(name) for name in names)
    return None if any(map(is_composite, key)) else key


def counted(values: list[Any]) -> dict[tuple[type, Any], int]:
    """Count the scalars of a list by type and value; a set of Kubernetes has scalars only."""
    counts: dict[tuple[type, Any], int] = {}
    for value in values:
        if not is_composite(value):
            key = (type(value), value)
            counts[key] = counts.get(key, 0) + 1
    return counts


class NamedItems:
    """A manifest's list items by key; an item may lack a key field that has a default.

    `names` are the key fields, sorted.
    """

    def __init__(self, items: Any, names: tuple[str, ...]) -> None:
        self.names = names
        # By which key fields an item lacks, so that finding one never searches.
        self._items: dict[tuple[bool, ...], dict[tuple[Any, ...], Any]] = {}
        for item in items if isinstance(items, list) else ():
            key = item_key(item, names)
            if key is not None:
                lacks = tuple(part is None for part in key)
                self._items.setdefault(lacks, {}).setdefault(key, item)

    def find(self, parts: tuple[Any, ...]) -> Any:
        """Return the item of these key values, or MISSING."""
        for lacks, items in self._items.items():
            key = tuple(None if out else part for out, part in zip(lacks, parts, strict=True))
            if key in items:
                return items[key]
        return MISSING


def child_of(value: Any, element: str) -> Any:
    """Return what is at an element below a value (the first of duplicates), or MISSING."""
    kind = element[0]
    if kind == "f":
        return value.get(element[2:], MISSING) if type(value) is dict else MISSING
    if type(value) is not list:
        return MISSING
    if kind == "k":
        key = key_of(element)
        return next(
            (
                item
                for item in value
                if type(item) is dict
                and all(same_value(item.get(name, MISSING), part) for name, part in key.items())
            ),
            MISSING,
        )
    if kind == "v":
        wanted = value_of(element)
        return next((item for item in value if same_value(item, wanted)), MISSING)
    place = int(element[2:])
    return value[place] if place < len(value) else MISSING


def bounded(value: Any) -> Any:
    """Return the value, or where its JSON is over 1 KiB a marker with its digest and length.

    The marker is `{"trueup.dev/omitted": {"digest": "sha256:…", "bytes": n}}`.
    """
    if value is MISSING:
        return None
    if value is None or type(value) in (bool, int, float):
        return value
    try:
        body = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return {OMITTED: {"digest": "", "bytes": 0}}  # nested too deeply to be written
    if len(body) <= MAX_VALUE:
        return value
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    return {OMITTED: {"digest": digest, "bytes": len(body)}}


def shown_path(path: Path) -> str:
    """Write a path for a difference: as kubectl does, its tail cut where a name is endless."""
    text = path_text(path)
    return text if len(text) <= MAX_PATH else text[: MAX_PATH - 1] + "…"
