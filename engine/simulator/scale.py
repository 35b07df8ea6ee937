"""The scale subresource: reading and writing `spec.replicas` as autoscaling/v1 Scale."""

from __future__ import annotations

from typing import Any

from engine.simulator import errors, schema
from engine.simulator.resources import Resource

TYPE = schema.scale


def read(resource: Resource, item: dict[str, Any]) -> dict[str, Any]:
    """The Scale of an object."""
    metadata = item["metadata"]
    spec, status = item.get("spec") or {}, item.get("status") or {}
    selector = spec.get("selector") or {}
    pairs = selector if resource.kind == "ReplicationController" else selector.get("matchLabels")
    out_status: dict[str, Any] = {"replicas": status.get("replicas", 0)}
    if pairs:
        out_status["selector"] = ",".join(f"{k}={v}" for k, v in sorted(pairs.items()))
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": {"replicas": spec["replicas"]} if spec.get("replicas") else {},
        "status": out_status,
    }


def write(resource: Resource, item: dict[str, Any], body: Any) -> None:
    """Sets the replicas of an object from a Scale; changes the object. Raises 400 or 422."""
    if not isinstance(body, dict) or not isinstance(body.get("spec") or {}, dict):
        raise errors.bad_request("the body of the request is no Scale")
    replicas = (body.get("spec") or {}).get("replicas", 0)
    if isinstance(replicas, bool) or not isinstance(replicas, int):
        raise errors.bad_request(
            'Scale in version "v1" cannot be handled as a Scale: spec.replicas is no integer'
        )
    if replicas < 0:
        causes = [
            errors.invalid_value("spec.replicas", replicas, "must be greater than or equal to 0")
        ]
        raise errors.invalid("Scale", "autoscaling", str(item["metadata"]["name"]), causes)
    item["spec"]["replicas"] = replicas
