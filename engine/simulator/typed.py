"""Typed values: their field sets, their differences, merging and removing. Pure.

Follows structured-merge-diff, which is how a real API server books ownership: what is a leaf,
when a container is itself a member, and how list items keep their order when merged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, Final

from engine.simulator import fields
from engine.simulator.fields import Fields, Path
from engine.simulator.schema import ANY, ANY_ATOMIC, SCALAR, Type


class TypedError(ValueError):
    """A value that does not fit its type; `path` is where."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(f"{fields.describe(path) or '.'}: {message}")
        self.path = path


class _Absent:
    """What is not there; None is JSON's null, which is there."""


ABSENT: Final = _Absent()
_DEDUCED_MAP = Type("map", element=ANY)
_DEDUCED_LIST = Type("list", atomic=True, element=ANY)
_ATOMIC_MAP = Type("map", atomic=True, element=ANY_ATOMIC)


def resolve(typ: Type, item: Any) -> Type:
    """The type to treat a value by: `any` becomes what the value is."""
    if typ.form != "any":
        return typ
    if isinstance(item, dict):
        return _ATOMIC_MAP if typ.atomic else _DEDUCED_MAP
    if isinstance(item, list):
        return _DEDUCED_LIST
    return SCALAR


def equal(left: Any, right: Any) -> bool:
    """Equality of JSON values: unlike Python's, `true` is not 1, but 1 is 1.0."""
    if left is right:
        return True
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and len(left) == len(right)
            and all(k in right and equal(v, right[k]) for k, v in left.items())
        )
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return False
    return bool(left == right)


def item_element(typ: Type, item: Any, path: Path) -> str:
    """The path element of a list item; raises TypedError when its key fields are missing."""
    if not typ.keys:
        return fields.value(item)
    if not isinstance(item, dict):
        raise TypedError(path, "associative list with keys may not have non-map elements")
    defaults = typ.element.defaults if typ.element else {}
    found = {}
    for name in typ.keys:
        if item.get(name) is not None:
            found[name] = item[name]
        elif name in defaults:
            found[name] = defaults[name]
    if not found:
        names = ", ".join(json.dumps(k) for k in typ.keys)
        raise TypedError(
            path,
            f"associative list with keys has an element that omits all key fields [{names}]"
            " (and doesn't have default values for any key fields)",
        )
    return fields.key(found)


def check(item: Any, typ: Type, path: Path = ()) -> Iterator[TypedError]:
    """Yields what does not fit: wrong forms, undeclared fields, duplicate list items."""
    if item is None:
        return
    typ = resolve(typ, item)
    if typ.form == "scalar":
        yield from _check_scalar(item, typ, path)
    elif typ.form == "list":
        if not isinstance(item, list):
            yield TypedError(path, f"expected list, got {_shown(item, typ)}")
            return
        element = typ.element or ANY
        seen: set[str] = set()
        for index, child in enumerate(item):
            here = (*path, f"i:{index}")
            if not typ.atomic:
                try:
                    name = item_element(typ, child, here)
                except TypedError as error:
                    yield error
                    continue
                here = (*path, name)
                if name in seen:
                    shown = fields.describe((name,))
                    yield TypedError(path, f"duplicate entries for key {shown}")
                seen.add(name)
            yield from check(child, element, here)
    else:
        if not isinstance(item, dict):
            yield TypedError(path, f"expected map, got {_shown(item, typ)}")
            return
        for name, child in item.items():
            inner = typ.child(name)
            if inner is None:
                yield TypedError((*path, fields.field(name)), "field not declared in schema")
            else:
                yield from check(child, inner, (*path, fields.field(name)))


def _check_scalar(item: Any, typ: Type, path: Path) -> Iterator[TypedError]:
    got = _json_name(item)
    if typ.scalar == "number" and got != "number":
        shown = _GO_TYPES.get(got, got)
        yield TypedError(path, f"expected numeric (int or float), got {shown}")
    elif typ.scalar in ("string", "boolean") and got != typ.scalar:
        yield TypedError(path, f"expected {typ.scalar}, got {_shown(item, typ)}")
    elif got in ("map", "list"):
        yield TypedError(path, f"expected scalar, got {got}")


