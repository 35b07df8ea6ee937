"""Where two plain JSON values differ, path by path. Pure.

For two manifests of the same object: lists of objects that all have a `name` are matched by it,
any other list by place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MISSING: Any = object()
"""Stands for a value that is not there (None is a value)."""


def changes(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, before, after) for each leaf that differs; `MISSING` where there is none."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from changes(before.get(key, MISSING), after.get(key, MISSING), path + _step(key))
    elif isinstance(before, list) and isinstance(after, list):
        yield from _list_changes(before, after, path)
    elif type(before) is not type(after) or before != after:
        yield path, before, after


def _list_changes(before: list[Any], after: list[Any], path: str) -> Iterator[tuple[str, Any, Any]]:
    old, new = _by_name(before), _by_name(after)
    if old is None or new is None:
        for place in range(max(len(before), len(after))):
            yield from changes(
                before[place] if place < len(before) else MISSING,
                after[place] if place < len(after) else MISSING,
                f"{path}[{place}]",
            )
        return
    for name in [*old, *(name for name in new if name not in old)]:
        yield from changes(old.get(name, MISSING), new.get(name, MISSING), f'{path}[name="{name}"]')
    if [n for n in old if n in new] != [n for n in new if n in old]:
        yield path, list(old), list(new)


def _by_name(items: list[Any]) -> dict[str, Any] | None:
    named = {
        item["name"]: item
        for item in items
        if isinstance(item, dict) and isinstance(item.get("name"), str)
    }
    return named if len(named) == len(items) else None


def _step(key: str) -> str:
    return f".{key}" if key.replace("-", "").replace("_", "").isalnum() else f'["{key}"]'
