"""Holding plain data against a declared structure, and naming everything that does not fit.

Pure. `msgspec.convert` stops at the first fault; a person mending a file wants them all, with
the nearest known name for what is misspelt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, cast

from msgspec import Struct, inspect

from engine.resources.spelling import nearest

Path = tuple[str | int, ...]


class Fault(Struct, frozen=True):
    """One thing that does not fit. `path` leads to it from the document's top."""

    path: Path
    message: str
    hint: str = ""


def faults(data: object, kind: type[Struct]) -> list[Fault]:
    """Return all that keeps `data` from being a `kind`, in the order of the document."""
    return list(_check(data, _type_info(kind), ()))


# A structure is told anew each time otherwise, which takes ten times as long as the check.
_type_info = cache(inspect.type_info)


def _check(data: object, wanted: inspect.Type, path: Path) -> Iterator[Fault]:
    match wanted:
        case inspect.Metadata():
            yield from _check(data, wanted.type, path)
        case inspect.StructType():
            yield from _check_struct(data, wanted, path)
        case inspect.UnionType():
            yield from _check_union(data, wanted, path)
        case inspect.DictType():
            yield from _check_dict(data, wanted, path)
        case inspect.VarTupleType():
            yield from _check_list(data, wanted, path)
        case _:
            yield from _check_scalar(data, wanted, path)


def _check_struct(data: object, wanted: inspect.StructType, path: Path) -> Iterator[Fault]:
    if not isinstance(data, dict):
        yield Fault(path, f"must be a mapping, and is {_called(data)}")
        return
    known = {field.encode_name: field for field in wanted.fields}
    names = [*known, wanted.tag_field] if wanted.tag_field else [*known]
    for key, value in data.items():
        field = known.get(key)
        if field is not None:
            yield from _check(value, field.type, (*path, key))
        elif key != wanted.tag_field:
            near = nearest(str(key), names)
            hint = f"did you mean {near}?" if near else f"known here: {', '.join(names)}"
            yield Fault((*path, str(key)), "unknown field", hint)
    for name, field in known.items():
        if field.required and name not in data:
            yield Fault((*path, name), "is missing")


def _check_union(data: object, wanted: inspect.UnionType, path: Path) -> Iterator[Fault]:
    if data is None and wanted.includes_none:
        return
    others = [kind for kind in wanted.types if not isinstance(kind, inspect.NoneType)]
    yield from _check(data, others[0], path)


def _check_dict(data: object, wanted: inspect.DictType, path: Path) -> Iterator[Fault]:
    if not isinstance(data, dict):
        yield Fault(path, f"must be a mapping, and is {_called(data)}")
        return
    if wanted.min_length is not None and len(data) < wanted.min_length:
        yield Fault(path, "must not be empty")
    for key, value in data.items():
        yield from _check(value, wanted.value_type, (*path, str(key)))


def _check_list(data: object, wanted: inspect.VarTupleType, path: Path) -> Iterator[Fault]:
    if not isinstance(data, list | tuple):
        yield Fault(path, f"must be a list, and is {_called(data)}")
        return
    if wanted.max_length is not None and len(data) > wanted.max_length:
        yield Fault(path, f"has {len(data)} items, more than {wanted.max_length}")
        return
    if wanted.min_length is not None and len(data) < wanted.min_length:
        yield Fault(path, "must not be empty")
    for place, item in enumerate(data):
        yield from _check(item, wanted.item_type, (*path, place))


def _check_scalar(data: Any, wanted: inspect.Type, path: Path) -> Iterator[Fault]:
    match wanted:
        case inspect.LiteralType() if data not in wanted.values:
            values = [str(value) for value in wanted.values]
            near = nearest(str(data), values)
            expected = " or ".join(values)
            hint = f"did you mean {near}?" if near and len(values) > 1 else ""
            yield Fault(path, f"must be {expected}, and is {_called(data)}", hint)
        case inspect.StrType():
            yield from _check_text(data, wanted, path)
        case inspect.BoolType() if not isinstance(data, bool):
            yield Fault(path, f"must be true or false, and is {_called(data)}")
        case inspect.IntType() if not isinstance(data, int) or isinstance(data, bool):
            yield Fault(path, f"must be a whole number, and is {_called(data)}")
        case inspect.IntType():
            least, most = wanted.ge or 0, wanted.le
            if data < least or (most is not None and data > most):
                yield Fault(path, f"must lie between {least} and {most}, and is {data}")


def _check_text(data: object, wanted: inspect.StrType, path: Path) -> Iterator[Fault]:
    if not isinstance(data, str):
        hint = ""
        if isinstance(data, bool):
            # It may have been written as y, no or off.
            hint = "put it in quotes"
        elif isinstance(data, int | float):
            hint = f'in quotes: "{data}"'
        yield Fault(path, f"must be text, and is {_called(data)}", hint)
    elif wanted.min_length is not None and len(data) < wanted.min_length:
        yield Fault(path, "must not be empty")
    elif wanted.max_length is not None and len(data) > wanted.max_length:
        yield Fault(path, f"is longer than {wanted.max_length} characters")
    elif wanted.pattern is not None and not _fits(wanted.pattern, data):
        yield Fault(path, f"{_called(data)} does not fit {wanted.pattern}", _example(wanted))


def _fits(pattern: str, text: str) -> bool:
    # `$` lets a final line break pass; a name with one would be another stream.
    return re.fullmatch(pattern.removeprefix("^").removesuffix("$"), text) is not None


_EXAMPLES = {
    "([0-9]{1,9}(ms|s|m|h))": "write for example 30s, 5m or 1h30m",
    "[0-9a-f]{40}": "write all 40 hexadecimal digits of the commit",
    "[a-z0-9]": "write lower-case letters, digits, - and ., at most 63, no - or . at the ends",
}


def _example(wanted: inspect.StrType) -> str:
    pattern = cast("str", wanted.pattern)
    return next((hint for part, hint in _EXAMPLES.items() if part in pattern), "")


def _called(data: Any) -> str:
    if isinstance(data, str):
        shown = data if len(data) <= 60 else data[:57] + "..."
        return repr(shown)
    if isinstance(data, bool):
        return "true" if data else "false"
    if data is None:
        return "null"
    if isinstance(data, dict):
        return "a mapping"
    if isinstance(data, list | tuple):
        return "a list"
    return str(data)
