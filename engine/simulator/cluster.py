"""One simulated cluster: what it serves, what it holds, and what has been done to it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from engine.simulator import schema
from engine.simulator.resources import BUILTIN, Resource
from engine.simulator.schema import Type
from engine.simulator.store import Store
from engine.simulator.strategy import Addresses

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Served:
    """A resource as it is served: its type, and for a custom resource its structural schema."""

    resource: Resource
    typ: Type
    structural: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Delays:
    """How long the stand-ins for controllers take, in seconds."""

    ready: float = 1.0
    established: float = 0.05
    namespace: float = 0.05


def utc_now() -> datetime:
    """The real clock."""
    return datetime.now(UTC)


@dataclass(eq=False)
class SimCluster:
    """A cluster's state. Requests reach it through `operations`, controllers through `changed`."""

    name: str
    clock: Callable[[], datetime] = utc_now
    delays: Delays = field(default_factory=Delays)
    store: Store = field(default_factory=Store)
    version: str = "v1.37.2"

    def __post_init__(self) -> None:
        self.addresses = Addresses()
        # Called with the resource and the name after every write; controllers hang here.
        self.listeners: list[Callable[[SimCluster, Resource, str, str], None]] = []
        self._custom: dict[tuple[str, str], dict[str, Served]] = {}

    def now(self) -> str:
        """The time as objects carry it."""
        return self.clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def new_uid(self) -> str:
        """A fresh uid."""
        return str(uuid.uuid4())

    def served(self, group: str, version: str, plural: str) -> Served | None:
        """What is served under a group, version and plural; None when nothing is."""
        found = _builtin().get((group, version), {}).get(plural)
        return found or self._custom.get((group, version), {}).get(plural)

    def resources(self) -> dict[tuple[str, str], list[Resource]]:
        """All resources by group and version, built-in ones first."""
        out = {key: [s.resource for s in found.values()] for key, found in _builtin().items()}
        for key, custom in self._custom.items():
            if custom:
                out[key] = out.get(key, []) + [served.resource for served in custom.values()]
        return out

    def served_by_key(self, key: tuple[str, str]) -> Served | None:
        """Any served version of a resource, by group and plural."""
        for (group, version), found in self._custom.items():
            if group == key[0] and key[1] in found:
                return self.served(group, version, key[1])
        for (group, _), found in _builtin().items():
            if group == key[0] and key[1] in found:
                return found[key[1]]
        return None

    def define(self, definition: Object) -> None:
        """Serves what a CustomResourceDefinition defines, in place of what it served before."""
        self.forget(definition)
        spec = definition["spec"]
        names = spec["names"]
        for version in spec["versions"]:
            if not version.get("served"):
                continue
            subresources = version.get("subresources") or {}
            structural = version["schema"]["openAPIV3Schema"]
            resource = Resource(
                group=spec["group"],
                version=version["name"],
                kind=names["kind"],
                plural=names["plural"],
                namespaced=spec.get("scope") == "Namespaced",
                singular=names.get("singular", ""),
                short=tuple(names.get("shortNames") or ()),
                categories=tuple(names.get("categories") or ()),
                subresources=tuple(n for n in ("status", "scale") if n in subresources),
                generation="spec",
                custom=True,
            )
            served = Served(resource, schema.from_structural(structural), structural)
            self._custom.setdefault((spec["group"], version["name"]), {})[names["plural"]] = served

    def forget(self, definition: Object) -> None:
        """Serves a definition's resource no more."""
        spec = definition["spec"]
        for (group, _), found in self._custom.items():
            if group == spec["group"]:
                found.pop(spec["names"]["plural"], None)

    def changed(self, resource: Resource, namespace: str, name: str) -> None:
        """Tells the controllers that an object was written or removed."""
        for listener in self.listeners:
            listener(self, resource, namespace, name)


_BUILTIN: dict[tuple[str, str], dict[str, Served]] = {}


def _builtin() -> dict[tuple[str, str], dict[str, Served]]:
    if not _BUILTIN:
        types = schema.builtin()
        for resource in BUILTIN:
            typ = types.of_kind(resource.group, resource.version, resource.kind)
            if typ is None:
                raise LookupError(f"schema.json lacks {resource.api_version} {resource.kind}")
            _BUILTIN.setdefault((resource.group, resource.version), {})[resource.plural] = Served(
                resource, typ
            )
    return _BUILTIN
