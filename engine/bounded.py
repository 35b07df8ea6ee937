"""A cache bounded by what it weighs, not by how many there are: items differ a thousandfold. Pure.

Whoever keeps something here must be able to do without it: what is gone costs work, and no more.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

KIB = 1024
MIB = 1024 * KIB
ITEM = 320
"""What an item weighs beside its value, in bytes: its place, and a digest as its key."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """Keeps what was used last, as long as all of it weighs no more than `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._items: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._weight = 0

    @property
    def weight(self) -> int:
        """What is kept, in bytes."""
        return self._weight

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: K) -> bool:
        return key in self._items

    def get(self, key: K) -> V | None:
        """Return what is kept under a key, as used just now; None where nothing is."""
        found = self._items.get(key)
        if found is None:
            return None
        self._items.move_to_end(key)
        return found[0]

    def put(self, key: K, value: V, weight: int) -> None:
        """Keep a value of so many bytes; what was used longest ago makes room.

        What is heavier than all that may be kept is not kept.
        """
        self.drop(key)
        weight += ITEM
        if weight > self.limit:
            return
        self._items[key] = value, weight
        self._weight += weight
        while self._weight > self.limit:
            _, (_, freed) = self._items.popitem(last=False)
            self._weight -= freed

    def drop(self, key: K) -> None:
        """Forget what is kept under a key."""
        found = self._items.pop(key, None)
        if found is not None:
            self._weight -= found[1]
