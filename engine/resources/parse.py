"""Declared resources out of files: all of them good, or every problem that there is.

Pure. A submission is refused whole, so that half of a change never takes effect.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from engine.objects.yaml import YamlLimits, YamlRefused, parse_located
from engine.resources import meaning, shape
from engine.resources.model import (
    STREAM_KINDS,
    Application,
    Cluster,
    Notification,
    Repository,
    Resource,
)
from engine.resources.record import kind_of
from engine.resources.spelling import nearest

LIMITS = YamlLimits(bytes=8 * 1024 * 1024, documents=5000, depth=30, nodes=500_000)
MAX_PROBLEMS = 100
_KINDS: dict[str, type[Resource]] = {
    "Repository": Repository,
    "Cluster": Cluster,
    "Application": Application,
    "Notification": Notification,
}


class Problem(Struct, frozen=True):
    """What is wrong, and where. `line` is 0 where it is not known, `field` "" for the whole."""

    file: str
    line: int
    field: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        field = f" {self.field}" if self.field else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}:{field} {self.message}{hint}"


class Refused(Exception):
    """Resources cannot be taken as they are. `problems` has at least one item."""

    code = "refused"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Located(Struct, frozen=True):
    """A resource, the file and line at which it begins, and the line of each of its fields."""

    resource: Resource
    file: str
    line: int
    line_of: Callable[[shape.Path], int] = lambda _: 0


def parse(data: bytes, filename: str) -> list[Resource]:
    """Read all resources of one file (YAML documents, or JSON). Raises `Refused`."""
    return [found.resource for found in parse_files({filename: data})]


def parse_files(files: Mapping[str, bytes]) -> list[Located]:
    """Read all resources of several files as one submission. Raises `Refused`."""
    found: list[Located] = []
    problems: list[Problem] = []
    for filename, data in files.items():
        try:
            documents = parse_located(data, limits=LIMITS)
        except YamlRefused as error:
            problems.append(Problem(filename, error.line, "", error.message))
            continue
        for document in documents:
            resource = _read(document.value, filename, document.line_of, problems)
            if resource is not None:
                found.append(Located(resource, filename, document.line, document.line_of))
    problems += _duplicates(found)
    if problems:
        raise Refused(_capped(problems))
    return found


def check_values(values: Sequence[object], source: str) -> list[Resource]:
    """Read resources that were decoded already; places are numbered from 1. Raises `Refused`."""
    found: list[Located] = []
    problems: list[Problem] = []
    for place, value in enumerate(values, 1):
        name = f"{source}, item {place}"
        resource = _read(value, name, lambda _: 0, problems)
        if resource is not None:
            found.append(Located(resource, name, 0))
    problems += _duplicates(found)
    if problems:
        raise Refused(_capped(problems))
    return [item.resource for item in found]


def field_name(path: shape.Path) -> str:
    """Write a path as people do: `spec.targets.clusters[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif "." in part or "/" in part:
            text += f'["{part}"]'
        else:
            text += f".{part}" if text else part
    return text


def path_of(field: str) -> shape.Path:
    """Read a path as `field_name` writes it."""
    found = re.findall(r'\["(.*?)"\]|\[([0-9]{1,9})\]|([^.\[\]]+)', field)
    return tuple(int(place) if place else key or name for key, place, name in found)


def _read(
    value: object,
    file: str,
    line_of: Callable[[shape.Path], int],
    problems: list[Problem],
) -> Resource | None:
    def problem(path: shape.Path, message: str, hint: str = "") -> None:
        problems.append(Problem(file, line_of(path), field_name(path), message, hint))

    kind = value.get("kind") if isinstance(value, dict) else None
    structure = _KINDS.get(kind) if isinstance(kind, str) else None
    if not isinstance(value, dict) or structure is None:
        _refuse_kind(value, kind, problem)
        return None
    faults = shape.faults(value, structure)
    if not faults:
        resource = msgspec.convert(value, structure)
        faults = list(meaning.faults(resource))
        if not faults:
            return resource
    for fault in faults:
        problem(fault.path, fault.message, fault.hint)
    return None


def _refuse_kind(value: object, kind: Any, problem: Callable[..., None]) -> None:
    known = ", ".join(STREAM_KINDS)
    if not isinstance(value, dict):
        problem((), "must be a mapping with apiVersion, kind, metadata and spec")
    elif kind is None:
        problem(("kind",), f"is missing: one of {known}")
    elif not isinstance(kind, str):
        problem(("kind",), f"must be one of {known}")
    else:
        near = nearest(kind, STREAM_KINDS)
        hint = f"did you mean {near}?" if near else f"known kinds: {known}"
        problem(("kind",), f"{kind[:60]!r} is no kind of Trueup's", hint)


def _duplicates(found: Iterable[Located]) -> Iterable[Problem]:
    first: dict[tuple[str, str, str], Located] = {}
    for item in found:
        metadata = item.resource.metadata
        key = (kind_of(item.resource), metadata.project, metadata.name)
        before = first.setdefault(key, item)
        if before is not item:
            place = f"{before.file}:{before.line}" if before.line else before.file
            yield Problem(
                item.file,
                item.line,
                "metadata.name",
                f"{key[0]} {metadata.name} is there twice",
                f"the first is at {place}",
            )


def _capped(problems: Sequence[Problem]) -> Sequence[Problem]:
    if len(problems) <= MAX_PROBLEMS:
        return problems
    left = len(problems) - MAX_PROBLEMS
    return [*problems[:MAX_PROBLEMS], Problem("", 0, "", f"and {left} more problems")]
