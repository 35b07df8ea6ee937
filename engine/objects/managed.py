"""Who owns which fields: the managedFields of a live object. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.objects.fieldset import FieldSet, Path, Tree
from engine.objects.ownership import MANAGER

STATUS: Final = "status"


class Entry:
    """One entry of managedFields; its field set is parsed when it is asked for."""

    __slots__ = ("_fields", "api_version", "manager", "operation", "raw", "subresource", "time")

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self.manager = _text(entry, "manager")
        self.operation = _text(entry, "operation")
        self.subresource = _text(entry, "subresource")
        self.api_version = _text(entry, "apiVersion")
        self.time = _text(entry, "time")
        """RFC 3339: that manager's latest change, not that of a field."""
        self.raw: Any = entry.get("fieldsV1") or {}
        self._fields: FieldSet | None = None

    @property
    def fields(self) -> FieldSet:
        """The entry's fields. Raises `ObjectRefused("bad-fields")`."""
        if self._fields is None:
            self._fields = FieldSet.parse(self.raw)
        return self._fields

    def is_own(self, manager: str = MANAGER) -> bool:
        """Whether this is what a manager applied (Updates and subresources in its name are not)."""
        return self.manager == manager and self.operation == "Apply" and not self.subresource


class Managed:
    """The entries of one live object, and whose a path is."""

    __slots__ = ("entries", "own")

    def __init__(self, live: Mapping[str, Any], manager: str = MANAGER) -> None:
        self.entries = entries_of(live)
        self.own = next((entry for entry in self.entries if entry.is_own(manager)), None)

    def author(self, path: Path) -> Entry | None:
        """Return the latest of the other entries that cover a path, None where none does."""
        covering = [
            entry for entry in self.entries if entry is not self.own and entry.fields.covers(path)
        ]
        return max(covering, key=lambda entry: entry.time, default=None)

    def leaf_owner(self, path: Path) -> Entry | None:
        """Return the latest of the other entries that own a path as a whole, nothing below it."""
        owners = [
            entry
            for entry in self.entries
            if entry is not self.own and entry.fields.node(path) == {}
        ]
        return max(owners, key=lambda entry: entry.time, default=None)

    def is_ours(self, path: Path) -> bool:
        """Whether our own entry still covers a path."""
        return self.own is not None and self.own.fields.covers(path)


def own_raw(live: Mapping[str, Any], manager: str = MANAGER) -> Tree:
    """Return our entry's FieldsV1 as the server wrote it; {} where it is gone."""
    metadata = live.get("metadata")
    managed = metadata.get("managedFields") if isinstance(metadata, Mapping) else None
    # By hand and not through Managed: every event of every object comes by here.
    for entry in managed if isinstance(managed, list) else ():
        if (
            type(entry) is dict
            and entry.get("manager") == manager
            and entry.get("operation") == "Apply"
            and not entry.get("subresource")
        ):
            raw = entry.get("fieldsV1")
            return raw if isinstance(raw, dict) else {}
    return {}


def entries_of(live: Mapping[str, Any]) -> list[Entry]:
    """Return the entries of an object's managedFields, in their order."""
    metadata = live.get("metadata")
    managed = metadata.get("managedFields") if isinstance(metadata, Mapping) else None
    if not isinstance(managed, list):
        return []
    return [Entry(entry) for entry in managed if isinstance(entry, Mapping)]


def _text(entry: Mapping[str, Any], field: str) -> str:
    value = entry.get(field)
    return value if isinstance(value, str) else ""
