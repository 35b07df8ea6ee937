"""Answers in the forms that clients ask for beside plain objects: tables and bare metadata."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from engine.simulator.resources import Resource

Object = dict[str, Any]
Cell = Callable[[Object], Any]


def wanted(accept: str) -> str:
    """Which form an Accept header asks for first: "table", "metadata" or "" for plain JSON."""
    for choice in accept.split(","):
        parts = {p.strip() for p in choice.split(";")}
        if "application/json" in parts or "application/*" in parts or "*/*" in parts:
            if "as=Table" in parts:
                return "table"
            if parts & {"as=PartialObjectMetadata", "as=PartialObjectMetadataList"}:
                return "metadata"
            return ""
    return ""


def bare(item: Object) -> Object:
    """An object's metadata alone."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": item["metadata"],
    }


def table(resource: Resource, items: list[Object], metadata: Object, now: datetime) -> Object:
    """The table that kubectl prints."""
    columns: list[tuple[str, Cell]] = [("Name", _name), *_COLUMNS.get(resource.kind, [])]
    definitions = [
        {"name": name, "type": "string", "format": "name" if name == "Name" else "", "priority": 0}
        for name, _ in columns
    ]
    definitions.append({"name": "Age", "type": "string", "format": "", "priority": 0})
    rows = [
        {
            "cells": [*(str(cell(item)) for _, cell in columns), _age(item, now)],
            "object": bare(item),
        }
        for item in items
    ]
    for definition in definitions:
        definition["description"] = ""
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": rows,
    }


def _name(item: Object) -> Any:
    return item["metadata"]["name"]


def _age(item: Object, now: datetime) -> str:
    made = datetime.fromisoformat(item["metadata"]["creationTimestamp"])
    seconds = max(0, int((now - made).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _status(name: str) -> Cell:
    return lambda item: (item.get("status") or {}).get(name, 0)


def _spec(name: str, default: Any = "<none>") -> Cell:
    return lambda item: (item.get("spec") or {}).get(name, default)


def _ready(item: Object) -> str:
    status, spec = item.get("status") or {}, item.get("spec") or {}
    return f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"


def _ports(item: Object) -> str:
    ports = (item.get("spec") or {}).get("ports") or []
    return ",".join(f"{p['port']}/{p.get('protocol', 'TCP')}" for p in ports) or "<none>"


_COLUMNS: dict[str, list[tuple[str, Cell]]] = {
    "ConfigMap": [("Data", lambda item: len(item.get("data") or {}))],
    "DaemonSet": [
        ("Desired", _status("desiredNumberScheduled")),
        ("Ready", _status("numberReady")),
        ("Up-to-date", _status("updatedNumberScheduled")),
    ],
    "Deployment": [
        ("Ready", _ready),
        ("Up-to-date", _status("updatedReplicas")),
        ("Available", _status("availableReplicas")),
    ],
    "Job": [
        ("Completions", lambda item: f"{_status('succeeded')(item)}/{_spec('completions')(item)}")
    ],
    "Namespace": [("Status", _status("phase"))],
    "Secret": [
        ("Type", lambda item: item.get("type")),
        ("Data", lambda item: len(item.get("data") or {})),
    ],
    "Service": [
        ("Type", _spec("type")),
        ("Cluster-IP", _spec("clusterIP")),
        ("Port(s)", _ports),
    ],
    "StatefulSet": [("Ready", _ready)],
}
