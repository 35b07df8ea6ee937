"""Differences as YAML with signs before the lines: a hunk an object. Pure but for yaml's writer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import yaml
from msgspec import Struct

_STEP = re.compile(
    r"""\.(?P<name>[^.\[\]]+)|\["(?P<key>(?:[^"\\]|\\.)*)"\]|\[(?P<item>(?:[^\]"]|"(?:[^"\\]|\\.)*")*)\]"""
)
_MAPS = re.compile(
    r"(?:\.(?:labels|annotations|matchLabels|nodeSelector|data|stringData|binaryData)$)"
)
"""Maps whose keys have dots in them, which paths do not set off."""
_TOLD = {
    "foreign": "nobody declared it",
    "mutated-on-admission": "by admission",
    "ownership-lost": "no longer ours alone",
    "ignored": "ignored",
    "accepted": "accepted",
}


class Line(Struct, frozen=True):
    """A line: what it begins with (" ", "-", "+", "@"), and its text."""

    sign: str
    text: str


class _Leaf(Struct, frozen=True):
    item: Any
    whole: str


def hunks(differences: Sequence[Any]) -> Iterator[Line]:
    """Yield differences, as the API gives them, object by object."""
    ordered = sorted(differences, key=lambda item: _name(item["ref"]))
    for name, group in groupby(ordered, key=lambda item: _name(item["ref"])):
        found = list(group)
        yield Line("@", f"@@ {name} @@")
        for item in found:
            if not item.get("path"):
                yield from _whole(item)
        tree: dict[str, Any] = {}
        for item in found:
            if item.get("path"):
                _put(tree, steps(item["path"]), item)
        yield from _lines(tree, 0)


def steps(path: str) -> list[str]:
    """Split a path as it is shown: names as they are, list items in their brackets."""
    parts: list[str] = []
    place = 0
    while place < len(path):
        if _MAPS.search(path[:place]) and path[place] == ".":
            # The rest is one key, whatever dots it has.
            parts.append(path[place + 1 :])
            break
        match = _STEP.match(path, place)
        if match is None:
            parts.append(path[place:])
            break
        name = match["name"] if match["name"] is not None else match["key"]
        parts.append(name if name is not None else f"[{match['item']}]")
        place = match.end()
    return parts


def _name(ref: Any) -> str:
    place = f"{ref['namespace']}/" if ref.get("namespace") else ""
    return f"{place}{ref['kind']}/{ref['name']}"


def _whole(item: Any) -> Iterator[Line]:
    match item["kind"]:
        case "missing":
            yield Line("-", "the whole object is missing")
        case "extra":
            yield Line("+", "the whole object is no longer desired")
        case kind:
            yield Line("@", f"{_TOLD.get(kind, kind)}: {_scalar(item.get('after'))}")


def _put(tree: dict[str, Any], path: list[str], item: Any) -> None:
    for step in path[:-1]:
        below = tree.setdefault(step, {})
        if not isinstance(below, dict):
            # A difference of what is above says all of it.
            return
        tree = below
    if not isinstance(tree.get(path[-1]), dict):
        tree[path[-1]] = _Leaf(item, path[-1])


def _lines(tree: dict[str, Any], depth: int) -> Iterator[Line]:
    indent = "  " * depth
    for step, below in tree.items():
        if isinstance(below, _Leaf):
            yield from _leaf(step, below.item, depth)
        elif step.startswith("["):
            yield Line(" ", f"{indent}- {_key(step)}")
            yield from _lines(below, depth + 1)
        else:
            yield Line(" ", f"{indent}{step}:")
            yield from _lines(below, depth + 1)


def _leaf(step: str, item: Any, depth: int) -> Iterator[Line]:
    kind, before, after = item["kind"], item.get("before"), item.get("after")
    told = ", ".join(filter(None, (_TOLD.get(kind, ""), item.get("manager", ""))))
    is_there = kind != "removed"
    sides = [("-", before, kind != "foreign"), ("+", after, is_there)]
    for sign, value, is_shown in sides:
        if not is_shown or (value is None and kind in ("changed", "ignored", "accepted")):
            continue
        lines = list(_value(step, value, depth))
        note = f"  # {told}" if told and (sign == "+" or not is_there) else ""
        for place, text in enumerate(lines):
            yield Line(sign, text + (note if place == len(lines) - 1 else ""))


def _value(step: str, value: Any, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if step.startswith("["):
        if isinstance(value, dict | list) and value:
            first, *rest = _dumped(value)
            yield f"{indent}- {first}"
            yield from (f"{indent}  {line}" for line in rest)
        else:
            yield f"{indent}- {_scalar(value)}"
    elif isinstance(value, dict | list) and value:
        yield f"{indent}{step}:"
        yield from (f"{indent}  {line}" for line in _dumped(value))
    else:
        yield f"{indent}{step}: {_scalar(value)}"


def _key(step: str) -> str:
    return step[1:-1].replace("=", ": ", 1).replace('"', "")


def _dumped(value: Any) -> list[str]:
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)
    return text.rstrip("\n").split("\n")


def _scalar(value: Any) -> str:
    if isinstance(value, str) and "\n" in value:
        value = value.encode("unicode_escape").decode()
    text: str = yaml.safe_dump(value, allow_unicode=True, width=10_000)
    return text.removesuffix("\n...\n").rstrip("\n")


def alike(answers: Iterable[Any]) -> list[tuple[list[str], Any]]:
    """Group targets whose differences are the same, but for when they were made."""
    groups: dict[str, tuple[list[str], Any]] = {}
    for answer in answers:
        bare = [{**item, "time": ""} for item in answer["differences"]]
        key = repr((answer["same"], answer["omitted"], answer["unknown"], bare))
        groups.setdefault(key, ([], answer))[0].append(answer["target"])
    return list(groups.values())
