"""Objects as a server would answer them: what was declared, defaults around it, managedFields.

A small model of server-side apply without a schema: maps are granular, lists of maps have the key
`name`, other lists are atomic, and `set` holds a set.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from engine.objects.fieldset import key_element, value_element

names = st.sampled_from(["a", "b", "c", "d"])
texts = st.sampled_from(["x", "y", "z", ""])
scalars = texts | st.integers(0, 2) | st.booleans() | st.sampled_from([1.0, 0.5])
atomic_lists = st.lists(scalars, max_size=3)
set_lists = st.lists(st.sampled_from(["p", "q", "r"]), max_size=3, unique=True)


def _keyed(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[list[dict[str, Any]]]:
    item = st.tuples(st.sampled_from(["i", "j", "k"]), inner).map(lambda p: {"name": p[0], **p[1]})
    return st.lists(item, max_size=3, unique_by=lambda item: item["name"])


def _maps(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    fields = st.dictionaries(names, inner, max_size=3)
    sets = st.none() | set_lists
    return st.tuples(fields, sets).map(
        lambda pair: {**pair[0], **({"set": pair[1]} if pair[1] else {})}
    )


maps = st.recursive(
    _maps(scalars | atomic_lists),
    lambda inner: _maps(scalars | inner | _keyed(inner)),
    max_leaves=8,
)
"""Specs: what a manifest may declare, or a server may add."""


def is_keyed(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(i, dict) for i in value)


def fields_of(value: dict[str, Any]) -> dict[str, Any]:
    """What server-side apply books for a declared map."""
    fields: dict[str, Any] = {}
    for name, inner in value.items():
        if name == "set":
            fields["f:set"] = {value_element(item): {} for item in inner}
        elif is_keyed(inner):
            fields[f"f:{name}"] = {
                key_element({"name": item["name"]}): {".": {}, **fields_of(item)} for item in inner
            }
        elif isinstance(inner, dict) and inner:
            fields[f"f:{name}"] = fields_of(inner)
        else:
            fields[f"f:{name}"] = {}
    return fields


def merged(ours: Any, theirs: Any) -> Any:
    """What a server holds: `ours`, and around it what `theirs` adds."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        both = dict(theirs)
        for name, value in ours.items():
            both[name] = merged(value, theirs[name]) if name in theirs else value
        return both
    if is_keyed(ours) and is_keyed(theirs):
        extra = {item["name"]: item for item in theirs}
        items = [merged(item, extra.pop(item["name"], {})) for item in ours]
        return items + list(extra.values())
    return ours


def obj(spec: dict[str, Any], *entries: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "x.io/v1",
        "kind": "Thing",
        "metadata": {"name": "thing", "uid": "u", "managedFields": list(entries)},
        "spec": spec,
    }


def entry(
    spec: dict[str, Any], manager: str = "trueup", operation: str = "Apply"
) -> dict[str, Any]:
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": "x.io/v1",
        "time": "2026-01-01T00:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": fields_of(spec)} if spec else {},
    }


def reordered(value: Any) -> Any:
    """The same value with the keys of every map in another order."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(list(value))}
    return [reordered(inner) for inner in value] if isinstance(value, list) else value
