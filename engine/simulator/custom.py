"""Custom resources: pruning, defaults and validation by the structural schema. Pure."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

from engine.simulator.errors import Cause, cause, invalid_value, required

Schema = dict[str, Any]


def prune(
    item: Any, schema: Schema, unknown: list[str], path: str = "", *, top: bool = True
) -> Any:
    """The value without what its schema does not declare; dropped names go into `unknown`."""
    if isinstance(item, list):
        items = schema.get("items")
        if not isinstance(items, dict):
            return item
        return [
            prune(child, items, unknown, f"{path}[{index}]", top=False)
            for index, child in enumerate(item)
        ]
    if not isinstance(item, dict):
        return item
    embedded = top or bool(schema.get("x-kubernetes-embedded-resource"))
    preserve = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    properties = schema.get("properties") or {}
    more = schema.get("additionalProperties")
    out = {}
    for name, child in item.items():
        here = f"{path}.{name}" if path else name
        if embedded and name in ("apiVersion", "kind", "metadata"):
            out[name] = child
        elif name in properties:
            out[name] = prune(child, properties[name], unknown, here, top=False)
        elif isinstance(more, dict):
            out[name] = prune(child, more, unknown, here, top=False)
        elif more is True or preserve:
            out[name] = child
        else:
            unknown.append(here)
    return out


def fill(item: Any, schema: Schema) -> Any:
    """The value with its schema's defaults; nulls where none is allowed give way to them."""
    if isinstance(item, list):
        items = schema.get("items")
        return [fill(child, items) for child in item] if isinstance(items, dict) else item
    if not isinstance(item, dict):
        return item
    properties: dict[str, Schema] = schema.get("properties") or {}
    more = schema.get("additionalProperties")
    out = {}
    for name, child in item.items():
        inner = properties.get(name, more if isinstance(more, dict) else None)
        if inner is None:
            out[name] = child
        elif child is not None or inner.get("nullable"):
            out[name] = fill(child, inner)
    for name, inner in properties.items():
        if name not in out and "default" in inner:
            out[name] = fill(copy.deepcopy(inner["default"]), inner)
    return out


def validate(item: Any, schema: Schema, path: str = "") -> Iterator[Cause]:
    """Yields why the value may not be stored. CEL rules are not evaluated."""
    if item is None:
        if not schema.get("nullable") and "type" in schema:
            yield _wrong_type(path, item, schema["type"])
        return
    wanted = schema.get("type")
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(item, bool) or not isinstance(item, int | str):
            yield _wrong_type(path, item, "integer,string")
            return
    elif wanted and not _TYPES[wanted](item):
        yield _wrong_type(path, item, wanted)
        return
    if "enum" in schema and item not in schema["enum"]:
        allowed = ", ".join(f'"{value}"' for value in schema["enum"])
        shown = f'"{item}"' if isinstance(item, str) else str(item)
        yield cause(
            path,
            "FieldValueNotSupported",
            f"Unsupported value: {shown}: supported values: {allowed}",
        )
    yield from _limits(item, schema, path)
    if isinstance(item, dict):
        yield from _validate_map(item, schema, path)
    elif isinstance(item, list) and isinstance(schema.get("items"), dict):
        for index, child in enumerate(item):
            yield from validate(child, schema["items"], f"{path}[{index}]")
    for part in schema.get("allOf") or []:
        yield from validate(item, part, path)
    for word, most in (("anyOf", None), ("oneOf", 1)):
        if parts := schema.get(word):
            fitting = sum(not any(True for _ in validate(item, part, path)) for part in parts)
            if fitting == 0 or (most and fitting > most):
                yield invalid_value(path, item, f'"{path}" must validate {word} of the schemas')


def _validate_map(item: dict[str, Any], schema: Schema, path: str) -> Iterator[Cause]:
    properties = schema.get("properties") or {}
    more = schema.get("additionalProperties")
    for name in schema.get("required") or []:
        if name not in item:
            yield required(f"{path}.{name}" if path else name)
    for name, child in item.items():
        inner = properties.get(name, more if isinstance(more, dict) else None)
        if inner is not None:
            yield from validate(child, inner, f"{path}.{name}" if path else name)


def _limits(item: Any, schema: Schema, path: str) -> Iterator[Cause]:
    if isinstance(item, str):
        if (pattern := schema.get("pattern")) and not _matches(pattern, item):
            yield invalid_value(path, item, f"{path} in body should match '{pattern}'")
        size, words = len(item), ("minLength", "maxLength", "chars long")
    elif isinstance(item, list):
        size, words = len(item), ("minItems", "maxItems", "items")
    elif isinstance(item, dict):
        size, words = len(item), ("minProperties", "maxProperties", "properties")
    elif isinstance(item, int | float) and not isinstance(item, bool):
        if "minimum" in schema and item < schema["minimum"]:
            least = schema["minimum"]
            yield invalid_value(
                path, item, f"{path} in body should be greater than or equal to {least}"
            )
        if "maximum" in schema and item > schema["maximum"]:
            most = schema["maximum"]
            yield invalid_value(
                path, item, f"{path} in body should be less than or equal to {most}"
            )
        return
    else:
        return
    least, most = schema.get(words[0]), schema.get(words[1])
    if least is not None and size < least:
        yield invalid_value(path, item, f"{path} in body should be at least {least} {words[2]}")
    if most is not None and size > most:
        yield cause(path, "FieldValueTooLong", f"Too long: may not be more than {most} {words[2]}")


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        # RE2 patterns that Python does not read are taken as met.
        return True


def _wrong_type(path: str, item: Any, wanted: str) -> Cause:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    got = "null" if item is None else names.get(type(item), "object")
    return cause(
        path,
        "FieldValueTypeInvalid",
        f'Invalid value: "{got}": {path} in body must be of type {wanted}: "{got}"',
    )


def _is_integer(item: Any) -> bool:
    if isinstance(item, bool):
        return False
    return isinstance(item, int) or (isinstance(item, float) and item.is_integer())


_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda item: isinstance(item, dict),
    "array": lambda item: isinstance(item, list),
    "string": lambda item: isinstance(item, str),
    "boolean": lambda item: isinstance(item, bool),
    "integer": _is_integer,
    "number": lambda item: isinstance(item, int | float) and not isinstance(item, bool),
}
