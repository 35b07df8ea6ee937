"""Who owns which field: managedFields, server-side apply and its conflicts. Pure.

The rules are those of the real server's field manager: an apply replaces the set of its manager,
an update takes what it changed, and a field that nobody owns any longer goes when its last
applier drops it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.simulator import fields, typed
from engine.simulator.fields import Fields
from engine.simulator.schema import Type
from engine.simulator.typed import ABSENT

# What only the server may write is nobody's: `metadata` itself, too, but not what is below it.
_SERVERS = fields.from_paths(
    [("f:apiVersion",), ("f:kind",), ("f:metadata",)]
    + [
        ("f:metadata", "f:" + name)
        for name in (
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "clusterName",
            "generation",
            "managedFields",
            "resourceVersion",
        )
    ]
)
_MOST_UPDATERS = 10


@dataclass(frozen=True, slots=True)
class Manager:
    """Who a field set belongs to. Appliers are one whatever version they apply in."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes two entries one manager's."""
        version = "" if self.operation == "Apply" else self.api_version
        return (self.name, self.operation, version, self.subresource)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of managedFields; `time` is RFC 3339 or empty."""

    manager: Manager
    owned: Fields
    time: str = ""


Entries = Mapping[tuple[str, str, str, str], Entry]


class ConflictError(Exception):
    """An apply without force that would change what others own."""

    def __init__(self, conflicts: list[tuple[Manager, fields.Path]]) -> None:
        self.conflicts = conflicts
        super().__init__(_conflict_message(conflicts))

    @property
    def causes(self) -> list[dict[str, str]]:
        """The conflicts as a Status carries them."""
        return [
            {
                "reason": "FieldManagerConflict",
                "message": f"conflict with {_manager_text(manager)}",
                "field": fields.describe(path),
            }
            for manager, path in self.conflicts
        ]


def _manager_text(manager: Manager) -> str:
    text = f'"{manager.name}"'
    if manager.subresource:
        text += f' with subresource "{manager.subresource}"'
    return f"{text} using {manager.api_version}" if manager.operation == "Update" else text


def _conflict_message(conflicts: list[tuple[Manager, fields.Path]]) -> str:
    if len(conflicts) == 1:
        manager, path = conflicts[0]
        return (
            "Apply failed with 1 conflict: "
            f"conflict with {_manager_text(manager)}: {fields.describe(path)}"
        )
    by_manager: dict[str, list[str]] = {}
    for manager, path in conflicts:
        by_manager.setdefault(_manager_text(manager), []).append(fields.describe(path))
    lines = []
    for text in sorted(by_manager):
        lines.append(f"conflicts with {text}:")
        lines.extend(f"- {path}" for path in by_manager[text])
    return f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)


def decode(managed: Any) -> dict[tuple[str, str, str, str], Entry] | None:
    """Reads metadata.managedFields; None when it is not well formed."""
    if managed is None:
        return {}
    if not isinstance(managed, list):
        return None
    out: dict[tuple[str, str, str, str], Entry] = {}
    for item in managed:
        if not isinstance(item, dict) or item.get("operation") not in ("Apply", "Update"):
            return None
        owned = item.get("fieldsV1")
        if owned is None:
            owned = {}
        if not fields.valid(owned):
            return None
        manager = Manager(
            str(item.get("manager", "")),
            item["operation"],
            str(item.get("apiVersion", "")),
            str(item.get("subresource", "")),
        )
        out[manager.key] = Entry(manager, owned, str(item.get("time") or ""))
    return out


def encode(entries: Entries) -> list[dict[str, Any]]:
    """Writes entries as metadata.managedFields, in the server's order."""

    def order(entry: Entry) -> tuple[str, str, str, str, str]:
        manager = entry.manager
        return (
            manager.operation,
            entry.time,
            manager.name,
            manager.api_version,
            manager.subresource,
        )

    out = []
    for entry in sorted(entries.values(), key=order):
        manager = entry.manager
        item: dict[str, Any] = {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": manager.api_version,
        }
        if entry.time:
            item["time"] = entry.time
        item["fieldsType"] = "FieldsV1"
        item["fieldsV1"] = fields.ordered(entry.owned)
        if manager.subresource:
            item["subresource"] = manager.subresource
        out.append(item)
    return out


