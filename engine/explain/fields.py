"""The fields of declared resources, told out of the model itself: one source for all."""

from __future__ import annotations

import inspect as python
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

import msgspec
from msgspec import Struct, inspect

from engine.resources.model import Resource
from engine.resources.spelling import did_you_mean


class Field(Struct, frozen=True):
    """One field. `path` is written from the kind's top; `type` is in words; "" where not there."""

    path: str
    type: str
    description: str
    details: str = ""
    required: bool = False
    default: str = ""
    allowed: tuple[str, ...] = ()
    rule: str = ""
    example: str = ""
    fields: tuple[Field, ...] = ()

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition(".")[2]


class UnknownField(LookupError):
    """Nothing is called so; the message names the nearest."""


KINDS: dict[str, type[Struct]] = {kind.__name__: kind for kind in get_args(Resource)}


@cache
def kind_of(name: str) -> Field:
    """Return a kind as the field that everything of it is below."""
    kind = KINDS[name]
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    tag = Field("kind", "text", "The kind.", required=True, allowed=(name,), example=name)
    first, *rest = _fields(info, "")
    return Field(name, "mapping", _doc(kind)[0], _doc(kind)[1], fields=(first, tag, *rest))


def find(words: str) -> tuple[str, Field]:
    """Return the kind and the field that `application.sync` or `application.spec.sync` means.

    `spec.` may be left out. Raises `UnknownField`.
    """
    word, *parts = [part for part in words.strip().split(".") if part] or [""]
    spelt = {name.lower(): name for name in KINDS} | _OTHER_WORDS
    kind = spelt.get(word.lower())
    if kind is None:
        near = did_you_mean(word.lower(), spelt) or f"; there are {', '.join(sorted(KINDS))}"
        raise UnknownField(f"no kind is called {word}{near}")
    field = kind_of(kind)
    top = {item.name for item in field.fields}
    if parts and parts[0] not in top:
        parts.insert(0, "spec")
    for part in parts:
        known = {item.name: item for item in field.fields}
        if part not in known:
            # Said of what was written: whoever left `spec.` out may have meant the top.
            names = [*known, *(top if field.path == "spec" else ())]
            near = did_you_mean(part, names) or _list_of(names)
            raise UnknownField(f"{kind} has no field {'.'.join(parts)}{near}")
        field = known[part]
    return kind, field


def _list_of(names: list[str]) -> str:
    return f"; there are {', '.join(names)}" if names else ": it has no fields"


_OTHER_WORDS = {
    "app": "Application",
    "apps": "Application",
    "applications": "Application",
    "clusters": "Cluster",
    "repo": "Repository",
    "repos": "Repository",
    "repositories": "Repository",
    "notifications": "Notification",
}


def walk(field: Field) -> Iterator[Field]:
    """Yield all fields below one, each before its own."""
    for below in field.fields:
        yield below
        yield from walk(below)


def _fields(info: inspect.StructType, prefix: str) -> Iterator[Field]:
    for field in info.fields:
        yield _field(field, f"{prefix}{field.encode_name}")


def _field(field: inspect.Field, path: str) -> Field:
    about, wanted = _unwrapped(field.type)
    details, description = "", str(about.get("description", ""))
    below: tuple[Field, ...] = ()
    inner = wanted.item_type if isinstance(wanted, inspect.VarTupleType) else wanted
    _, inner = _unwrapped(inner)
    if isinstance(inner, inspect.StructType):
        summary, details = _doc(inner.cls)
        if summary.startswith(description.rstrip(".")):
            description = summary
        elif summary:
            details = f"{summary} {details}".strip()
        below = tuple(_fields(inner, f"{path}."))
    examples = about.get("examples") or ()
    return Field(
        path,
        _word(wanted),
        description,
        details,
        field.required,
        _default(field),
        tuple(map(str, inner.values)) if isinstance(inner, inspect.LiteralType) else (),
        _rule(wanted),
        _json(examples[0]) if examples else "",
        below,
    )


def _unwrapped(wanted: inspect.Type) -> tuple[dict[str, Any], inspect.Type]:
    """Take off what is said about a type, and the null that leaving a field out stands for."""
    about: dict[str, Any] = {}
    while True:
        if isinstance(wanted, inspect.Metadata):
            # The outermost word counts: it is about the field, the inner ones about its type.
            about = {**(wanted.extra_json_schema or {}), **about}
            wanted = wanted.type
        elif isinstance(wanted, inspect.UnionType) and wanted.includes_none:
            (wanted,) = [kind for kind in wanted.types if not isinstance(kind, inspect.NoneType)]
        else:
            return about, wanted


def _word(wanted: inspect.Type) -> str:
    match _unwrapped(wanted)[1]:
        case inspect.StructType() | inspect.DictType():
            return "mapping"
        case inspect.VarTupleType() as several:
            return f"list of {_word(several.item_type)}"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "whole number"
        case _:
            return "text"


def _rule(wanted: inspect.Type) -> str:
    _, wanted = _unwrapped(wanted)
    if isinstance(wanted, inspect.VarTupleType):
        return _rule(wanted.item_type)
    if isinstance(wanted, inspect.IntType) and wanted.ge is not None and wanted.le is not None:
        return f"{wanted.ge} to {wanted.le}"
    if not isinstance(wanted, inspect.StrType):
        return ""
    parts = [f"fits {wanted.pattern}"] if wanted.pattern else []
    if wanted.max_length:
        parts.append(f"at most {wanted.max_length} characters")
    return ", ".join(parts)


def _default(field: inspect.Field) -> str:
    value = field.default
    if value is msgspec.NODEFAULT or value is None or value == () or isinstance(value, Struct):
        return ""
    return _json(value)


def _json(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _doc(kind: type) -> tuple[str, str]:
    summary, _, rest = (python.getdoc(kind) or "").partition("\n\n")
    return " ".join(summary.split()), " ".join(rest.split())
