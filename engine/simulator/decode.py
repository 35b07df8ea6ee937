"""What a server makes of a body: unknown fields dropped, empty ones left out, wrong ones refused.

Built-in kinds pass through typed structs in a real server, which is why an empty list or map
comes back as nothing at all, while an empty struct stays. Pure.
"""

from __future__ import annotations

from typing import Any

from engine.simulator import quantity
from engine.simulator.schema import Type


class WrongTypeError(ValueError):
    """A value that a built-in kind cannot hold."""


def builtin(item: dict[str, Any], typ: Type, unknown: list[str]) -> dict[str, Any]:
    """Returns the object as a built-in kind would hold it.

    Names of fields that the kind does not have are added to `unknown`; raises WrongTypeError.
    """
    out = _struct(item, typ, "", unknown)
    return out if isinstance(out, dict) else {}


def empty(typ: Type) -> dict[str, Any]:
    """The empty object of a built-in kind: what it writes of fields that nobody named."""
    out: dict[str, Any] = dict.fromkeys(typ.nulls)
    for name in typ.zeros:
        out[name] = _zero(typ.fields[name])
    return out


def _zero(typ: Type) -> Any:
    if typ.form == "map":
        return empty(typ)
    if typ.scalar == "string":
        return ""
    if typ.scalar == "boolean":
        return False
    return "0" if typ.name == "quantity" else 0


def _struct(item: dict[str, Any], typ: Type, path: str, unknown: list[str]) -> dict[str, Any]:
    out = {}
    for name, child in item.items():
        inner = typ.child(name)
        here = f"{path}.{name}" if path else name
        if inner is None:
            unknown.append(here)
            continue
        if child is None:
            continue
        value = _value(child, inner, here, unknown)
        if name in typ.nulls and value in ([], {}) and not inner.fields:
            continue
        if name not in typ.omitted or value not in (False, 0, "", [], {}):
            out[name] = value
    for name in typ.nulls:
        out.setdefault(name, None)
    for name in typ.zeros:
        if name not in out:
            out[name] = _zero(typ.fields[name])
    return out


def _value(item: Any, typ: Type, path: str, unknown: list[str]) -> Any:
    if typ.form == "scalar":
        return _scalar(item, typ, path)
    if typ.form == "any":
        return item
    if typ.form == "list":
        if not isinstance(item, list):
            raise WrongTypeError(f"cannot unmarshal {_go(item)} into Go struct field {path} []")
        element = typ.element
        if element is None or element.form == "any":
            return item
        return [
            child if child is None else _value(child, element, f"{path}[{index}]", unknown)
            for index, child in enumerate(item)
        ]
    if not isinstance(item, dict):
        raise WrongTypeError(f"cannot unmarshal {_go(item)} into Go struct field {path} map")
    if typ.fields:
        return _struct(item, typ, path, unknown)
    element = typ.element
    if element is None:
        return item
    # A null in a map of strings is the empty string to a typed decoder.
    return {
        name: _value(
            "" if child is None and element.scalar == "string" else child,
            element,
            f"{path}.{name}",
            unknown,
        )
        for name, child in item.items()
    }


def _scalar(item: Any, typ: Type, path: str) -> Any:
    wanted = typ.scalar
    if wanted == "string" and not isinstance(item, str):
        raise WrongTypeError(
            f"cannot unmarshal {_go(item)} into Go struct field {path} of type string"
        )
    if wanted == "boolean" and not isinstance(item, bool):
        raise WrongTypeError(
            f"cannot unmarshal {_go(item)} into Go struct field {path} of type bool"
        )
    if wanted == "number":
        if isinstance(item, bool) or not isinstance(item, int | float):
            raise WrongTypeError(
                f"cannot unmarshal {_go(item)} into Go struct field {path} of type int32"
            )
        if typ.name == "integer" and isinstance(item, float):
            if not item.is_integer():
                raise WrongTypeError(
                    f"cannot unmarshal number {item} into Go struct field {path} of type int32"
                )
            return int(item)
    if typ.name == "quantity" and not isinstance(item, bool | dict | list):
        written = quantity.canonical(item if isinstance(item, str) else f"{item}")
        if written is None:
            raise WrongTypeError(
                "quantities must match the regular expression "
                "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            )
        return written
    if isinstance(item, dict | list):
        raise WrongTypeError(f"cannot unmarshal {_go(item)} into Go struct field {path}")
    return item


def _go(item: Any) -> str:
    match item:
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"
