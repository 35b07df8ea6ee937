"""What one cluster holds: objects, one counter of resource versions, and a bounded history."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import orjson

Key = tuple[str, str]  # group, plural
Name = tuple[str, str]  # namespace ("" for cluster scope), name
Change = Literal["ADDED", "MODIFIED", "DELETED"]


class Stored:
    """One object as it is stored; neither it nor its parts are ever changed."""

    __slots__ = ("_body", "item", "version")

    def __init__(self, item: dict[str, Any]) -> None:
        self.item = item
        self.version = int(item["metadata"]["resourceVersion"])
        self._body: bytes | None = None

    @property
    def body(self) -> bytes:
        """The object as JSON, made once for every list and watch that sends it."""
        if self._body is None:
            self._body = orjson.dumps(self.item)
        return self._body


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one object; `before` is what it replaced or deleted."""

    version: int
    change: Change
    after: Stored
    before: Stored | None


class Watcher:
    """One watch's queue of events. `closed` ends the watch once the queue is empty."""

    def __init__(self, limit: int) -> None:
        self.pending: deque[Event] = deque()
        self.wake = asyncio.Event()
        self.closed = False
        self._limit = limit

    def offer(self, event: Event) -> None:
        """Adds an event; a reader too slow for its queue is cut off, as by a real server."""
        if len(self.pending) >= self._limit:
            self.close()
        if not self.closed:
            self.pending.append(event)
            self.wake.set()

    def close(self) -> None:
        """Ends the watch."""
        self.closed = True
        self.wake.set()


class HistoryExpiredError(LookupError):
    """The history no longer reaches back to the resource version asked for."""

    def __init__(self, oldest: int) -> None:
        super().__init__(f"the history begins at resource version {oldest}")
        self.oldest = oldest


class Store:
    """The objects of one cluster, by resource and by namespace and name.

    `history` is how many changes are kept for watches that resume; older resource versions are
    expired. Pages of a list are served from a frozen list, of which `snapshots` are kept.
    """

    def __init__(self, *, history: int = 10_000, snapshots: int = 64) -> None:
        self.version = 1
        self.oldest = 1
        self._tables: dict[Key, dict[Name, Stored]] = {}
        self._history: deque[tuple[Key, Event]] = deque()
        self._history_limit = history
        self._watchers: dict[Key, set[Watcher]] = {}
        self._snapshots: OrderedDict[str, tuple[int, list[Stored]]] = OrderedDict()
        self._snapshot_limit = snapshots
        self._snapshot_count = 0

    def table(self, key: Key) -> dict[Name, Stored]:
        """The objects of one resource; not to be changed by callers."""
        return self._tables.get(key, {})

    def keys(self) -> list[Key]:
        """The resources that have had objects."""
        return list(self._tables)

    def get(self, key: Key, name: Name) -> Stored | None:
        """One object, or None."""
        return self.table(key).get(name)

    def sorted(self, key: Key, namespace: str | None) -> list[Stored]:
        """Objects of a resource in the order of their keys, of one namespace or of all (None)."""
        table = self.table(key)
        if namespace is None:
            return [table[name] for name in sorted(table)]
        return [table[name] for name in sorted(n for n in table if n[0] == namespace)]

    def put(self, key: Key, name: Name, item: dict[str, Any]) -> Stored:
        """Stores an object under the next resource version, which it receives."""
        table = self._tables.setdefault(key, {})
        before = table.get(name)
        stored = self._next(item)
        table[name] = stored
        change: Change = "ADDED" if before is None else "MODIFIED"
        self._publish(key, Event(stored.version, change, stored, before))
        return stored

    def remove(self, key: Key, name: Name, last: dict[str, Any] | None = None) -> Stored:
        """Removes an object; what is returned carries the version of its deletion.

        `last` is the state in which it goes, where that is not the one stored.
        """
        before = self._tables[key].pop(name)
        stored = self._next(before.item if last is None else last)
        self._publish(key, Event(stored.version, "DELETED", stored, before))
        return stored

    def _next(self, item: dict[str, Any]) -> Stored:
        self.version += 1
        metadata = {**item["metadata"], "resourceVersion": str(self.version)}
        # In this order, so that the JSON begins alike for every object of a resource.
        head = {"apiVersion": item["apiVersion"], "kind": item["kind"]}
        return Stored({**head, **item, "metadata": metadata})

    def _publish(self, key: Key, event: Event) -> None:
        self._history.append((key, event))
        while len(self._history) > self._history_limit:
            _, dropped = self._history.popleft()
            self.oldest = dropped.version
        for watcher in self._watchers.get(key, ()):
            watcher.offer(event)

    def everything(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Return all objects, by group and plural."""
        return [
            (*key, stored.item) for key, table in self._tables.items() for stored in table.values()
        ]

    def fill(self, version: int, objects: Iterable[tuple[str, str, dict[str, Any]]]) -> None:
        """Hold these instead, by group and plural, as of a version; earlier history is gone."""
        self._tables.clear()
        self._history.clear()
        for group, plural, item in objects:
            metadata = item["metadata"]
            name = (metadata.get("namespace", ""), metadata["name"])
            self._tables.setdefault((group, plural), {})[name] = Stored(item)
        self.version = self.oldest = version

    def since(self, key: Key, version: int) -> list[Event]:
        """Changes of a resource after a version; raises HistoryExpiredError when it is too old."""
        if version < self.oldest:
            raise HistoryExpiredError(self.oldest)
        found: list[Event] = []
        for at, event in reversed(self._history):
            if event.version <= version:
                break
            if at == key:
                found.append(event)
        found.reverse()
        return found

    def watch(self, key: Key, *, limit: int = 10_000) -> Watcher:
        """Opens a queue for every later change of a resource; `unwatch` must follow."""
        watcher = Watcher(limit)
        self._watchers.setdefault(key, set()).add(watcher)
        return watcher

    def unwatch(self, key: Key, watcher: Watcher) -> None:
        """Forgets a queue."""
        self._watchers.get(key, set()).discard(watcher)

    def drop_watches(self, keys: Iterable[Key] | None = None) -> int:
        """Ends every watch, or those of some resources; returns how many."""
        wanted = set(self._watchers) if keys is None else set(keys)
        open_watchers = [w for key in wanted for w in self._watchers.get(key, ())]
        for watcher in open_watchers:
            watcher.close()
        return len(open_watchers)

    def watching(self) -> int:
        """How many watches are open."""
        return sum(len(watchers) for watchers in self._watchers.values())

    def expire(self) -> None:
        """Forgets all history and pages: every older resource version is gone for watches."""
        self._history.clear()
        self._snapshots.clear()
        # The version counter moves too, or a client at the newest version would notice nothing.
        self.version += 1
        self.oldest = self.version

    def snapshot(self, found: list[Stored]) -> str:
        """Freezes a list for its later pages and returns its name."""
        self._snapshot_count += 1
        name = str(self._snapshot_count)
        self._snapshots[name] = (self.version, found)
        while len(self._snapshots) > self._snapshot_limit:
            self._snapshots.popitem(last=False)
        return name

    def frozen(self, name: str) -> tuple[int, list[Stored]] | None:
        """A frozen list and the resource version that it shows; None once forgotten."""
        return self._snapshots.get(name)
