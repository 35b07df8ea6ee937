"""What applications wait for: whether that goes round in a circle. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def cycle_from(start: str, depends_on: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a way from an application over what it depends on back to itself; [] for none.

    `depends_on` has what each application depends on, by name; one that it lacks depends on none.
    """
    came_from: dict[str, str] = {}
    open_ends = [start]
    while open_ends:
        name = open_ends.pop()
        for other in sorted(depends_on.get(name, ()), reverse=True):
            if other == start:
                way = [start, name]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return way[::-1] if name != start else [start, start]
            if other not in came_from:
                came_from[other] = name
                open_ends.append(other)
    return []
