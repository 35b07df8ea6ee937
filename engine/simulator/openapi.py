"""OpenAPI documents made from the types: enough for kubectl to validate, apply and explain."""

from __future__ import annotations

from typing import Any

from engine.simulator import schema
from engine.simulator.cluster import SimCluster
from engine.simulator.resources import Resource
from engine.simulator.schema import Type

Document = dict[str, Any]
# A document without definitions: kubectl asks for one only for kinds such as RoleList, which are
# then not validated by the client.
SWAGGER_PROTOBUF = b"\x0a\x032.0"
_API = "io.k8s.api."
_SCALARS: dict[str, Document] = {
    "string": {"type": "string"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "": {"x-kubernetes-int-or-string": True},
}


def _path(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def index(cluster: SimCluster) -> Document:
    """/openapi/v3: where the document of each group and version is."""
    base = f"/c/{cluster.name}/openapi/v3/"
    return {
        "paths": {
            _path(*key): {"serverRelativeURL": f"{base}{_path(*key)}?hash={cluster.store.version}"}
            for key in cluster.resources()
        }
    }


def document(cluster: SimCluster, path: str) -> Document | None:
    """/openapi/v3/apis/GROUP/VERSION; None when nothing is served there."""
    for key, found in cluster.resources().items():
        if _path(*key) == path:
            schemas: dict[str, Document] = {}
            for resource in found:
                _describe(cluster, resource, schemas, "#/components/schemas/")
            return {
                "openapi": "3.0.0",
                "info": {"title": "Kubernetes", "version": cluster.version},
                "paths": _paths(path, found),
                "components": {"schemas": schemas},
            }
    return None


def swagger(cluster: SimCluster) -> Document:
    """/openapi/v2: the same of all groups, without operations."""
    schemas: dict[str, Document] = {}
    for found in cluster.resources().values():
        for resource in found:
            _describe(cluster, resource, schemas, "#/definitions/")
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": cluster.version},
        "paths": {},
        "definitions": schemas,
    }


def _paths(path: str, found: list[Resource]) -> Document:
    parameters = [
        {"name": name, "in": "query", "schema": {"type": "string"}}
        for name in ("dryRun", "fieldManager", "fieldValidation", "force")
    ]
    out: Document = {}
    for resource in found:
        gvk = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        place = "namespaces/{namespace}/" if resource.namespaced else ""
        operations: Document = {}
        for method, action in (("patch", "patch"), ("post", "post"), ("put", "put")):
            operations[method] = {
                "parameters": parameters,
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind": gvk,
                "responses": {"200": {"description": "OK"}},
            }
        out[f"/{path}/{place}{resource.plural}/{{name}}"] = operations
    return out


def _describe(
    cluster: SimCluster, resource: Resource, schemas: dict[str, Document], base: str
) -> None:
    served = cluster.served(resource.group, resource.version, resource.plural)
    if served is None:
        return
    gvk = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    if served.structural is not None:
        group = ".".join(reversed(resource.group.split(".")))
        name = f"{group}.{resource.version}.{resource.kind}"
        made = {**_map(served.typ, schemas, base)}
    else:
        name = _full(served.typ.name)
        _definition(served.typ, schemas, base)
        made = schemas[name]
    schemas[name] = {**made, "x-kubernetes-group-version-kind": [gvk]}


def _full(name: str) -> str:
    return name if name.startswith("io.k8s.") else _API + name


def _definition(typ: Type, schemas: dict[str, Document], base: str) -> None:
    name = _full(typ.name)
    if name not in schemas:
        schemas[name] = {}
        # The atomic and the granular use of a definition share one entry.
        schemas[name].update(_map(schema.builtin().named(typ.name), schemas, base))


def _map(typ: Type, schemas: dict[str, Document], base: str) -> Document:
    out: Document = {"type": "object"}
    if typ.fields:
        properties = {}
        for field, child in typ.fields.items():
            properties[field] = _schema(child, schemas, base)
            if patch := typ.patch.get(field):
                properties[field]["x-kubernetes-patch-strategy"] = patch[0]
                if patch[1]:
                    properties[field]["x-kubernetes-patch-merge-key"] = patch[1]
        out["properties"] = properties
    if typ.element is not None:
        out["additionalProperties"] = _schema(typ.element, schemas, base)
    if typ.atomic:
        out["x-kubernetes-map-type"] = "atomic"
    return out


def _schema(typ: Type, schemas: dict[str, Document], base: str) -> Document:
    if typ.form == "any":
        return {"x-kubernetes-preserve-unknown-fields": True}
    if typ.form == "scalar":
        if typ.name == "integer":
            return {"type": "integer"}
        if typ.name == "quantity":
            return {"type": "string"}
        return dict(_SCALARS[typ.scalar])
    if typ.form == "list":
        out: Document = {
            "type": "array",
            "items": _schema(typ.element or schema.ANY, schemas, base),
        }
        out["x-kubernetes-list-type"] = "atomic" if typ.atomic else "map" if typ.keys else "set"
        if typ.keys:
            out["x-kubernetes-list-map-keys"] = list(typ.keys)
        return out
    if typ.name:
        _definition(typ, schemas, base)
        return {"$ref": base + _full(typ.name)}
    return _map(typ, schemas, base)
