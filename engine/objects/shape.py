"""A kept form made ready for use: what to look at in a live object, and in which order. Pure.

A shape is built once for a kept form, as tuples, since it is walked for each event of the object.
`unchanged` answers most events; `engine.objects.compare` finds out what differs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from engine.objects.fieldset import Tree, key_of, value_of
from engine.objects.typed import (
    MISSING,
    counted,
    is_composite,
    is_empty,
    item_key,
    same_value,
)


class MapShape(NamedTuple):
    """What is ours in a map, by field name."""

    texts: dict[str, str]
    """Strings: compared as a whole, since a string equals nothing but a string."""
    atoms: tuple[tuple[str, Any], ...]
    """Other values, compared whole and by type."""
    empties: tuple[tuple[str, Any], ...]
    """Named empty maps and lists: only their presence is ours."""
    unset: tuple[str, ...]
    """Named, and the server left them out as zero: to stay unset."""
    maps: tuple[tuple[str, MapShape, bool], ...]
    """With whether the map has to be there: not where all that is ours in it is to stay unset."""
    lists: tuple[tuple[str, ListShape], ...]
    sets: tuple[tuple[str, SetShape], ...]


class ListShape(NamedTuple):
    """Our items of a list with keys, in their order."""

    names: tuple[str, ...]
    places: dict[tuple[Any, ...], int]
    """Values of the key fields -> place among our items."""
    keys: tuple[tuple[Any, ...], ...]
    elements: tuple[str, ...]
    items: tuple[MapShape, ...]


class SetShape(NamedTuple):
    """Our items of a set. Their order means nothing: Kubernetes keeps none."""

    values: tuple[Any, ...]
    elements: tuple[str, ...]


def shape_of(fields: Tree, values: Any, unset: Tree) -> MapShape:
    """Build the shape of a map: its fields of ours, their kept values, what is to stay unset."""
    texts: dict[str, str] = {}
    atoms: list[tuple[str, Any]] = []
    empties: list[tuple[str, Any]] = []
    still_unset: list[str] = []
    maps: list[tuple[str, MapShape, bool]] = []
    lists: list[tuple[str, ListShape]] = []
    sets: list[tuple[str, SetShape]] = []
    for element, sub in fields.items():
        if element[:2] != "f:":
            continue
        name = element[2:]
        value = values.get(name, MISSING)
        below = unset.get(element, {})
        if value is MISSING and below:
            maps.append((name, shape_of(sub, {}, below), False))
        elif value is MISSING:
            if element in unset:
                still_unset.append(name)
        elif sub and type(value) is dict:
            maps.append((name, shape_of(sub, value, below), True))
        elif type(value) is list and _has(sub, "k:"):
            lists.append((name, _list_shape(sub, value, below)))
        elif type(value) is list and _has(sub, "v:"):
            sets.append((name, _set_shape(sub, value)))
        elif type(value) is str:
            texts[name] = value
        elif is_empty(value):
            empties.append((name, value))
        else:
            atoms.append((name, value))
    return MapShape(
        texts,
        tuple(atoms),
        tuple(empties),
        tuple(still_unset),
        tuple(maps),
        tuple(lists),
        tuple(sets),
    )


def unchanged(shape: MapShape, live: Any) -> bool:
    """Whether what is ours is certainly as it was. False means: look closer."""
    if type(live) is not dict:
        return False
    texts, atoms, empties, unset, maps, lists, sets = shape
    if texts and not texts.items() <= live.items():
        return False
    for name, value in atoms:
        found = live.get(name, MISSING)
        if found is not value and not same_value(found, value):
            return False
    for name, value in empties:
        # Content below may be others' or a change of ours: who owns it tells, and not from here.
        if type(live.get(name)) is not type(value) or live[name]:
            return False
    for name in unset:
        if live.get(name):
            return False
    for name, inner, required in maps:
        found = live.get(name)
        if (required or found is not None) and not unchanged(inner, found):
            return False
    for name, items in lists:
        if not _items_unchanged(items, live.get(name)):
            return False
    return all(_set_unchanged(values, live.get(name)) for name, values in sets)


def _items_unchanged(shape: ListShape, live: Any) -> bool:
    if type(live) is not list:
        return False
    names, places, keys, _, items = shape
    turn = 0
    single = names[0] if len(names) == 1 else None
    for item in live:
        if single is not None and type(item) is dict:
            part = item.get(single)
            if type(part) is dict or type(part) is list:
                continue
            key: tuple[Any, ...] | None = (part,)
        else:
            key = item_key(item, names)
        if key is None or (place := places.get(key)) is None:
            continue
        # Each of ours once, and in the order that was kept.
        if place != turn or not all(map(same_value, key, keys[place])):
            return False
        if not unchanged(items[place], item):
            return False
        turn += 1
    return turn == len(items)


def _set_unchanged(shape: SetShape, live: Any) -> bool:
    if type(live) is not list:
        return False
    counts = counted(live)
    return all(counts.get((type(value), value)) == 1 for value in shape.values)


def _has(fields: Tree, kind: str) -> bool:
    return any(element[:2] == kind for element in fields)


def _list_shape(fields: Tree, values: list[Any], unset: Tree) -> ListShape:
    keys = {element: key_of(element) for element in fields if element[:2] == "k:"}
    names = tuple(sorted({name for key in keys.values() for name in key}))
    ours = {tuple(key.get(name) for name in names): element for element, key in keys.items()}
    found: dict[tuple[Any, ...], tuple[str, MapShape]] = {}
    for item in values:
        key = item_key(item, names)
        if key is not None and key not in found and (element := ours.get(key)) is not None:
            inner = shape_of(fields[element], item, unset.get(element, {}))
            found[key] = (element, inner)
    return ListShape(
        names,
        {key: place for place, key in enumerate(found)},
        tuple(found),
        tuple(element for element, _ in found.values()),
        tuple(inner for _, inner in found.values()),
    )


def _set_shape(fields: Tree, values: list[Any]) -> SetShape:
    counts = counted(values)
    ours = [(value_of(element), element) for element in fields if element[:2] == "v:"]
    there = [
        pair for pair in ours if not is_composite(pair[0]) and (type(pair[0]), pair[0]) in counts
    ]
    return SetShape(tuple(value for value, _ in there), tuple(element for _, element in there))