_GO_TYPES = {"boolean": "bool", "list": "[]interface {}", "map": "map[string]interface {}"}


def _shown(item: Any, typ: Type) -> str:
    """Return a value as a real server shows it: in the wrapping that it has there, in Go."""
    name, value = ("value.valueUnstructured", "Value:") if typ.scalar == "string" else ("", "")
    return f"&{name}{{{value}{_go(item)}}}"


def _go(item: Any) -> str:
    match item:
        case bool():
            return str(item).lower()
        case list():
            return "[" + " ".join(map(_go, item)) + "]"
        case dict():
            return "map[" + " ".join(f"{k}:{_go(v)}" for k, v in sorted(item.items())) + "]"
    return str(item)


def _json_name(item: Any) -> str:
    match item:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "list"
        case dict():
            return "map"
    return "null"


def to_fields(item: Any, typ: Type) -> Fields:
    """The set of fields that a value names."""
    typ = resolve(typ, item)
    out: Fields = {}
    if typ.form == "map" and isinstance(item, dict) and not typ.atomic:
        for name, child in item.items():
            inner = typ.child(name) or ANY
            known = name in typ.fields
            node = _child_fields(child, inner, member=not known or child is None or child == {})
            if node is not None:
                out[fields.field(name)] = node
    elif typ.form == "list" and isinstance(item, list) and not typ.atomic:
        element = typ.element or ANY
        for child in item:
            node = _child_fields(child, element, member=True)
            out[item_element(typ, child, ())] = node if node is not None else {}
    return out


def _child_fields(item: Any, typ: Type, *, member: bool) -> Fields | None:
    resolved = resolve(typ, item)
    if resolved.form == "scalar" or resolved.atomic:
        return {}
    node = to_fields(item, resolved)
    if member:
        return {".": {}, **node} if node else {}
    return node or None


@dataclass(slots=True)
class Comparison:
    """What changed from one value to another, as field sets."""

    added: Fields = dataclass_field(default_factory=dict)
    modified: Fields = dataclass_field(default_factory=dict)
    removed: Fields = dataclass_field(default_factory=dict)

    @property
    def same(self) -> bool:
        """Whether nothing changed."""
        return not (self.added or self.modified or self.removed)


def compare(old: Any, new: Any, typ: Type) -> Comparison:
    """What changes from the old value to the new one. Order of list items is no change."""
    found = Comparison()
    _compare(old, new, typ, (), found)
    return found


def _compare(old: Any, new: Any, typ: Type, path: Path, found: Comparison) -> None:
    if old is new:
        return
    by_old = resolve(typ, new if old is ABSENT else old)
    by_new = resolve(typ, old if new is ABSENT else new)
    leaf = _descend(old, new, by_new, path, found)
    if by_old is not by_new:
        leaf = _descend(old, new, by_old, path, found) or leaf
    if not leaf and path:
        if old is ABSENT:
            fields.insert(found.added, path)
        elif new is ABSENT:
            fields.insert(found.removed, path)


def _descend(old: Any, new: Any, typ: Type, path: Path, found: Comparison) -> bool:
    """Compares below a path; True when the path was itself taken as a leaf."""
    empty = (old is ABSENT or not old) and (new is ABSENT or not new)
    if typ.form == "scalar" or typ.atomic or empty:
        _leaf(old, new, path, found)
        return True
    if typ.form == "map":
        before = old if isinstance(old, dict) else {}
        after = new if isinstance(new, dict) else {}
        for name in before.keys() | after.keys():
            inner = typ.child(name) or ANY
            here = (*path, "f:" + name)
            _compare(before.get(name, ABSENT), after.get(name, ABSENT), inner, here, found)
        return False
    before_items = _index(typ, old, path)
    after_items = _index(typ, new, path)
    element = typ.element or ANY
    for name in before_items.keys() | after_items.keys():
        left = before_items.get(name, ABSENT)
        right = after_items.get(name, ABSENT)
        _compare(left, right, element, (*path, name), found)
    return False


def _leaf(old: Any, new: Any, path: Path, found: Comparison) -> None:
    if not path:
        return
    if old is ABSENT:
        fields.insert(found.added, path)
    elif new is ABSENT:
        fields.insert(found.removed, path)
    elif not equal(old, new):
        fields.insert(found.modified, path)


