"""Sets of fields, as managedFields write them (FieldsV1). Pure.

A path is a tuple of elements: `f:name` (a field), `k:{"name":"app"}` (a list item by its keys),
`v:"x"` (an item of a set by its value), `i:0` (an item by its place). A set holds paths; holding a
path says nothing of what is below or above it. It is kept as the tree that FieldsV1 is: a node
without children is a member, and one with children is a member where it holds ".".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, wraps
from typing import Any, Final, TypeAlias, TypeVar

import orjson

from engine.objects.identity import ObjectRefused

Path: TypeAlias = tuple[str, ...]
Tree: TypeAlias = dict[str, Any]
"""Element -> Tree; {} is a member without children. Never changed once it is in a FieldSet."""

SELF: Final = "."
MAX_ELEMENTS: Final = 500_000
"""The largest CustomResourceDefinitions that etcd takes have a tenth of this."""
MAX_DEPTH: Final = 200
_KINDS = frozenset("fkvi")
_LONGEST: Final = 512
"""Characters of an element that is remembered: what others write may be as long as an object."""
R = TypeVar("R")


def _remembered(work: Callable[[str], R]) -> Callable[[str], R]:
    """Remember what short elements came to: nearly all of them are the same few."""
    known = lru_cache(maxsize=8192)(work)

    @wraps(work)
    def of(element: str) -> R:
        return known(element) if len(element) <= _LONGEST else work(element)

    return of


class FieldSet:
    """A frozen set of paths. `|`, `-` and `&` are exact: a member's children are other members."""

    __slots__ = ("tree",)

    def __init__(self, tree: Tree) -> None:
        self.tree: Final = tree

    @classmethod
    def parse(cls, raw: Any) -> FieldSet:
        """Read FieldsV1. Elements of unknown kinds are left out, as the API server does.

        Raises `ObjectRefused("bad-fields")` on what is no FieldsV1, or over the limits.
        """
        left = [MAX_ELEMENTS]
        return cls(_parsed(raw, left, MAX_DEPTH))

    @classmethod
    def of(cls, paths: Iterable[Path]) -> FieldSet:
        """Build the set of these paths; the empty path is no member of any set."""
        tree: Tree = {}
        for path in paths:
            node = tree
            for element in path[:-1]:
                node = _opened(node, element)
            if path:
                _join(node, path[-1])
        return cls(tree)

    def raw(self) -> Tree:
        """Return the set as FieldsV1; not to be changed."""
        return self.tree

    def leaves(self) -> Iterator[Path]:
        """Yield every member, parents before children."""
        stack: list[tuple[Path, Tree]] = [((), self.tree)]
        while stack:
            path, node = stack.pop()
            if path and (not node or SELF in node):
                yield path
            stack.extend(((*path, key), sub) for key, sub in node.items() if key != SELF)

    def reaches(self, path: Path) -> bool:
        """Whether some member is a path or lies below it."""
        return self.node(path) is not None

    def top(self) -> Iterator[Path]:
        """Yield the members that have no member above them."""
        stack: list[tuple[Path, Tree]] = [((), self.tree)]
        while stack:
            path, node = stack.pop()
            if path and (not node or SELF in node):
                yield path
            else:
                stack.extend(((*path, key), sub) for key, sub in node.items())

    def node(self, path: Path) -> Tree | None:
        """Return the tree at a path, None where no member is there or below; not to be changed."""
        node: Tree | None = self.tree
        for element in path:
            node = None if node is None else node.get(element)
        return node

    def __contains__(self, path: Path) -> bool:
        node = self.node(path)
        return bool(path) and node is not None and (not node or SELF in node)

    def __or__(self, other: FieldSet) -> FieldSet:
        return FieldSet(_union(self.tree, other.tree))

    def __sub__(self, other: FieldSet) -> FieldSet:
        return FieldSet(_difference(self.tree, other.tree))

    def __and__(self, other: FieldSet) -> FieldSet:
        return FieldSet(_intersection(self.tree, other.tree))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FieldSet) and self.tree == other.tree

    def __hash__(self) -> int:
        return hash(orjson.dumps(self.tree, option=orjson.OPT_SORT_KEYS))

    def __bool__(self) -> bool:
        return bool(self.tree)

    def __len__(self) -> int:
        return sum(1 for _ in self.leaves())

    def __repr__(self) -> str:
        return f"FieldSet({[path_text(path) for path in self.leaves()]})"


def path_text(path: Path) -> str:
    """Write a path as kubectl does: `.spec.containers[name="app"].image`, `.x[="v"]`, `.x[0]`."""
    return "".join(map(_element_text, path))


def key_of(element: str) -> dict[str, Any]:
    """Return the key fields of a `k:` element. Raises `ObjectRefused("bad-fields")`."""
    key = _json(element)
    if not isinstance(key, dict):
        raise ObjectRefused("bad-fields", "A list item in managedFields has no key fields.")
    return key


def value_of(element: str) -> Any:
    """Return the value of a `v:` element. Raises `ObjectRefused("bad-fields")`."""
    return _json(element)


