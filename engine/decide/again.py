"""Where a decision that was made again differs from the recorded one, field by field. Pure.

What the release that recorded it did not know is not compared: it neither said it nor denied it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from events.catalog import Fact
from events.codec import type_of
from events.shapes import unknown_to

_INDEX = re.compile(r"\[\d+\]")
_LISTS = (list, tuple)


class Discrepancy(Struct, frozen=True):
    """A field that is not what it was; `path` begins with the fact's type.

    A whole fact that only one of the two has goes by its type alone. None is for what is not there.
    """

    path: str
    then: Any
    now: Any


def discrepancies(
    then: Sequence[Fact], schemas: Sequence[int], now: Sequence[Fact]
) -> tuple[Discrepancy, ...]:
    """Compare recorded facts, each written in one of `schemas`, with those of today."""
    before, after = [type_of(fact)[0] for fact in then], [type_of(fact)[0] for fact in now]
    if before == after:
        found = (
            each
            for name, schema, old, new in zip(before, schemas, then, now, strict=True)
            for each in _between(name, unknown_to(name, schema), _plain(old), _plain(new))
        )
        return tuple(found)
    gone, new = Counter(before) - Counter(after), Counter(after) - Counter(before)
    if not gone and not new:
        return (Discrepancy("order", before, after),)
    return (
        *(Discrepancy(name, _first(then, name), None) for name in gone),
        *(Discrepancy(name, None, _first(now, name)) for name in new),
    )


def _between(path: str, unknown: frozenset[str], old: Any, new: Any) -> Iterator[Discrepancy]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys((*old, *new)):
            here = f"{path}.{name}"
            if name not in old and _bare(here) in unknown:
                continue
            yield from _between(here, unknown, old.get(name), new.get(name))
    elif isinstance(old, _LISTS) and isinstance(new, _LISTS) and len(old) == len(new):
        for number, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _between(f"{path}[{number}]", unknown, before, after)
    elif old != new:
        yield Discrepancy(path, old, new)


def _bare(path: str) -> str:
    """Return a path as `events.shapes` writes it: without the type, and without indexes."""
    return _INDEX.sub("", path).partition(".")[2]


def _plain(fact: Fact) -> Any:
    """Return a fact as its payload says it, without the position that is noted afterwards."""
    plain = msgspec.to_builtins(fact)
    plain.pop("seen", None)
    return plain


def _first(facts: Sequence[Fact], name: str) -> Any:
    return next(_plain(fact) for fact in facts if type_of(fact)[0] == name)
