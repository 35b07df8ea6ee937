"""How one setting is read: from text, as flags and variables give it, or from a TOML value."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from engine.resources import duration
from engine.resources.spelling import did_you_mean

Seconds = Annotated[float, Meta(extra={"as": "duration"})]
"""The annotation of a setting that is written as a duration and held in seconds."""


class Field(Struct, frozen=True):
    """What is known of one setting; `read` turns a flag, variable or TOML value into its own."""

    name: str
    description: str
    default: str
    kind: str
    read: Callable[[object], object]


def field(info: msgspec.structs.FieldInfo) -> Field:
    """Tell from a struct's field how its setting is read and described."""
    metas = _metas(info.type)
    description = next((m.description for m in metas if m.description), "")
    is_duration = any((m.extra or {}).get("as") == "duration" for m in metas)
    base = _bare(info.type)
    many = getattr(base, "__origin__", None) is tuple
    inner = base.__args__[0] if many else base
    kind = "duration" if is_duration else _kind_of(inner)

    def read(value: object) -> object:
        if many:
            items = value.split(",") if isinstance(value, str) else value
            if not isinstance(items, list | tuple):
                raise TypeError(f"expected a list, got {value!r}")
            return tuple(_scalar(kind, inner, item) for item in items if item != "")
        plain = _scalar(kind, inner, value)
        # The limits (ge, le) stand in the annotation; a Path is no type that msgspec converts.
        return plain if kind == "path" else msgspec.convert(plain, info.type)

    default: Any = info.default
    if name_default := _DEFAULTS.get(info.name):
        shown = name_default
    elif default is None or default == ():
        shown = ""
    elif is_duration:
        shown = duration.spell(default)
    else:
        shown = str(default).lower() if isinstance(default, bool) else str(default)
    return Field(info.name, description, shown, _list_of(kind) if many else kind, read)


def _list_of(kind: str) -> str:
    return f"list, each {kind}" if kind.startswith("one of ") else f"list of {kind}s"


_DEFAULTS = {
    "data_dir": "$XDG_DATA_HOME/trueup",
    "signing_key_file": "signing.key in data_dir",
    "redaction_key_file": "redaction.key in data_dir",
}


def _metas(annotation: Any) -> list[Meta]:
    found = [m for m in getattr(annotation, "__metadata__", ()) if isinstance(m, Meta)]
    inner = getattr(annotation, "__origin__", None)
    return found + (_metas(inner) if inner is not None and found else [])


def _bare(annotation: Any) -> Any:
    while hasattr(annotation, "__metadata__"):
        annotation = annotation.__origin__
    args = getattr(annotation, "__args__", ())
    if type(None) in args:
        return next(arg for arg in args if arg is not type(None))
    return annotation


def _kind_of(inner: Any) -> str:
    if getattr(inner, "__origin__", None) is Literal:
        return "one of " + ", ".join(inner.__args__)
    return {str: "text", bool: "yes or no", int: "number", Path: "path"}[inner]


_TRUE, _FALSE = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off"})


def _scalar(kind: str, inner: Any, value: object) -> object:
    if kind == "duration":
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        return duration.seconds(str(value).strip())
    if kind == "path":
        if not isinstance(value, str | Path) or not str(value):
            raise ValueError(f"expected a path, got {value!r}")
        return Path(os.path.abspath(os.path.expanduser(value)))
    if kind == "yes or no":
        text = str(value).strip().lower()
        if text not in _TRUE | _FALSE:
            raise ValueError(f"expected true or false, got {value!r}")
        return text in _TRUE
    if kind == "number":
        if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]{1,9}", str(value).strip()):
            raise ValueError(f"expected a whole number, got {value!r}")
        return int(str(value))
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    if getattr(inner, "__origin__", None) is Literal and value not in inner.__args__:
        near = did_you_mean(value, inner.__args__)
        raise ValueError(f"expected {kind}, got {value!r}{near}")
    return value