def apply(
    live: dict[str, Any] | None,
    config: dict[str, Any],
    entries: Entries,
    manager: Manager,
    typ: Type,
    *,
    force: bool,
    now: str,
) -> tuple[dict[str, Any], Entries]:
    """Server-side apply: the live object with the configuration laid over it, and who owns what.

    Neither argument is changed; managedFields are in neither. The very `live` object is returned
    when no value changes. Raises ConflictError without `force`, and TypedError for a
    configuration that does not fit the type.
    """
    base = live if live is not None else {}
    for error in typed.check(config, typ):
        raise error
    merged = typed.merge(base, config, typ)
    before = entries.get(manager.key)
    after = dict(entries)
    after[manager.key] = Entry(manager, typed.to_fields(config, typ), before.time if before else "")
    if before is not None and before.owned:
        merged = _prune(merged, after, before.owned, typ)
    change = typed.compare(base, merged, typ)
    after = _take_over(after, manager, change, force=force)
    same = live is not None and typed.equal(live, merged)
    entry = after[manager.key]
    mine = fields.difference(entry.owned, _SERVERS)
    if mine:
        # A set that grows or shrinks without a change of values keeps its time.
        after[manager.key] = Entry(manager, mine, entry.time if same else now)
    else:
        del after[manager.key]
    return (live if live is not None and same else merged), after


def _prune(merged: Any, entries: Entries, last: Fields, typ: Type) -> Any:
    """Removes what the applier named before and names no more, unless others own it.

    In structured-merge-diff's three steps, each of which names structs, so that a struct goes
    when nothing in it is owned any longer, and stays when something in it is nobody's.
    """
    last = typed.name_members(last, typ)
    pruned = typed.remove(merged, last, typ)
    pruned = {} if pruned is ABSENT else pruned
    owned: Fields = {}
    for entry in entries.values():
        owned = fields.union(owned, entry.owned)
    owned = typed.name_members(owned, typ)
    everything = typed.name_members(typed.to_fields(merged, typ), typ)
    kept = typed.name_members(typed.to_fields(pruned, typ), typ)
    pruned = typed.remove(merged, fields.difference(everything, fields.union(kept, owned)), typ)
    pruned = {} if pruned is ABSENT else pruned
    kept = typed.name_members(typed.to_fields(pruned, typ), typ)
    gone = fields.intersection(fields.difference(everything, kept), last)
    result = typed.remove(merged, gone, typ)
    return {} if result is ABSENT else result


def _take_over(
    entries: dict[tuple[str, str, str, str], Entry],
    manager: Manager,
    change: typed.Comparison,
    *,
    force: bool,
) -> dict[tuple[str, str, str, str], Entry]:
    """Takes what changed from the others; raises ConflictError when that needs force."""
    changed = fields.union(change.modified, change.added)
    conflicts: dict[tuple[str, str, str, str], Fields] = {}
    for key, entry in entries.items():
        if key != manager.key and (both := fields.intersection(entry.owned, changed)):
            conflicts[key] = both
    if conflicts and not force:
        raise ConflictError(
            [
                (entries[key].manager, path)
                for key, both in sorted(conflicts.items())
                for path in fields.paths(fields.ordered(both))
            ]
        )
    out = {}
    for key, entry in entries.items():
        owned = entry.owned
        if key != manager.key and key in conflicts:
            owned = fields.difference(owned, conflicts[key])
        if key != manager.key and change.removed:
            owned = fields.difference(owned, change.removed)
        if owned or key == manager.key:
            out[key] = replace(entry, owned=owned)
    return out


def update(
    live: dict[str, Any],
    new: dict[str, Any],
    entries: Entries,
    manager: Manager,
    typ: Type,
    *,
    now: str,
) -> Entries:
    """Books a create, replace or patch: the manager takes every field that it changed.

    For a create, `live` is the kind's empty object. A change of order alone is no change.
    """
    change = typed.compare(live, new, typ)
    before = entries.get(manager.key)
    after = _take_over(
        {k: v for k, v in entries.items() if k != manager.key}, manager, change, force=True
    )
    mine = before.owned if before else {}
    mine = fields.difference(mine, change.removed) if change.removed else mine
    taken = fields.difference(fields.union(change.added, change.modified), _SERVERS)
    mine = fields.union(mine, taken)
    if mine:
        time = before.time if before and not taken else now
        after[manager.key] = Entry(manager, mine, time)
    return _cap(after)


def _cap(entries: dict[tuple[str, str, str, str], Entry]) -> Entries:
    """Folds the oldest updaters into one, so that managedFields cannot grow without bound."""
    updaters = sorted(
        (e for e in entries.values() if e.manager.operation == "Update"),
        key=lambda e: (e.time, e.manager.key),
    )
    for entry in updaters[: max(0, len(updaters) - _MOST_UPDATERS)]:
        del entries[entry.manager.key]
        old = Manager("ancient-changes", "Update", entry.manager.api_version)
        there = entries.get(old.key)
        owned = fields.union(there.owned, entry.owned) if there else entry.owned
        entries[old.key] = Entry(old, owned, entry.time)
    return entries
