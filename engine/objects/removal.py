"""The JSON patch that takes fields out of an object, and nothing but what was looked at. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from engine.objects.fieldset import Path
from engine.objects.left import Pointer, pointer_of
from engine.objects.typed import MISSING, child_of


def removal(live: Mapping[str, Any], paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Return a JSON patch that removes these fields of a live object, [] where none is there.

    It tests the value of each first, and sets resourceVersion to what it is, which the server
    refuses (409) where the object has moved on. `live` is whole.
    """
    found: dict[Pointer, Any] = {}
    for path in paths:
        value = _value(live, path)
        if value is not MISSING:
            found[pointer_of(path, live)] = value
    outer = [
        pointer
        for pointer in found
        if not any(pointer[:end] in found for end in range(1, len(pointer)))
    ]
    if not outer:
        return []
    # From the end: taking an item out moves those behind it.
    outer.sort(key=_order, reverse=True)
    patch: list[dict[str, Any]] = [version_kept(live)]
    for pointer in outer:
        text = "".join(f"/{_escaped(part)}" for part in pointer)
        patch.append({"op": "test", "path": text, "value": found[pointer]})
        patch.append({"op": "remove", "path": text})
    return patch


def version_kept(live: Mapping[str, Any]) -> dict[str, Any]:
    """Return the operation that makes the server refuse a patch of what has moved on."""
    version = live["metadata"]["resourceVersion"]
    return {"op": "replace", "path": "/metadata/resourceVersion", "value": version}


def _value(live: Any, path: Path) -> Any:
    value: Any = live
    for element in path:
        value = child_of(value, element)
        if value is MISSING:
            return MISSING
    return value


def _order(pointer: Pointer) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in pointer)


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
