"""Sets of fields in FieldsV1's own form: nested dictionaries of path elements. Pure.

A key is a path element: `f:name` a field, `k:{...}` a list item by its key fields, `v:...` a
set's value, `i:N` an index. An empty dictionary is a member without children; a member that has
children carries `"."`. The root is no member of anything, so `{}` there is the empty set.

Sets are values: no function here changes what it is given, and results may share parts with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

Fields = dict[str, Any]
Path = tuple[str, ...]


def field(name: str) -> str:
    """The path element of a field."""
    return "f:" + name


def key(item: dict[str, Any]) -> str:
    """The path element of a list item with these key fields."""
    return "k:" + json.dumps(item, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def value(item: Any) -> str:
    """The path element of a value in a set."""
    return "v:" + json.dumps(item, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def is_member(node: Fields) -> bool:
    """Whether the element that this node stands for is itself in the set."""
    return not node or "." in node


def insert(root: Fields, path: Path) -> None:
    """Adds a path to a set that is being built; the only function that changes its argument."""
    node = root
    for element in path[:-1]:
        child = node.get(element)
        if child is None:
            child = node[element] = {}
        elif not child:
            # It was a member without children; it stays a member.
            child["."] = {}
        node = child
    last = path[-1]
    existing = node.get(last)
    if existing is None:
        node[last] = {}
    elif existing:
        existing["."] = {}


def from_paths(paths: Iterable[Path]) -> Fields:
    """The set of these paths."""
    root: Fields = {}
    for path in paths:
        insert(root, path)
    return root


def paths(root: Fields) -> Iterator[Path]:
    """Every path in the set, parents before children."""
    stack: list[tuple[Path, Fields]] = [((), root)]
    while stack:
        prefix, node = stack.pop()
        if prefix and is_member(node):
            yield prefix
        for element, child in reversed(node.items()):
            if element != ".":
                stack.append(((*prefix, element), child))


def has(root: Fields, path: Path) -> bool:
    """Whether this very path is in the set."""
    node: Fields | None = root
    for element in path:
        node = node.get(element) if node else None
        if node is None:
            return False
    return node is not None and is_member(node)


def union(left: Fields, right: Fields) -> Fields:
    """What is in either."""
    if not right:
        return left
    if not left:
        return right
    out = dict(left)
    for element, theirs in right.items():
        ours = out.get(element)
        out[element] = theirs if ours is None else _union(ours, theirs)
    return out


def _union(left: Fields, right: Fields) -> Fields:
    if left is right:
        return left
    if not left or not right:
        children = left or right
        return {".": {}, **children} if children else {}
    return union(left, right)


def intersection(left: Fields, right: Fields) -> Fields:
    """What is in both."""
    out: Fields = {}
    for element, ours in left.items():
        theirs = right.get(element)
        if theirs is None or element == ".":
            continue
        both = intersection(ours, theirs) if ours and theirs else {}
        if is_member(ours) and is_member(theirs):
            out[element] = {".": {}, **both} if both else {}
        elif both:
            out[element] = both
    return out


def difference(left: Fields, right: Fields) -> Fields:
    """What is in the left and not in the right; a path's children are judged by themselves."""
    if not right:
        return left
    out: Fields = {}
    for element, ours in left.items():
        if element == ".":
            continue
        theirs = right.get(element)
        if theirs is None:
            out[element] = ours
            continue
        rest = difference(ours, theirs) if theirs else _without_self(ours)
        if is_member(ours) and not is_member(theirs):
            out[element] = {".": {}, **rest} if rest else {}
        elif rest:
            out[element] = rest
    return out


def _without_self(node: Fields) -> Fields:
    return {k: v for k, v in node.items() if k != "."} if "." in node else node


def recursive_difference(left: Fields, right: Fields) -> Fields:
    """What is in the left and neither in the right nor below one of its members."""
    out: Fields = {}
    for element, ours in left.items():
        if element == ".":
            continue
        theirs = right.get(element)
        if theirs is None:
            out[element] = ours
        elif not is_member(theirs):
            rest = recursive_difference(ours, theirs)
            if is_member(ours):
                out[element] = {".": {}, **rest} if rest else {}
            elif rest:
                out[element] = rest
    return out


def ordered(root: Fields) -> Fields:
    """The same set with elements in the order in which a server writes them."""
    return {element: ordered(child) for element, child in sorted(root.items())}


def describe(path: Path) -> str:
    """The path as messages name it: `.spec.containers[name="a"].image`."""
    out = []
    for element in path:
        form, text = element[0], element[2:]
        if form == "f":
            out.append("." + text)
        elif form == "k":
            pairs = json.loads(text)
            out.append(
                "["
                + ",".join(f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in pairs.items())
                + "]"
            )
        elif form == "v":
            out.append(f"[={text}]")
        else:
            out.append(f"[{text}]")
    return "".join(out)


def valid(root: Any, depth: int = 0) -> bool:
    """Whether this is a well-formed set; what clients send may be anything."""
    if not isinstance(root, dict) or depth > 100:
        return False
    return all(
        child == {} if element == "." else element[:2] in _FORMS and valid(child, depth + 1)
        for element, child in root.items()
    )


_FORMS = frozenset({"f:", "k:", "v:", "i:"})
