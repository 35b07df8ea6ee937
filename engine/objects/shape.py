"""A kept form made ready for use: what to look at in a live object, and in which order. Pure.

A shape is built once for a kept form. `engine.objects.quick` answers most events from it, and
`engine.objects.compare` finds out what differs in the others.
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
