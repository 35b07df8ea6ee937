"""Types of objects: which fields they have and how their lists and maps are owned. Pure.

Built-in kinds come from `schema.json`; custom resources from their definition's structural schema.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

Form = Literal["scalar", "map", "list", "any"]


@dataclass(slots=True, eq=False)
class Type:
    """How one value is typed.

    `scalar` names what a scalar may be: string, number, boolean, or "" for any of them. A `map`
    has named `fields`, an `element` type for other keys, or both; without an element type other
    keys are undeclared. A `list` is `atomic`, a set (`keys` empty) or told apart by its `keys`.
    `any` is a value without a schema: owned as one piece when `atomic`, else by what it is.
    """

    form: Form
    scalar: str = ""
    atomic: bool = False
    fields: dict[str, Type] = field(default_factory=dict)
    element: Type | None = None
    keys: tuple[str, ...] = ()
    defaults: dict[str, Any] = field(default_factory=dict)
    # Strategic merge: field -> (strategies, merge key).
    patch: dict[str, tuple[str, str]] = field(default_factory=dict)
    # How a built-in kind writes empty fields: as a zero, as null, or not at all.
    zeros: frozenset[str] = frozenset()
    nulls: frozenset[str] = frozenset()
    omitted: frozenset[str] = frozenset()
    # The definition's name, for OpenAPI.
    name: str = ""

    def child(self, name: str) -> Type | None:
        """The type of a field or a map's value; None where no such field is declared."""
        return self.fields.get(name, self.element)


ANY_ATOMIC = Type("any", atomic=True)
ANY = Type("any")
STRING = Type("scalar", "string")
NUMBER = Type("scalar", "number")
INTEGER = Type("scalar", "number", name="integer")
BOOLEAN = Type("scalar", "boolean")
SCALAR = Type("scalar")
QUANTITY = Type("scalar", name="quantity")
_LEAVES = {
    "s": STRING,
    "i": INTEGER,
    "n": NUMBER,
    "b": BOOLEAN,
    "x": SCALAR,
    "q": QUANTITY,
    "*": ANY_ATOMIC,
}
_LIST = re.compile(r"(=|[A-Za-z,]*)\[(.*)\]$", re.DOTALL)


class Types:
    """The built-in types, made when first asked for, since most kinds are never met."""

    def __init__(self, table: dict[str, Any]) -> None:
        self.kinds: dict[str, str] = table["kinds"]
        self.table: dict[str, Any] = table["types"]
        self._made: dict[str, Type] = {}

    def of_kind(self, group: str, version: str, kind: str) -> Type | None:
        """The type of a built-in kind; None when there is no such kind."""
        name = self.kinds.get(f"{group}/{version}/{kind}")
        return self.named(name) if name else None

    def named(self, name: str) -> Type:
        """The type of a definition, by its short name; raises KeyError for an unknown one."""
        made = self._made.get(name)
        if made is None:
            entry = self.table[name]
            made = self._made[name] = Type("map", name=name)
            # Entered before its fields are made: JSONSchemaProps refers to itself.
            written: dict[str, str] = entry["fields"]
            made.fields = {k: self.parse(v.rstrip("!~?")) for k, v in written.items()}
            made.zeros = frozenset(k for k, v in written.items() if v[-1] == "!")
            made.nulls = frozenset(k for k, v in written.items() if v[-1] == "~")
            made.omitted = frozenset(k for k, v in written.items() if v[-1] == "?")
            made.defaults = entry.get("defaults", {})
            made.patch = {k: (s, m) for k, (s, m) in entry.get("patch", {}).items()}
        return made

    def parse(self, text: str) -> Type:
        """Reads a type in the notation of `make_schema`."""
        made = self._made.get(text)
        if made is None:
            made = self._parse(text)
            if not text.startswith("@"):
                self._made[text] = made
        return made

    def _parse(self, text: str) -> Type:
        if leaf := _LEAVES.get(text):
            return leaf
        if text[0] == "@":
            return self.named(text[1:])
        if text[0] == "!" and text[1] == "@":
            whole = self.named(text[2:])
            return dataclasses.replace(whole, atomic=True)
        if text[-1] == "}":
            inner = self.parse(text[text.index("{") + 1 : -1])
            return Type("map", atomic=text[0] == "!", element=inner)
        match = _LIST.match(text)
        if match is None:
            raise ValueError(f"schema.json: {text!r} is no type")
        how, inner_text = match.groups()
        keys = tuple(how.split(",")) if how and how != "=" else ()
        return Type("list", atomic=not how, element=self.parse(inner_text), keys=keys)


@functools.cache
def builtin() -> Types:
    """The built-in types of `schema.json`."""
    text = resources.files("engine.simulator").joinpath("schema.json").read_bytes()
    return Types(json.loads(text))


def from_structural(schema: dict[str, Any]) -> Type:
    """The type that a custom resource's structural schema describes, with standard metadata."""
    made = _structural(schema)
    if made.form != "map":
        made = Type("map", element=ANY)
    return _with_metadata(made)


def _with_metadata(made: Type) -> Type:
    metadata = builtin().named("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
    return Type(
        "map",
        atomic=made.atomic,
        fields={**made.fields, "apiVersion": STRING, "kind": STRING, "metadata": metadata},
        element=made.element,
    )


def _structural(schema: dict[str, Any]) -> Type:
    preserve = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    if schema.get("x-kubernetes-int-or-string"):
        return SCALAR
    match schema.get("type"):
        case "object":
            return _structural_map(schema, preserve)
        case "array":
            return _structural_list(schema)
        case "string":
            return STRING
        case "integer":
            return INTEGER
        case "number":
            return NUMBER
        case "boolean":
            return BOOLEAN
    return ANY


def _structural_map(schema: dict[str, Any], preserve: bool) -> Type:
    atomic = schema.get("x-kubernetes-map-type") == "atomic"
    properties = schema.get("properties") or {}
    more = schema.get("additionalProperties")
    element: Type | None = ANY if preserve else None
    if isinstance(more, dict):
        element = _structural(more)
    elif more is True:
        element = ANY
    made = Type(
        "map",
        atomic=atomic,
        fields={name: _structural(child) for name, child in properties.items()},
        element=element,
        defaults={
            name: child["default"] for name, child in properties.items() if "default" in child
        },
    )
    return _with_metadata(made) if schema.get("x-kubernetes-embedded-resource") else made


def _structural_list(schema: dict[str, Any]) -> Type:
    items = schema.get("items")
    element = _structural(items) if isinstance(items, dict) else ANY
    how = schema.get("x-kubernetes-list-type", "atomic")
    keys = tuple(schema.get("x-kubernetes-list-map-keys") or ()) if how == "map" else ()
    return Type("list", atomic=how == "atomic", element=element, keys=keys)


def scale() -> Type:
    """The type of the scale subresource, autoscaling/v1."""
    made = builtin().of_kind("autoscaling", "v1", "Scale")
    if made is None:
        raise LookupError("schema.json lacks autoscaling/v1 Scale")
    return made
