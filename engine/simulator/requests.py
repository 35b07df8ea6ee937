"""Reading a request: which resource it is about, what it asks for, and its body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import yaml

from engine.simulator import errors
from engine.simulator.cluster import Served, SimCluster

MOST_BYTES = 3 * 1024 * 1024
_MOST_DEPTH = 1_000
_MANAGER = re.compile(r"[^\x20-\x7e]")
PATCH_FORMS = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about. `served` is None where no resource is served there."""

    verb: str
    group: str
    version: str
    plural: str
    namespace: str | None
    name: str
    subresource: str
    served: Served | None

    @property
    def one_namespace(self) -> str:
        """The namespace, "" at cluster scope."""
        return self.namespace or ""


def target(cluster: SimCluster, method: str, path: str, query: Mapping[str, str]) -> Target:
    """Reads the path of a request below /api or /apis; raises 404."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) >= 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) >= 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise errors.no_such_path()
    namespace: str | None = None
    # `namespaces/x/status` is about a namespace, `namespaces/x/pods` about what is in it.
    if (
        rest[0] == "namespaces"
        and len(rest) > 2
        and not (group == "" and rest[2] in _NAMESPACE_SUB)
    ):
        namespace, rest = rest[1], rest[2:]
    if len(rest) > 3 or not all(rest):
        raise errors.no_such_path()
    plural, name, subresource = (*rest, "", "")[:3]
    served = cluster.served(group, version, plural)
    if served is not None:
        if served.resource.namespaced and namespace is None and name:
            raise errors.no_such_path()
        if not served.resource.namespaced and namespace is not None:
            raise errors.no_such_path()
    verb = _verb(method, name, query)
    return Target(verb, group, version, plural, namespace, name, subresource, served)


_NAMESPACE_SUB = frozenset({"status", "finalize"})


def _verb(method: str, name: str, query: Mapping[str, str]) -> str:
    match method:
        case "GET" | "HEAD":
            if flag(query, "watch"):
                return "watch"
            return "get" if name else "list"
        case "POST":
            return "create"
        case "PUT":
            return "update"
        case "PATCH":
            return "patch"
        case "DELETE":
            return "delete" if name else "deletecollection"
    raise errors.ApiError(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
    )


def flag(query: Mapping[str, str], name: str) -> bool:
    """A boolean parameter, as Kubernetes reads it: present and not false."""
    value = query.get(name)
    return value is not None and value.lower() not in ("false", "0", "")


def number(query: Mapping[str, str], name: str) -> int:
    """A parameter that is a number, 0 when it is absent; raises 400."""
    value = query.get(name) or "0"
    if not value.isascii() or not value.isdigit() or len(value) > 18:
        what = "resource version" if name == "resourceVersion" else "parameter"
        raise errors.bad_request(
            f'invalid {what}: {name}: Invalid value: "{value}": strconv.ParseUint: parsing '
            f'"{value}": invalid syntax'
        )
    return int(value)


def manager(query: Mapping[str, str], user_agent: str) -> str:
    """Who writes: the field manager asked for, or the first word of the user agent."""
    named = query.get("fieldManager", "")
    if len(named) > 128 or _MANAGER.search(named):
        causes = [
            errors.invalid_value("fieldManager", named, "must be at most 128 printable characters")
        ]
        raise errors.invalid("PatchOptions", "meta.k8s.io", "", causes)
    if named:
        return named
    first = user_agent.partition("/")[0]
    return _MANAGER.sub("", first)[:128] or "unknown"


def dry_run(query: Mapping[str, str]) -> bool:
    """Whether nothing is to be stored; raises 422 for a value other than All."""
    value = query.get("dryRun")
    if not value:
        return False
    if value != "All":
        causes = [errors.cause("dryRun", "FieldValueNotSupported", f'Unsupported value: "{value}"')]
        raise errors.invalid("PatchOptions", "meta.k8s.io", "", causes)
    return True


def media_type(header: str) -> str:
    """A Content-Type without its parameters."""
    return header.partition(";")[0].strip().lower()


def body(content_type: str, data: bytes) -> Any:
    """Reads a body as JSON or YAML; raises 400 or 415."""
    kind = media_type(content_type)
    if kind in ("", "application/json") or kind in PATCH_FORMS:
        if kind != "application/apply-patch+yaml":
            return _json(data)
        if data.lstrip()[:1] == b"{":
            try:
                return orjson.loads(data)
            except orjson.JSONDecodeError:
                return _yaml(data)
        return _yaml(data)
    if kind == "application/yaml":
        return _yaml(data)
    raise errors.unsupported_media_type(kind, ("application/json", "application/yaml"))


def _json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise errors.bad_request(f"the body of the request is no JSON: {error}") from None


def _yaml(data: bytes) -> Any:
    # libyaml recurses: deep nesting would end the process.
    if data.count(b"[") + data.count(b"{") > 20_000:
        raise errors.bad_request("the YAML of the request has too many flow collections")
    try:
        loaded = yaml.load(data, _Loader)  # noqa: S506 - a safe loader, see below
    except yaml.YAMLError as error:
        raise errors.bad_request(f"error parsing YAML: {error}") from None
    except RecursionError:
        raise errors.bad_request("the YAML of the request is nested too deep") from None
    return loaded


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: no timestamps; and no aliases, which can grow without bound."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not served here")
        return super().compose_node(parent, index)  # type: ignore[misc]


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if not tag.endswith((":timestamp", ":value"))]
    for first, found in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
