"""The workload: applications of four objects, and the bare loop that applies the same."""

from __future__ import annotations

import time
from typing import Any

import aiohttp
import anyio
import orjson
import yaml

from benchmarks.support.places import Place

OBJECTS = 4
"""In each application: a Deployment without replicas, a ServiceAccount, a Service, an Ingress."""
WIDTH = 16
"""Requests in flight: as many as the engine sends to one cluster."""

_APPLY = {"fieldManager": "bare", "force": "true"}
_PATHS = {
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts/{}",
    "Service": "/api/v1/namespaces/{}/services/{}",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments/{}",
    "Ingress": "/apis/networking.k8s.io/v1/namespaces/{}/ingresses/{}",
}


def objects(name: str) -> list[dict[str, Any]]:
    """Return an application's four objects, without a namespace."""
    labels = {"app.kubernetes.io/name": name}
    metadata = {"name": name, "labels": labels}
    container = {
        "name": "web",
        "image": f"registry.example.com/shop/{name}:1.4.2",
        "ports": [{"name": "http", "containerPort": 8080}],
        "env": [{"name": "LOG_LEVEL", "value": "info"}],
        "resources": {
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"memory": "128Mi"},
        },
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 5},
    }
    rule = {
        "host": f"{name}.example.com",
        "http": {
            "paths": [
                {
                    "path": "/",
                    "pathType": "Prefix",
                    "backend": {"service": {"name": name, "port": {"name": "http"}}},
                }
            ]
        },
    }
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"serviceAccountName": name, "containers": [container]},
                },
            },
        },
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {
                "selector": labels,
                "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
            },
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": metadata,
            "spec": {"rules": [rule]},
        },
    ]


def files(names: list[str]) -> dict[str, str]:
    """Return a repository's files: a folder an application, a YAML file an object."""
    return {
        f"apps/{name}/{each['kind'].lower()}.yaml": yaml.safe_dump(each, sort_keys=False)
        for name in names
        for each in objects(name)
    }


async def make_namespace(place: Place, name: str) -> None:
    """Create a namespace; raises aiohttp.ClientResponseError where it is refused."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    url = f"{place.server}/api/v1/namespaces"
    async with place.session() as session, session.post(url, json=body) as answer:
        answer.raise_for_status()


def url_of(place: Place, namespace: str, kind: str, name: str) -> str:
    """Return the address of one of an application's objects."""
    return place.server + _PATHS[kind].format(namespace, name)


def applies(place: Place, namespace: str, names: list[str]) -> list[tuple[str, bytes]]:
    """Return address and body of every object's apply, marked as the engine marks its own."""
    return [
        (url_of(place, namespace, each["kind"], name), _marked(each, namespace))
        for name in names
        for each in objects(name)
    ]


async def bare_apply(session: aiohttp.ClientSession, url: str, body: bytes) -> None:
    """Apply one object server-side; raises aiohttp.ClientResponseError where it is refused."""
    headers = {"Content-Type": "application/apply-patch+yaml", "Accept": "application/json"}
    async with session.patch(url, data=body, params=_APPLY, headers=headers) as answer:
        answer.raise_for_status()
        await answer.read()


async def bare_loop(place: Place, namespace: str, names: list[str]) -> float:
    """Apply the applications' objects, and nothing else; return applies a second.

    The bodies carry a label and an annotation as the engine's do, and are encoded beforehand.
    """
    prepared = applies(place, namespace, names)
    waiting = iter(prepared)
    async with place.session() as session:

        async def worker() -> None:
            for url, body in waiting:
                await bare_apply(session, url, body)

        started = time.perf_counter()
        async with anyio.create_task_group() as group:
            for _ in range(WIDTH):
                group.start_soon(worker)
        return len(prepared) / (time.perf_counter() - started)


def _marked(body: dict[str, Any], namespace: str) -> bytes:
    metadata = body["metadata"]
    labels = {**metadata["labels"], "trueup.dev/owner": "0123456789abcdef"}
    owner = f"{'0' * 32}/default/{metadata['name']}"
    marked = {
        **metadata,
        "namespace": namespace,
        "labels": labels,
        "annotations": {"bench.example.com/owner": owner},
    }
    return orjson.dumps(body | {"metadata": marked})
