"""JSON patch (RFC 6902), merge patch (RFC 7396) and strategic merge patch. Pure.

None of these changes what it is given; results may share parts with it.
"""

from __future__ import annotations

import copy
from typing import Any

from engine.simulator.errors import ApiError, bad_request
from engine.simulator.schema import ANY, Type
from engine.simulator.typed import equal

_MOST_OPERATIONS = 10_000


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396: maps are merged, null removes, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    out = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            out.pop(name, None)
        else:
            out[name] = merge_patch(out.get(name), value)
    return out


def json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902: the operations in order, all or none. Raises 400 or, for a failed test, 422."""
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: a JSON patch is a list of operations")
    if len(operations) > _MOST_OPERATIONS:
        raise ApiError(
            413,
            "RequestEntityTooLarge",
            f"The allowed maximum operations in a JSON patch is {_MOST_OPERATIONS}, "
            f"got {len(operations)}",
        )
    root = copy.deepcopy(target)
    for index, operation in enumerate(operations):
        try:
            root = _operate(root, operation)
        except (LookupError, TypeError, ValueError) as error:
            raise ApiError(
                422,
                "Invalid",
                "the server rejected our request due to an error in our request: "
                f"operation {index} of the JSON patch: {error}",
            ) from None
    return root


def _operate(root: Any, operation: Any) -> Any:
    if not isinstance(operation, dict):
        raise TypeError("an operation is an object")
    path = _pointer(operation["path"])
    match operation["op"]:
        case "add":
            return _put(root, path, copy.deepcopy(operation["value"]), insert=True)
        case "replace":
            _get(root, path)
            return _put(root, path, copy.deepcopy(operation["value"]), insert=False)
        case "remove":
            return _take(root, path)
        case "copy":
            return _put(
                root, path, copy.deepcopy(_get(root, _pointer(operation["from"]))), insert=True
            )
        case "move":
            source = _pointer(operation["from"])
            value = _get(root, source)
            if path[: len(source)] == source and path != source:
                raise ValueError("cannot move a value into itself")
            return _put(_take(root, source), path, value, insert=True)
        case "test":
            if not equal(_get(root, path), operation["value"]):
                raise ValueError(f"testing path {operation['path']} failed")
            return root
    raise ValueError(f"unknown operation {operation['op']!r}")


def _pointer(text: Any) -> list[str]:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise ValueError(f"{text!r} is no JSON pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _step(node: Any, name: str) -> Any:
    if isinstance(node, dict):
        if name not in node:
            raise LookupError(f"there is no {name!r}")
        return node[name]
    if isinstance(node, list):
        return node[_index(name, len(node) - 1)]
    raise LookupError(f"there is no {name!r} in a scalar")


def _index(name: str, most: int) -> int:
    if not (name.isascii() and name.isdigit()) or (len(name) > 1 and name[0] == "0"):
        raise ValueError(f"{name!r} is no index of a list")
    if int(name) > most:
        raise LookupError(f"index {name} is beyond the list's end")
    return int(name)


def _get(root: Any, path: list[str]) -> Any:
    for name in path:
        root = _step(root, name)
    return root


def _put(root: Any, path: list[str], value: Any, *, insert: bool) -> Any:
    if not path:
        return value
    parent = _get(root, path[:-1])
    last = path[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list) and insert:
        parent.insert(len(parent) if last == "-" else _index(last, len(parent)), value)
    elif isinstance(parent, list):
        parent[_index(last, len(parent) - 1)] = value
    else:
        raise LookupError(f"there is no {last!r} in a scalar")
    return root


def _take(root: Any, path: list[str]) -> Any:
    if not path:
        raise ValueError("cannot remove the whole document")
    parent = _get(root, path[:-1])
    _step(parent, path[-1])
    if isinstance(parent, dict):
        del parent[path[-1]]
    else:
        del parent[int(path[-1])]
    return root


def strategic_merge(target: Any, patch: Any, typ: Type) -> Any:
    """Kubernetes' strategic merge patch: lists with a merge key are merged by item.

    Understands `$patch: replace|delete`, `$retainKeys`, `$setElementOrder/<list>` and
    `$deleteFromPrimitiveList/<list>`. Raises 400 for a malformed patch.
    """
    if not isinstance(patch, dict):
        return patch
    directive = patch.get("$patch")
    if directive == "replace":
        return _plain({k: v for k, v in patch.items() if k != "$patch"})
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"Unknown patch type found: {directive!r}")
    out = dict(target) if isinstance(target, dict) else {}
    retained = patch.get("$retainKeys")
    if isinstance(retained, list):
        out = {name: value for name, value in out.items() if name in retained}
    for name, value in patch.items():
        if not _directive(name):
            _merge_field(out, name, value, typ)
    _primitive_directives(out, patch, typ)
    for name, order in patch.items():
        if name.startswith("$setElementOrder/") and isinstance(order, list):
            listed = name.partition("/")[2]
            if isinstance(out.get(listed), list):
                _, key = typ.patch.get(listed, ("", ""))
                out[listed] = _reorder(out[listed], order, key)
    return out


def _merge_field(out: dict[str, Any], name: str, value: Any, typ: Type) -> None:
    inner = typ.child(name) or ANY
    strategies, key = typ.patch.get(name, ("", ""))
    if value is None:
        out.pop(name, None)
    elif isinstance(value, dict):
        before = out.get(name)
        if "replace" in strategies.split(",") and "$patch" not in value:
            out[name] = _plain(value)
        elif value.get("$patch") == "delete":
            out.pop(name, None)
        else:
            out[name] = strategic_merge(before, value, inner)
    elif isinstance(value, list) and "merge" in strategies.split(","):
        before = out.get(name)
        out[name] = _merge_list(before if isinstance(before, list) else [], value, key, inner)
    else:
        out[name] = _plain(value)


def _merge_list(target: list[Any], patch: list[Any], key: str, typ: Type) -> list[Any]:
    element = typ.element or ANY
    if not key:
        return target + [item for item in patch if not any(equal(item, there) for there in target)]
    directives = [i for i in patch if isinstance(i, dict) and i.get("$patch") == "replace"]
    if directives:
        return [_plain(i) for i in patch if i not in directives]
    out = list(target)
    for item in patch:
        if not isinstance(item, dict) or item.get(key) is None:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        at = next(
            (
                n
                for n, there in enumerate(out)
                if isinstance(there, dict) and equal(there.get(key), item[key])
            ),
            None,
        )
        if item.get("$patch") == "delete":
            out = [t for t in out if not (isinstance(t, dict) and equal(t.get(key), item[key]))]
        elif at is None:
            out.append(strategic_merge({}, item, element))
        else:
            out[at] = strategic_merge(out[at], item, element)
    return out


def _primitive_directives(out: dict[str, Any], patch: dict[str, Any], typ: Type) -> None:
    for name, gone in patch.items():
        if name.startswith("$deleteFromPrimitiveList/") and isinstance(gone, list):
            listed = name.partition("/")[2]
            if isinstance(out.get(listed), list):
                out[listed] = [i for i in out[listed] if not any(equal(i, g) for g in gone)]


def _reorder(items: list[Any], order: list[Any], key: str) -> list[Any]:
    """Puts the named items into this order; others keep their place after what they followed."""

    def name(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    ranks = [name(item) for item in order]

    def rank(item: Any) -> int | None:
        mine = name(item)
        return next((n for n, other in enumerate(ranks) if equal(mine, other)), None)

    ranked = [(rank(item), item) for item in items]
    named = iter(sorted(((r, i) for r, i in ranked if r is not None), key=lambda pair: pair[0]))
    return [item if r is None else next(named)[1] for r, item in ranked]


def _directive(name: str) -> bool:
    return name in ("$patch", "$retainKeys") or name.startswith(
        ("$setElementOrder/", "$deleteFromPrimitiveList/")
    )


def _plain(value: Any) -> Any:
    """A patch's value without directives and nulls, as it is stored where nothing was."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if not _directive(k) and v is not None}
    if isinstance(value, list):
        return [
            _plain(item)
            for item in value
            if not (isinstance(item, dict) and item.get("$patch") in ("delete", "replace"))
        ]
    return value
