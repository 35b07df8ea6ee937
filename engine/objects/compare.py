"""What differs between a kept form and a live object, and who made it so. Pure.

The slow path of `engine.objects.kept`, by the rules of `docs/difference.md`, "On each watch event".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from engine.objects.fieldset import FieldSet, Path
from engine.objects.managed import Entry, Managed
from engine.objects.shape import ListShape, MapShape, SetShape
from engine.objects.typed import (
    MISSING,
    OMITTED,
    bounded,
    counted,
    is_composite,
    item_key,
    same_value,
    shown_path,
)
from events.vocabulary import Difference, DifferenceKind, ObjectRef

MAX_DIFFERENCES: Final = 200
"""Of one object; a last one says how many more there are."""
MAX_LOST: Final = 20


class Found(NamedTuple):
    """A difference with its path in elements."""

    path: Path
    difference: Difference


def compared(
    shape: MapShape, live: Mapping[str, Any], managed: Managed, ref: ObjectRef
) -> list[Found]:
    """Return every difference of our values; none where `extracted` gives the kept values."""
    walk = _Walk(managed, ref)
    walk.fields(shape, live, ())
    return limited(walk.found, ref)


def limited(found: list[Found], ref: ObjectRef) -> list[Found]:
    """Cut a list of differences, the last of it saying so."""
    over = len(found) - MAX_DIFFERENCES
    if over <= 0:
        return found
    rest = found[MAX_DIFFERENCES]
    more = Difference(rest.difference.kind, ref, after={OMITTED: {"differences": over}})
    return [*found[:MAX_DIFFERENCES], Found((), more)]


def ownership(
    kept: FieldSet, managed: Managed, ref: ObjectRef, reported: Sequence[Path]
) -> list[Difference]:
    """Return what we no longer own though it is as it was; `reported` paths are drift already.

    Path "" means that our whole entry is gone: somebody cleared managedFields.
    """
    if managed.own is None:
        return [Difference(DifferenceKind.OWNERSHIP_LOST, ref)]
    lost = [
        path
        for path in (kept - managed.own.fields).top()
        if not any(path[: len(other)] == other or other[: len(path)] == path for other in reported)
    ]
    lost.sort()
    return [
        difference(DifferenceKind.OWNERSHIP_LOST, ref, path, MISSING, MISSING, managed.author(path))
        for path in lost[:MAX_LOST]
    ]


def difference(
    kind: DifferenceKind, ref: ObjectRef, path: Path, before: Any, after: Any, author: Entry | None
) -> Difference:
    """Return a difference with its values bounded and its author, where there is one."""
    shown, was, now = shown_path(path), bounded(before), bounded(after)
    if author is None:
        return Difference(kind, ref, shown, was, now)
    return Difference(
        kind, ref, shown, was, now,
        author.manager, author.operation, author.subresource, author.time,
    )  # fmt: skip


def extracted(shape: MapShape, live: Any, managed: Managed, path: Path = ()) -> dict[str, Any]:
    """Cut a live map down to what is ours, as `Kept.values` is cut."""
    values: dict[str, Any] = {}
    for name in (*shape.texts, *(name for name, _ in shape.atoms)):
        if live.get(name) is not None:
            values[name] = live[name]
    for name, kept in shape.empties:
        value = live.get(name)
        if value is not None:
            taken = _is_taken(managed, (*path, f"f:{name}"), value)
            values[name] = value if taken or not is_composite(value) else type(kept)()
    for name in shape.unset:
        value = live.get(name)
        if _is_set(managed, (*path, f"f:{name}"), value):
            values[name] = value
    for name, inner, required in shape.maps:
        value = live.get(name)
        if type(value) is dict:
            below = extracted(inner, value, managed, (*path, f"f:{name}"))
            if required or below:
                values[name] = below
        elif value is not None:
            values[name] = value
    for name, items in shape.lists:
        value = live.get(name)
        if type(value) is list:
            values[name] = _extracted_items(items, value, managed, (*path, f"f:{name}"))
        elif value is not None:
            values[name] = value
    for name, members in shape.sets:
        value = live.get(name)
        if type(value) is list:
            counts = counted(value)
            values[name] = [
                item for item in members.values for _ in range(counts.get((type(item), item), 0))
            ]
        elif value is not None:
            values[name] = value
    return values


def _extracted_items(
    shape: ListShape, live: list[Any], managed: Managed, path: Path
) -> list[dict[str, Any]]:
    items = []
    for place, item in _ours(shape, live):
        inner = extracted(shape.items[place], item, managed, (*path, shape.elements[place]))
        key = {
            name: part
            for name, part in zip(shape.names, shape.keys[place], strict=True)
            if part is not None
        }
        items.append({**key, **inner})
    return items


def _ours(shape: ListShape, live: list[Any]) -> list[tuple[int, dict[str, Any]]]:
    """Return the live items that are ours with their kept places, in live order."""
    ours = []
    for item in live:
        key = item_key(item, shape.names)
        place = shape.places.get(key) if key is not None else None
        if key is not None and place is not None and all(map(same_value, key, shape.keys[place])):
            ours.append((place, item))
    return ours


def _is_taken(managed: Managed, path: Path, value: Any) -> bool:
    """Whether content of what we named empty is a change of ours, and not somebody's addition.

    `{}` in FieldsV1 is an empty map or an atomic value. Who owns exactly that path owns the value
    as a whole: then it was atomic, and was replaced.
    """
    return bool(value) and managed.leaf_owner(path) is not None


def _is_set(managed: Managed, path: Path, value: Any) -> bool:
    """Whether what we named as zero is no longer."""
    return bool(value) and (not is_composite(value) or _is_taken(managed, path, value))


class _Walk:
    """Walks a shape and a live object side by side."""

    def __init__(self, managed: Managed, ref: ObjectRef) -> None:
        self.managed, self.ref = managed, ref
        self.found: list[Found] = []

    def fields(self, shape: MapShape, live: Mapping[str, Any], path: Path) -> None:
        for name, value in (*shape.texts.items(), *shape.atoms):
            self.atom(value, live.get(name, MISSING), (*path, f"f:{name}"))
        for name, value in shape.empties:
            self.empty(value, live.get(name), (*path, f"f:{name}"))
        for name in shape.unset:
            inner, value = (*path, f"f:{name}"), live.get(name)
            if _is_set(self.managed, inner, value):
                self.add(DifferenceKind.CHANGED, inner, MISSING, value)
        for name, below, required in shape.maps:
            value, inner = live.get(name), (*path, f"f:{name}")
            if type(value) is dict:
                self.fields(below, value, inner)
            elif value is not None or required:
                self.replaced(kept_value(below), value, inner)
        for name, items in shape.lists:
            value, inner = live.get(name), (*path, f"f:{name}")
            if type(value) is list:
                self.items(items, value, inner)
            else:
                self.replaced([kept_item(items, n) for n in range(len(items.items))], value, inner)
        for name, members in shape.sets:
            value, inner = live.get(name), (*path, f"f:{name}")
            if type(value) is list:
                self.members(members, value, inner)
            else:
                self.replaced(list(members.values), value, inner)

    def atom(self, before: Any, after: Any, path: Path) -> None:
        if after is MISSING or after is None:
            self.add(DifferenceKind.REMOVED, path, before, MISSING)
        elif not same_value(before, after):
            self.add(DifferenceKind.CHANGED, path, before, after)

    def empty(self, before: Any, after: Any, path: Path) -> None:
        if after is None:
            self.add(DifferenceKind.REMOVED, path, before, MISSING)
        elif not is_composite(after) or _is_taken(self.managed, path, after):
            self.add(DifferenceKind.CHANGED, path, before, after)

    def replaced(self, before: Any, after: Any, path: Path) -> None:
        """Report a map or list that is gone, or is of another type now, as one difference."""
        kind = DifferenceKind.REMOVED if after is None else DifferenceKind.CHANGED
        self.add(kind, path, before, MISSING if after is None else after)

    def items(self, shape: ListShape, live: list[Any], path: Path) -> None:
        by_place: dict[int, list[dict[str, Any]]] = {}
        for place, item in _ours(shape, live):
            by_place.setdefault(place, []).append(item)
        for place, element in enumerate(shape.elements):
            same = by_place.get(place, ())
            inner = (*path, element)
            if not same:
                self.add(DifferenceKind.REMOVED, inner, kept_item(shape, place), MISSING)
            elif len(same) > 1:
                self.add(DifferenceKind.CHANGED, inner, kept_item(shape, place), list(same))
            else:
                self.fields(shape.items[place], same[0], inner)
        order = list(by_place)
        if order != sorted(order):
            # Nobody owns an order, so that nobody can be named.
            before, after = (
                [_name(shape, place) for place in kind] for kind in (sorted(order), order)
            )
            self.add(DifferenceKind.REORDERED, path, before, after)

    def members(self, shape: SetShape, live: list[Any], path: Path) -> None:
        counts = counted(live)
        for value, element in zip(shape.values, shape.elements, strict=True):
            times = counts.get((type(value), value), 0)
            if times == 0:
                self.add(DifferenceKind.REMOVED, (*path, element), value, MISSING)
            elif times > 1:
                self.add(DifferenceKind.CHANGED, (*path, element), value, [value] * times)

    def add(self, kind: DifferenceKind, path: Path, before: Any, after: Any) -> None:
        if len(self.found) > MAX_DIFFERENCES:
            # Counted, and no more: a hostile object must not cost a million attributions.
            self.found.append(self.found[-1])
            return
        author = self.managed.author(path) if kind is DifferenceKind.CHANGED else None
        self.found.append(Found(path, difference(kind, self.ref, path, before, after, author)))


def kept_value(shape: MapShape) -> dict[str, Any]:
    """Return the kept value that a shape was built from."""
    values: dict[str, Any] = {**shape.texts, **dict(shape.atoms), **dict(shape.empties)}
    for name, inner, required in shape.maps:
        if required:
            values[name] = kept_value(inner)
    for name, items in shape.lists:
        values[name] = [kept_item(items, place) for place in range(len(items.items))]
    for name, members in shape.sets:
        values[name] = list(members.values)
    return values


def kept_item(shape: ListShape, place: int) -> dict[str, Any]:
    """Return one of our items of a list, its keys included."""
    return {**_key(shape, place), **kept_value(shape.items[place])}


def _key(shape: ListShape, place: int) -> dict[str, Any]:
    parts = zip(shape.names, shape.keys[place], strict=True)
    return {name: part for name, part in parts if part is not None}


def _name(shape: ListShape, place: int) -> Any:
    """Return what to call an item in an order: its key, bare where it has one field."""
    key = shape.keys[place]
    return key[0] if len(key) == 1 else _key(shape, place)