@_remembered
def key_parts(element: str) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """Return the sorted names and the values of a `k:` element's fields.

    Raises `ObjectRefused("bad-fields")`.
    """
    key = key_of(element)
    names = tuple(sorted(key))
    return names, tuple(key[name] for name in names)


def key_element(key: Mapping[str, Any]) -> str:
    """Return the `k:` element of these key fields."""
    return "k:" + orjson.dumps(key, option=orjson.OPT_SORT_KEYS).decode()


def value_element(value: Any) -> str:
    """Return the `v:` element of a value."""
    return "v:" + orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


@_remembered
def normal_element(element: str) -> str:
    """Return an element in the one spelling that sets compare by.

    Go escapes `<`, `>` and `&` in JSON, and a key's fields might come in any order. Raises
    `ObjectRefused("bad-fields")`; returns "" for an element of an unknown kind.
    """
    if len(element) < 2 or element[1] != ":":
        raise ObjectRefused("bad-fields", "managedFields have an element without a kind.")
    kind = element[0]
    if kind == "f":
        return element
    if kind == "k":
        return key_element(key_of(element))
    if kind == "v":
        return value_element(value_of(element))
    if kind == "i":
        if not element[2:].isascii() or not element[2:].isdigit():
            raise ObjectRefused("bad-fields", "A place in a list in managedFields is no number.")
        return element
    return ""


def _json(element: str) -> Any:
    try:
        return orjson.loads(element[2:])
    except orjson.JSONDecodeError:
        raise ObjectRefused("bad-fields", "An element of managedFields is not JSON.") from None


@_remembered
def _element_text(element: str) -> str:
    kind, rest = element[0], element[2:]
    if kind == "f":
        return f".{rest}"
    if kind == "k":
        return f"[{','.join(f'{name}={_shown(value)}' for name, value in key_of(element).items())}]"
    return f"[={rest}]" if kind == "v" else f"[{rest}]"


def _shown(value: Any) -> str:
    return orjson.dumps(value).decode()


def _parsed(raw: Any, left: list[int], depth: int) -> Tree:
    if not isinstance(raw, dict):
        raise ObjectRefused("bad-fields", "managedFields must be maps of fields.")
    if depth == 0:
        raise ObjectRefused("bad-fields", f"managedFields are over {MAX_DEPTH} levels deep.")
    left[0] -= len(raw)
    if left[0] < 0:
        raise ObjectRefused("bad-fields", f"managedFields have over {MAX_ELEMENTS} elements.")
    tree: Tree = {}
    for key, sub in raw.items():
        if key == SELF:
            tree[SELF] = {}
            continue
        # Fields are nearly all there is, and are their own normal form.
        element = key if key[:2] == "f:" else normal_element(key)
        if element:
            tree[element] = _parsed(sub, left, depth - 1) if sub else {}
    # "." alone is a member without children.
    return {} if len(tree) == 1 and SELF in tree else tree


def _opened(node: Tree, element: str) -> Tree:
    """Return the child to put something below; one that was a bare member stays a member."""
    child: Tree | None = node.get(element)
    if child is None:
        child = node[element] = {}
    elif not child:
        child[SELF] = {}
    return child


def _join(node: Tree, element: str) -> None:
    child = node.get(element)
    if child is None:
        node[element] = {}
    elif child:
        child[SELF] = {}


def _union(a: Tree, b: Tree) -> Tree:
    joined = dict(a)
    for key, theirs in b.items():
        ours = joined.get(key)
        if ours is None:
            joined[key] = theirs
        elif ours and theirs:
            joined[key] = _union(ours, theirs)
        elif ours or theirs:
            joined[key] = {SELF: {}, **ours, **theirs}
    return joined


def _difference(a: Tree, b: Tree) -> Tree:
    rest: Tree = {}
    for key, ours in a.items():
        theirs = b.get(key)
        if theirs is None:
            rest[key] = ours
        elif key != SELF and (left := _node_difference(ours, theirs)) is not None:
            rest[key] = left
    return rest


def _node_difference(ours: Tree, theirs: Tree) -> Tree | None:
    """Return what is left of a node; None where nothing is, {} where it is only a member."""
    if not theirs:
        left = {key: sub for key, sub in ours.items() if key != SELF}
        return left or None
    if not ours:
        return None if SELF in theirs else {}
    left = _difference(ours, theirs)
    if len(left) == 1 and SELF in left:
        return {}
    return left or None


def _intersection(a: Tree, b: Tree) -> Tree:
    both: Tree = {}
    for key, ours in a.items():
        theirs = b.get(key)
        if theirs is None:
            continue
        if not ours or not theirs:
            # One is a bare member; the other may be a member too, or only lead to others.
            if (not ours or SELF in ours) and (not theirs or SELF in theirs):
                both[key] = {}
            continue
        inner = _intersection(ours, theirs)
        if inner:
            both[key] = {} if len(inner) == 1 and SELF in inner else inner
    return both
