"""Fields that are left as they are on the cluster: which they are, and how an apply spares them.

Pure. An apply that left such a field out of what it sends would give it up, and the server would
remove or default what nobody else owns. So what is sent has the live value instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from engine.objects.fieldset import Path, key_element, key_of, path_text, value_of
from engine.objects.managed import Managed
from engine.objects.typed import MISSING, NamedItems, child_of, item_key, same_value
from engine.resources.field_path import pointer_tokens, shown_pattern
from events.vocabulary import FieldRule

Pointer: TypeAlias = tuple[str, ...]

SCALED_BY_CLUSTER: Final = FieldRule(".spec.replicas", "kube-controller-manager", "scale")
"""What a HorizontalPodAutoscaler sets: always left, on every kind that can be scaled."""


def covers(
    rule: FieldRule, path: Path, pointer: Pointer, manager: str = "", subresource: str = ""
) -> bool:
    """Whether a rule is about a field: at a path, at a JSON pointer, last written by a manager."""
    if rule.manager and rule.manager != manager:
        return False
    if rule.subresource and rule.subresource != subresource:
        return False
    return not rule.path or _is_below(rule.path, path, pointer)


def _is_below(text: str, path: Path, pointer: Pointer) -> bool:
    if text.startswith("/"):
        tokens = pointer_tokens(text)
        return pointer[: len(tokens)] == tokens
    pattern = shown_pattern(text)
    return any(pattern.fullmatch(path_text(path[:end])) for end in range(1, len(path) + 1))


def pointer_of(path: Path, *objects: Any) -> Pointer:
    """Return a path as a JSON pointer's parts, by the places that list items have in an object.

    Of several objects the first counts that has an item.
    """
    pointer: list[str] = []
    values = list(objects)
    for element in path:
        if element[:2] == "f:":
            pointer.append(element[2:])
        else:
            places = (_place(value, element) for value in values)
            pointer.append(next((place for place in places if place), "-"))
        values = [child_of(value, element) for value in values]
    return tuple(pointer)


def _place(items: Any, element: str) -> str:
    if type(items) is not list:
        return ""
    if element[:2] == "i:":
        return element[2:]
    if element[:2] == "v:":
        wanted = value_of(element)
        return next((str(n) for n, item in enumerate(items) if same_value(item, wanted)), "")
    key = key_of(element)
    names = tuple(sorted(key))
    parts = tuple(key[name] for name in names)
    return next((str(n) for n, item in enumerate(items) if item_key(item, names) == parts), "")


def spared(
    body: Mapping[str, Any], live: Mapping[str, Any], rules: Sequence[FieldRule]
) -> dict[str, Any]:
    """Return a body whose fields that rules are about have the values of the live object.

    A field that the live object lacks is left out; one that we own and the body no longer has
    stays as it is. Both are whole. Raises `ObjectRefused("bad-fields")`.
    """
    walk = _Walk(Managed(live), rules)
    found = walk.map(body, live, (), (), taken=False)
    return {**found, **{name: body[name] for name in ("apiVersion", "kind") if name in body}}


class _Walk:
    """Walks what is to be applied beside the live object."""

    def __init__(self, managed: Managed, rules: Sequence[FieldRule]) -> None:
        self.managed = managed
        self.by_path = [rule for rule in rules if not rule.manager]
        self.by_manager = [rule for rule in rules if rule.manager]

    def map(
        self, body: Any, live: Any, path: Path, pointer: Pointer, *, taken: bool
    ) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name in (*body, *(name for name in live if name not in body)):
            inner, place = (*path, f"f:{name}"), (*pointer, name)
            sent, there = body.get(name, MISSING), live.get(name, MISSING)
            value = self.value(sent, there, inner, place, taken=taken)
            if value is not MISSING:
                values[name] = value
        return values

    def value(self, sent: Any, there: Any, path: Path, pointer: Pointer, *, taken: bool) -> Any:
        """Return what to send at a path, MISSING for nothing. `taken`: a rule is about it."""
        if sent is MISSING and not self.managed.is_ours(path):
            return MISSING
        taken = taken or any(covers(rule, path, pointer) for rule in self.by_path)
        if there is MISSING:
            return MISSING if taken else sent
        wanted = there if sent is MISSING else sent
        if taken and self.is_atomic(path):
            return there
        if type(wanted) is dict and type(there) is dict:
            inner = self.map({} if sent is MISSING else sent, there, path, pointer, taken=taken)
            return inner if inner or sent is not MISSING else MISSING
        names = self.names(path) if type(wanted) is list and type(there) is list else ()
        if names:
            items = self.items(
                [] if sent is MISSING else sent, there, names, path, pointer, taken=taken
            )
            return items if items or sent is not MISSING else MISSING
        return there if taken or self.is_managed(path, pointer) else sent

    def is_atomic(self, path: Path) -> bool:
        """Whether somebody owns a path as a whole, and nobody a part of it."""
        nodes = [entry.fields.node(path) for entry in self.managed.entries]
        return {} in nodes and not any(nodes)

    def is_managed(self, path: Path, pointer: Pointer) -> bool:
        """Whether a rule is about the field because of who wrote it last."""
        if not self.by_manager:
            return False
        author = self.managed.author(path)
        return author is not None and any(
            covers(rule, path, pointer, author.manager, author.subresource)
            for rule in self.by_manager
        )

    def names(self, path: Path) -> tuple[str, ...]:
        """Return the key fields of a list's items, as managedFields have them; () for none."""
        for entry in self.managed.entries:
            for element in entry.fields.node(path) or ():
                if element[:2] == "k:":
                    return tuple(sorted(key_of(element)))
        return ()

    def items(
        self,
        sent: list[Any],
        live: list[Any],
        names: tuple[str, ...],
        path: Path,
        pointer: Pointer,
        *,
        taken: bool,
    ) -> list[Any]:
        named, matched = NamedItems(sent, names), {}
        added: list[Any] = []
        for place, there in enumerate(live):
            key = item_key(there, names)
            if key is None:
                continue
            item = named.find(key)
            fields = {n: part for n, part in zip(names, key, strict=True) if part is not None}
            inner, at = (*path, key_element(fields)), (*pointer, str(place))
            value = self.value(item, there, inner, at, taken=taken)
            if item is not MISSING:
                matched[id(item)] = value
            elif value is not MISSING:
                # The key tells which item it is, and is sent though nobody owns it.
                added.append({**fields, **value} if type(value) is dict else value)
        if taken:
            # What is left as it is, is left in its order.
            places = {id(item): place for place, item in enumerate(self._in_order(named, live))}
            sent = sorted(sent, key=lambda item: places.get(id(item), len(live)))
        kept = [
            matched.get(id(item), self._gone(item, names, path, pointer, taken=taken))
            for item in sent
        ]
        return [item for item in [*kept, *added] if item is not MISSING]

    @staticmethod
    def _in_order(named: NamedItems, live: list[Any]) -> list[Any]:
        """Return the items that are to be sent, in the order of the live ones."""
        keys = (item_key(item, named.names) for item in live)
        return [named.find(key) for key in keys if key is not None]

    def _gone(
        self, item: Any, names: tuple[str, ...], path: Path, pointer: Pointer, *, taken: bool
    ) -> Any:
        """Return an item that is to be sent and is not there: nothing, where a rule is about it."""
        key = item_key(item, names)
        if key is None:
            return item
        fields = {n: part for n, part in zip(names, key, strict=True) if part is not None}
        inner = (*path, key_element(fields))
        return self.value(item, MISSING, inner, (*pointer, "-"), taken=taken)
