"""What the server made of a manifest: named fields that its answer lacks or has changed. Pure.

Admission leaves no owner behind, so that this is the only place where its rewrites can be seen.
They are recorded once, at the apply, and not fought.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from engine.objects.compare import Found, difference, limited
from engine.objects.fieldset import (
    FieldSet,
    Path,
    Tree,
    key_element,
    key_parts,
    value_element,
)
from engine.objects.left import covers, pointer_of
from engine.objects.managed import Managed
from engine.objects.ownership import MANAGER
from engine.objects.prepare import SERVER_ONLY
from engine.objects.quantity import same_quantity
from engine.objects.typed import (
    MISSING,
    NamedItems,
    counted,
    is_composite,
    is_empty,
    is_nothing,
    item_key,
    same_value,
)
from events.vocabulary import Difference, DifferenceKind, FieldRule, ObjectRef

_NOT_NAMED = frozenset({"apiVersion", "kind", "status"})


def mutated(
    sent: Mapping[str, Any],
    answer: Mapping[str, Any],
    ref: ObjectRef,
    manager: str = MANAGER,
    leave: Sequence[FieldRule] = (),
) -> list[Difference]:
    """Return the named fields that the answer lacks or has other values for.

    Both are redacted beforehand. Nulls and empty maps and lists name nothing; zeros that the
    answer leaves out are no difference, and neither are quantities that the server writes in
    another way (`500m` for `0.5`). What differs because rules in `leave` kept the live value is of
    kind IGNORED; `sent` is then what was declared. Lists are aligned by the keys that managedFields
    use. Raises `ObjectRefused("bad-fields")`.
    """
    own = Managed(answer, manager).own
    fields = own.fields if own is not None else FieldSet({})
    walk = _Walk(ref)
    for name, value in sent.items():
        if name == "metadata" and isinstance(value, Mapping):
            # A uid and a resourceVersion in what was sent are preconditions.
            value = {key: inner for key, inner in value.items() if key not in SERVER_ONLY}
        if name not in _NOT_NAMED:
            walk.field(name, value, answer, fields.tree, ())
    managed = Managed(answer, manager)
    return [
        _marked(found, answer, managed, leave) if leave else found.difference
        for found in limited(walk.found, ref)
    ]


def _marked(
    found: Found, answer: Mapping[str, Any], managed: Managed, leave: Sequence[FieldRule]
) -> Difference:
    author = managed.author(found.path)
    manager, subresource = (author.manager, author.subresource) if author else ("", "")
    pointer = pointer_of(found.path, answer)
    if any(covers(rule, found.path, pointer, manager, subresource) for rule in leave):
        return replace(found.difference, kind=DifferenceKind.IGNORED, manager=manager)
    return found.difference


class _Walk:
    def __init__(self, ref: ObjectRef) -> None:
        self.ref = ref
        self.found: list[Found] = []

    def field(
        self, name: str, sent: Any, answer: Mapping[str, Any], node: Tree, path: Path
    ) -> None:
        element = f"f:{name}"
        self.value(sent, answer.get(name, MISSING), node.get(element, {}), (*path, element))

    def value(self, sent: Any, answer: Any, node: Tree, path: Path) -> None:
        if answer is MISSING or answer is None:
            if not _says_nothing(sent):
                self.add(path, sent, MISSING)
        elif isinstance(sent, Mapping) and type(answer) is dict:
            for name, value in sent.items():
                self.field(name, value, answer, node, path)
        elif isinstance(sent, list) and type(answer) is list:
            self.items(sent, answer, node, path)
        elif not (sent is None or is_empty(sent) or _same(sent, answer, path)):
            self.add(path, sent, answer)

    def items(self, sent: list[Any], answer: list[Any], node: Tree, path: Path) -> None:
        kinds = {element[:2] for element in node}
        if "k:" in kinds and all(isinstance(item, Mapping) for item in sent):
            self.keyed(sent, answer, node, path)
        elif "v:" in kinds and not any(map(is_composite, sent)):
            there = counted(answer)
            for value in sent:
                if (type(value), value) not in there:
                    self.add((*path, value_element(value)), value, MISSING)
        elif len(sent) == len(answer):
            for place, (ours, theirs) in enumerate(zip(sent, answer, strict=True)):
                self.value(ours, theirs, {}, (*path, f"i:{place}"))
        elif sent:
            self.add(path, sent, answer)

    def keyed(self, sent: list[Any], answer: list[Any], node: Tree, path: Path) -> None:
        names = max((key_parts(element)[0] for element in node if element[:2] == "k:"), key=len)
        named, matched = NamedItems(sent, names), set[int]()
        for item in answer:
            # Through the answer, since only there is a key that a default filled in; and only
            # its items that are ours, or another's might be taken for what that default made.
            key = item_key(item, names)
            if key is None:
                continue
            element = key_element({name: item[name] for name in names if name in item})
            ours = named.find(key) if element in node else MISSING
            if ours is not MISSING:
                matched.add(id(ours))
                self.value(ours, item, node[element], (*path, element))
        for item in sent:
            if id(item) not in matched:
                element = key_element({name: item[name] for name in names if name in item})
                self.add((*path, element), item, MISSING)

    def add(self, path: Path, sent: Any, answer: Any) -> None:
        kind = DifferenceKind.MUTATED
        self.found.append(Found(path, difference(kind, self.ref, path, sent, answer, None)))


def _says_nothing(value: Any) -> bool:
    """Whether a value names nothing: null, zero, empty, or a map of such."""
    if isinstance(value, Mapping):
        return all(map(_says_nothing, value.values()))
    return is_nothing(value)


def _same(sent: Any, answer: Any, path: Path) -> bool:
    """Whether two scalars are one value; a manifest's 1.0 is written as 1 when it is sent."""
    if type(sent) in (int, float) and type(answer) in (int, float):
        return bool(sent == answer)
    return same_value(sent, answer) or same_quantity(sent, answer, path)