def _index(typ: Type, items: Any, path: Path) -> dict[str, Any]:
    """List items by path element; of duplicates the first, with all that differ as one change."""
    out: dict[str, Any] = {}
    if isinstance(items, list):
        for item in items:
            out.setdefault(item_element(typ, item, path), item)
    return out


def remove(item: Any, gone: Fields, typ: Type) -> Any:
    """The value without the fields of a set; a container that loses all becomes ABSENT."""
    typ = resolve(typ, item)
    if not gone or typ.form == "scalar":
        return item
    if typ.atomic:
        # A path below something owned as one piece cannot be removed from it.
        return item or ABSENT
    if typ.form == "list":
        if not isinstance(item, list):
            return item
        element = typ.element or ANY
        kept = []
        for child in item:
            rest = _remove_child(child, gone.get(item_element(typ, child, ())), element)
            if rest is not ABSENT:
                kept.append(rest)
        return kept or ABSENT
    if not isinstance(item, dict):
        return item
    out = {}
    for name, child in item.items():
        rest = _remove_child(child, gone.get("f:" + name), typ.child(name) or ANY)
        if rest is not ABSENT:
            out[name] = rest
    return out or ABSENT


def _remove_child(item: Any, node: Fields | None, typ: Type) -> Any:
    if node is None:
        return item
    return ABSENT if fields.is_member(node) else remove(item, node, typ)


def name_members(gone: Fields, typ: Type) -> Fields:
    """The set with every declared field that has children in it added as a member itself.

    Field sets leave structs out; to remove or keep a struct whole it has to be named.
    """
    out: Fields = {}
    for element, node in gone.items():
        if element == ".":
            out["."] = {}
            continue
        if not node:
            out[element] = node
            continue
        declared = element[:2] == "f:" and element[2:] in typ.fields
        inner = (typ.child(element[2:]) if element[:2] == "f:" else typ.element) or ANY
        child = name_members(node, inner)
        out[element] = {".": {}, **child} if declared else child
    return out


def merge(live: Any, config: Any, typ: Type) -> Any:
    """The live value with the applied one laid over it; either may be ABSENT."""
    if config is ABSENT:
        return live
    resolved = resolve(typ, config)
    if resolved.form == "scalar" or resolved.atomic or live is ABSENT:
        return config
    if not live and not config:
        return config
    if resolved.form == "map":
        if not isinstance(config, dict | None) or not isinstance(live, dict | None):
            return config
        before, after = live or {}, config or {}
        out = dict(before)
        for name, child in after.items():
            out[name] = merge(before.get(name, ABSENT), child, resolved.child(name) or ANY)
        return out
    if not isinstance(config, list | None) or not isinstance(live, list | None):
        return config
    return _merge_list(live or [], config or [], resolved)


def _merge_list(live: list[Any], config: list[Any], typ: Type) -> list[Any]:
    """Merges by item: the applied order holds, and items only in the live list keep their places.

    The walk and its odd corners are structured-merge-diff's `visitListItems`, so that the order
    that comes out is the real server's.
    """
    element = typ.element or ANY
    left = [item_element(typ, item, ()) for item in live]
    right = [item_element(typ, item, ()) for item in config]
    live_by = dict(zip(reversed(left), reversed(live), strict=True))
    config_by = dict(zip(reversed(right), reversed(config), strict=True))
    shared = [name for name in right if name in live_by]
    turn = 0
    merged: set[str] = set()
    out: list[Any] = []
    i = j = 0
    while i < len(left) or j < len(right):
        if i < len(left) and j < len(right):
            name = left[i]
            if name == right[j]:
                merged.add(name)
                out.append(merge(live_by[name], config_by[name], element))
                i, j, turn = i + 1, j + 1, turn + 1
                continue
            if name in config_by and turn < len(shared) and shared[turn] != name:
                i += 1
                continue
        if i < len(left):
            name = left[i]
            if name not in config_by:
                out.append(live[i])
                i += 1
                continue
            if name in merged:
                i += 1
        if j < len(right):
            name = right[j]
            merged.add(name)
            out.append(merge(live_by.get(name, ABSENT), config_by[name], element))
            j += 1
            if turn < len(shared) and shared[turn] == name:
                turn += 1
    return out
