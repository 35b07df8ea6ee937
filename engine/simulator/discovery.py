"""What the API says of itself: versions, groups, resources."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from engine.simulator.cluster import SimCluster
from engine.simulator.resources import VERBS, Resource

Document = dict[str, Any]


def version(cluster: SimCluster) -> Document:
    """/version"""
    major, minor, _ = cluster.version.removeprefix("v").split(".", 2)
    return {
        "major": major,
        "minor": minor,
        "gitVersion": f"{cluster.version}+trueup-simulator",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "simulated",
    }


def _groups(cluster: SimCluster) -> dict[str, dict[str, list[Resource]]]:
    out: dict[str, dict[str, list[Resource]]] = {}
    for (group, name), found in cluster.resources().items():
        out.setdefault(group, {})[name] = found
    return {
        group: dict(sorted(versions.items(), key=lambda pair: _rank(pair[0]), reverse=True))
        for group, versions in out.items()
    }


def _rank(name: str) -> tuple[int, int, int]:
    """Kubernetes' order of versions: v2 before v1 before v1beta1 before v1alpha1."""
    for word, level in (("alpha", 0), ("beta", 1)):
        if word in name:
            major, _, minor = name.removeprefix("v").partition(word)
            return (level, _int(major), _int(minor))
    return (2, _int(name.removeprefix("v")), 0)


def _int(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def core_versions(server: str) -> Document:
    """/api"""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server}],
    }


def groups(cluster: SimCluster) -> Document:
    """/apis"""
    found = {g: list(versions) for g, versions in _groups(cluster).items() if g}
    for service in unavailable(cluster):
        found.setdefault(service[0], [service[1]])
    return {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [_group(name, versions) for name, versions in found.items()],
    }


def _group(name: str, versions: list[str]) -> Document:
    listed = [{"groupVersion": f"{name}/{v}", "version": v} for v in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def group(cluster: SimCluster, name: str) -> Document | None:
    """/apis/GROUP; None when there is no such group."""
    versions = _groups(cluster).get(name)
    if not name or not versions:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, list(versions))}


def resources(cluster: SimCluster, group_name: str, version_name: str) -> Document | None:
    """/api/v1 or /apis/GROUP/VERSION; None when nothing is served there."""
    found = cluster.resources().get((group_name, version_name))
    if found is None:
        return None
    listed = []
    for resource in found:
        listed.append(_resource(resource))
        listed.extend(_subresource(resource, name) for name in resource.subresources)
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group_name}/{version_name}" if group_name else version_name,
        "resources": listed,
    }


def _resource(resource: Resource) -> Document:
    out: Document = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(VERBS),
    }
    if resource.short:
        out["shortNames"] = list(resource.short)
    if resource.categories:
        out["categories"] = list(resource.categories)
    return out


def _subresource(resource: Resource, name: str) -> Document:
    out: Document = {
        "name": f"{resource.plural}/{name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": ["get", "patch", "update"],
    }
    if name == "scale":
        out.update(group="autoscaling", version="v1", kind="Scale")
    return out


def aggregated(cluster: SimCluster, *, core: bool) -> Document:
    """/api or /apis in one document, apidiscovery.k8s.io/v2."""
    items = []
    for name, versions in _groups(cluster).items():
        if (name == "") is core:
            items.append(
                {
                    "metadata": {"name": name, "creationTimestamp": None} if name else {},
                    "versions": [
                        {
                            "version": version_name,
                            "resources": [_aggregated_resource(r) for r in found],
                            "freshness": "Current",
                        }
                        for version_name, found in versions.items()
                    ],
                }
            )
    if not core:
        items.extend(_stale(cluster))
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def _stale(cluster: SimCluster) -> Iterable[Document]:
    for name, version_name in unavailable(cluster):
        yield {
            "metadata": {"name": name},
            "versions": [{"version": version_name, "resources": [], "freshness": "Stale"}],
        }


def _aggregated_resource(resource: Resource) -> Document:
    def kind(group_name: str, version_name: str, name: str) -> Document:
        return {"group": group_name, "version": version_name, "kind": name}

    mine = kind(resource.group, resource.version, resource.kind)
    subresources = []
    for name in resource.subresources:
        response = kind("autoscaling", "v1", "Scale") if name == "scale" else mine
        subresources.append(
            {"subresource": name, "responseKind": response, "verbs": ["get", "patch", "update"]}
        )
    out: Document = {
        "resource": resource.plural,
        "responseKind": mine,
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(VERBS),
    }
    if resource.short:
        out["shortNames"] = list(resource.short)
    if resource.categories:
        out["categories"] = list(resource.categories)
    if subresources:
        out["subresources"] = subresources
    return out


def unavailable(cluster: SimCluster) -> list[tuple[str, str]]:
    """Groups and versions that an APIService names and nothing serves: their requests fail."""
    out = []
    for stored in cluster.store.table(("apiregistration.k8s.io", "apiservices")).values():
        spec = stored.item.get("spec") or {}
        name = (str(spec.get("group", "")), str(spec.get("version", "")))
        if spec.get("service") and name not in cluster.resources():
            out.append(name)
    return sorted(out)
