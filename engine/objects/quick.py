"""Whether what is ours in a live object is as it was kept: quickly, and yes or no alone. Pure.

Most events of an object change nothing of ours, so that this answers them, at some 100,000 objects
a second; `engine.objects.compare` then finds out what differs in the others. A shape is turned
into bare tuples, and as much as can be is left to comparisons of whole maps: those run in C.
"""

from __future__ import annotations

from collections.abc import ItemsView
from typing import Any, NamedTuple, TypeAlias

from engine.objects.shape import ListShape, MapShape, SetShape
from engine.objects.typed import counted, item_key, same_value

Texts: TypeAlias = ItemsView[str, Any] | None
"""Fields that `==` compares rightly: strings, and what holds strings alone. None for none."""


class Rest(NamedTuple):
    """What of a map takes more than one comparison."""

    atoms: tuple[tuple[str, type, Any], ...]
    """Where numbers and booleans are: `==` alone takes 1 for true."""
    empties: tuple[tuple[str, Any], ...]
    unset: tuple[str, ...]
    maps: tuple[tuple[str, Texts, Rest | None, bool], ...]
    lists: tuple[tuple[str, tuple[tuple[Texts, Rest | None], ...], ListShape], ...]
    sets: tuple[tuple[str, SetShape], ...]


Quick: TypeAlias = tuple[Texts, Rest | None]


def quick_of(shape: MapShape) -> Quick:
    """Turn a shape into its quick form."""
    texts: dict[str, Any] = dict(shape.texts)
    atoms: list[tuple[str, type, Any]] = []
    for name, value in shape.atoms:
        if _is_plain(value):
            texts[name] = value
        else:
            atoms.append((name, type(value), value))
    return _quick(shape, texts, atoms)


def unchanged(quick: Quick, live: Any) -> bool:
    """Whether all that is ours is certainly as it was. False means: look closer."""
    return type(live) is dict and _holds(quick[0], quick[1], live)


def _quick(shape: MapShape, texts: dict[str, Any], atoms: list[tuple[str, type, Any]]) -> Quick:
    rest = Rest(
        tuple(atoms),
        shape.empties,
        shape.unset,
        tuple((name, *quick_of(inner), required) for name, inner, required in shape.maps),
        tuple((name, _items(items), items) for name, items in shape.lists),
        shape.sets,
    )
    return (texts.items() if texts else None), (rest if any(rest) else None)


def _items(shape: ListShape) -> tuple[Quick, ...]:
    """Return the quick forms of our items, each with its keys: then order is compared too."""
    quick = []
    for key, item in zip(shape.keys, shape.items, strict=True):
        fields = {
            name: part for name, part in zip(shape.names, key, strict=True) if part is not None
        }
        named = dict(item.atoms)
        named.update((name, part) for name, part in fields.items() if name not in item.texts)
        quick.append(quick_of(item._replace(atoms=tuple(named.items()))))
    return tuple(quick)


def _holds(texts: Texts, rest: Rest | None, live: dict[str, Any]) -> bool:
    if texts is not None and not texts <= live.items():
        return False
    if rest is None:
        return True
    atoms, empties, unset, maps, lists, sets = rest
    for name, kind, value in atoms:
        found = live.get(name)
        if type(found) is not kind or found != value:
            return False
        if (kind is dict or kind is list) and not same_value(found, value):
            return False
    for name, inner, more, required in maps:
        found = live.get(name)
        if type(found) is dict:
            if not _holds(inner, more, found):
                return False
        elif required or found is not None:
            return False
    for name, items, shape in lists:
        found = live.get(name)
        if type(found) is not list or not _items_hold(items, shape, found):
            return False
    for name, value in empties:
        # Content below may be others' or a change of ours: who owns it tells, and not from here.
        if type(live.get(name)) is not type(value) or live[name]:
            return False
    for name in unset:
        if live.get(name):
            return False
    return all(_set_holds(values, live.get(name)) for name, values in sets)


def _items_hold(items: tuple[Quick, ...], shape: ListShape, live: list[Any]) -> bool:
    if len(items) == len(live):
        # Nearly always the list is ours alone. Equal in number and each in its place: no
        # duplicate, no other order.
        for (texts, rest), item in zip(items, live, strict=True):
            if type(item) is not dict or not _holds(texts, rest, item):
                return False
        return True
    names, places = shape.names, shape.places
    turn = 0
    for item in live:
        key = item_key(item, names)
        if key is None or (place := places.get(key)) is None:
            continue
        if place != turn or not _holds(*items[place], item):
            return False
        turn += 1
    return turn == len(items)


def _set_holds(shape: SetShape, live: Any) -> bool:
    if type(live) is not list:
        return False
    counts = counted(live)
    return all(counts.get((type(value), value)) == 1 for value in shape.values)


def _is_plain(value: Any) -> bool:
    """Whether equality by `==` is equality by type: a value of strings alone."""
    kind = type(value)
    if kind is dict:
        return all(map(_is_plain, value.values()))
    if kind is list:
        return all(map(_is_plain, value))
    return kind is str or value is None
