"""Label and field selectors as query parameters carry them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from engine.simulator.errors import bad_request

Test = Callable[[dict[str, Any]], bool]
_SET = re.compile(r"^\s*(!?)\s*([^\s!=<>,()]+)\s*(?:(==|=|!=|in|notin|>|<)\s*(.*))?$", re.DOTALL)
_SPACED = re.compile(r"^\s*([^\s!=<>,()]+)\s+(in|notin)\s*\((.*)\)\s*$", re.DOTALL)


def _split(text: str) -> list[str]:
    """Splits at commas that are not inside parentheses."""
    out, depth, start = [], 0, 0
    for index, char in enumerate(text):
        if char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
        elif char == "," and depth == 0:
            out.append(text[start:index])
            start = index + 1
    out.append(text[start:])
    return [part for part in out if part.strip()]


def labels(text: str) -> Test | None:
    """A test of an object's labels; None selects everything. Raises 400 for a bad selector."""
    tests = [_label(part) for part in _split(text)]
    if not tests:
        return None

    def test(item: dict[str, Any]) -> bool:
        found = item["metadata"].get("labels") or {}
        return all(check(found) for check in tests)

    return test


def _label(part: str) -> Callable[[dict[str, Any]], bool]:
    if spaced := _SPACED.match(part):
        name, how, inner = spaced.groups()
        values = {value.strip() for value in inner.split(",")}
        if how == "in":
            return lambda found: found.get(name) in values
        return lambda found: found.get(name) not in values
    match = _SET.match(part)
    if match is None:
        raise bad_request(f"unable to parse requirement: {part.strip()!r}")
    absent, name, operator, value = match.groups()
    wanted = (value or "").strip()
    if operator is None:
        return (lambda found: name not in found) if absent else (lambda found: name in found)
    if absent or operator in ("in", "notin"):
        raise bad_request(f"unable to parse requirement: {part.strip()!r}")
    if operator in ("=", "=="):
        return lambda found: found.get(name) == wanted
    if operator == "!=":
        return lambda found: found.get(name) != wanted
    return _number(name, operator, wanted)


def _number(name: str, operator: str, wanted: str) -> Callable[[dict[str, Any]], bool]:
    try:
        limit = int(wanted)
    except ValueError:
        raise bad_request(
            f"for 'Gt', 'Lt' operators, the value must be an integer: {wanted!r}"
        ) from None

    def test(found: dict[str, Any]) -> bool:
        try:
            value = int(found[name])
        except (KeyError, ValueError):
            return False
        return value > limit if operator == ">" else value < limit

    return test


def fields(text: str) -> Test | None:
    """A test by field, such as `metadata.name=x,spec.type!=y`; None selects everything.

    Any path of strings is served, where a real server serves the few that each kind names.
    """
    tests: list[tuple[tuple[str, ...], bool, str]] = []
    for part in _split(text):
        match = re.match(r"^\s*([\w.\-/]+)\s*(==|=|!=)\s*(.*?)\s*$", part, re.DOTALL)
        if match is None:
            raise bad_request(f"invalid selector: {text!r}; can't understand {part!r}")
        path, operator, value = match.groups()
        tests.append((tuple(path.split(".")), operator != "!=", value))
    if not tests:
        return None

    def test(item: dict[str, Any]) -> bool:
        return all((_at(item, path) == value) is wanted for path, wanted, value in tests)

    return test


def _at(item: Any, path: tuple[str, ...]) -> str:
    for name in path:
        item = item.get(name) if isinstance(item, dict) else None
    if isinstance(item, bool):
        return "true" if item else "false"
    return "" if item is None else str(item)
