"""An application to tamper with: a little of everything, each field there for a reason."""

from __future__ import annotations

import base64
from typing import Any

from tests.e2e.product import kubernetes

SECRET = "canary-5f0e-declared"
"""The Secret's declared value; it must be nowhere but in Git and in the cluster."""
OTHER_SECRET = "canary-5f0e-tampered"
KIND, PLURAL = "Parcel", "parcels"


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def group(namespace: str) -> str:
    """Return the API group of the custom resource: one for each test's namespace."""
    return f"{namespace}.example.com"


def definition(namespace: str) -> dict[str, Any]:
    """Return a CustomResourceDefinition whose schema has a default."""
    spec = {
        "type": "object",
        "properties": {
            "size": {"type": "string"},
            "weight": {"type": "integer"},
            "carrier": {"type": "string", "default": "post"},
        },
    }
    schema = {"type": "object", "properties": {"spec": spec}}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
    }
    return kubernetes(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        f"{PLURAL}.{group(namespace)}",
        spec={
            "group": group(namespace),
            "scope": "Namespaced",
            "names": {"plural": PLURAL, "singular": "parcel", "kind": KIND},
            "versions": [version],
        },
    )


def deployment(name: str, **spec: Any) -> dict[str, Any]:
    """Return a Deployment with two containers; without `replicas` where none are given."""
    labels = {"app": name}
    web = {
        "name": "web",
        "image": "registry.example.com/web:1.0",
        "ports": [{"containerPort": 8080, "name": "http"}],
        "env": [{"name": "LEVEL", "value": "info"}, {"name": "REGION", "value": "eu"}],
        "resources": {"limits": {"cpu": "500m", "memory": "128Mi"}},
    }
    side = {"name": "side", "image": "registry.example.com/side:1.0"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [web, side]}}
    declared = {**spec, "selector": {"matchLabels": labels}, "template": template}
    found = kubernetes("apps/v1", "Deployment", name, spec=declared)
    found["metadata"]["labels"] = {"tier": "front"}
    found["metadata"]["annotations"] = {"example.com/team": "shop"}
    return found


def service(name: str) -> dict[str, Any]:
    """Return a Service, of whose fields the server fills in most."""
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    return kubernetes("v1", "Service", name, spec={"selector": {"app": name}, "ports": ports})


def objects(namespace: str) -> list[dict[str, Any]]:
    """Return the whole application; nothing names a namespace."""
    settings = {"colour": "blue", "shape": "round", "text": "one\ntwo\n"}
    return [
        definition(namespace),
        deployment("web", replicas=0),
        deployment("loose"),
        service("web"),
        kubernetes("v1", "ConfigMap", "settings", data=settings),
        kubernetes("v1", "Secret", "login", stringData={"password": SECRET, "user": "shop"}),
        kubernetes("v1", "ServiceAccount", "web"),
        kubernetes(f"{group(namespace)}/v1", KIND, "one", spec={"size": "small", "weight": 3}),
    ]
