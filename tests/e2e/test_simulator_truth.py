"""The same requests to the simulator and to a real API server: the same answers.

Word by word where the API server is of the release that the simulator imitates. What they differ
in is listed in docs/simulator.md.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from engine.simulator.server import Simulator
from tests.e2e.harness import ControlPlane
from tests.e2e.product import configmap, kubernetes

pytestmark = pytest.mark.anyio

APPLY, MERGE, JSON = (
    "application/apply-patch+yaml",
    "application/merge-patch+json",
    "application/json-patch+json",
)
PLURALS = {
    "ConfigMap": "/api/v1/namespaces/{ns}/configmaps",
    "Secret": "/api/v1/namespaces/{ns}/secrets",
    "Service": "/api/v1/namespaces/{ns}/services",
    "Deployment": "/apis/apps/v1/namespaces/{ns}/deployments",
    "StatefulSet": "/apis/apps/v1/namespaces/{ns}/statefulsets",
    "DaemonSet": "/apis/apps/v1/namespaces/{ns}/daemonsets",
    "Job": "/apis/batch/v1/namespaces/{ns}/jobs",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}/rolebindings",
    "PersistentVolumeClaim": "/api/v1/namespaces/{ns}/persistentvolumeclaims",
    "Namespace": "/api/v1/namespaces",
    "Widget": "/apis/example.org/v1/namespaces/{ns}/widgets",
}


@dataclass(frozen=True)
class Deed:
    """One request, as the product or a person with kubectl would send it."""

    method: str
    path: str
    body: Any = None
    content_type: str = "application/json"
    params: dict[str, str] = field(default_factory=dict)


def apply(body: dict[str, Any], manager: str = "trueup", *, force: bool = False) -> Deed:
    """Apply server-side."""
    place = f"{PLURALS[body['kind']]}/{body['metadata']['name']}"
    params = {"fieldManager": manager, "force": str(force).lower()}
    return Deed("PATCH", place, body, APPLY, params)


def patch(kind: str, name: str, body: Any, content_type: str = MERGE) -> Deed:
    """Patch as kubectl does."""
    params = {"fieldManager": "kubectl-patch"}
    return Deed("PATCH", f"{PLURALS[kind]}/{name}", body, content_type, params)


def delete(kind: str, name: str, **options: Any) -> Deed:
    """Delete."""
    body = {"apiVersion": "v1", "kind": "DeleteOptions", **options}
    return Deed("DELETE", f"{PLURALS[kind]}/{name}", body)


def workload(kind: str, label: str = "a", **spec: Any) -> dict[str, Any]:
    """Return a workload whose pods have one label."""
    container = {"name": "c", "image": "example.org/web:1"}
    template = {"metadata": {"labels": {"app": label}}, "spec": {"containers": [container]}}
    selector = {"matchLabels": {"app": label}}
    return kubernetes(
        "apps/v1", kind, "w", spec={"selector": selector, "template": template, **spec}
    )


def job(image: str) -> dict[str, Any]:
    """Return a suspended Job."""
    pod = {"containers": [{"name": "c", "image": image}], "restartPolicy": "Never"}
    spec = {"suspend": True, "template": {"spec": pod}}
    return kubernetes("batch/v1", "Job", "j", spec=spec)


def binding(role: str) -> dict[str, Any]:
    """Return a RoleBinding."""
    group = "rbac.authorization.k8s.io"
    return kubernetes(
        f"{group}/v1",
        "RoleBinding",
        "b",
        roleRef={"apiGroup": group, "kind": "Role", "name": role},
        subjects=[{"apiGroup": group, "kind": "User", "name": "jane"}],
    )


def claim(size: str) -> dict[str, Any]:
    """Return a claim that no volume satisfies."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    return kubernetes("v1", "PersistentVolumeClaim", "p", spec=spec)


def service(**spec: Any) -> dict[str, Any]:
    """Return a Service."""
    return kubernetes("v1", "Service", "s", spec={"ports": [{"port": 80}], **spec})


def frozen(kind: str, **rest: Any) -> dict[str, Any]:
    """Return an immutable ConfigMap or Secret."""
    return kubernetes("v1", kind, "m", immutable=True, **rest)


def odd(name: str = "c", **metadata: Any) -> dict[str, Any]:
    """Return a ConfigMap with metadata of all sorts."""
    return kubernetes("v1", "ConfigMap", name) | {"metadata": {"name": name, **metadata}}


SECRETS = ({"a": "MQ=="}, {"a": "Mg=="})
PORTS = ({"port": 80}, {"port": 80})
CASES: dict[str, list[Deed]] = {
    "immutable ConfigMap": [
        apply(frozen("ConfigMap", data={"a": "1"})),
        apply(frozen("ConfigMap", data={"a": "2"})),
        apply(configmap("m", a="1")),
        patch("ConfigMap", "m", {"immutable": False}),
        patch("ConfigMap", "m", {"metadata": {"labels": {"a": "b"}}}),
    ],
    "immutable Secret": [
        apply(frozen("Secret", data=SECRETS[0])),
        apply(frozen("Secret", data=SECRETS[1])),
        patch("Secret", "m", {"type": "other"}),
    ],
    "type of a Secret": [
        apply(kubernetes("v1", "Secret", "m", type="Opaque")),
        apply(kubernetes("v1", "Secret", "m", type="other")),
    ],
    "ConfigMap over its limit": [apply(configmap("m", a="x" * 1_100_000))],
    "Secret over its limit": [apply(kubernetes("v1", "Secret", "m", data={"a": "QUFB" * 400_000}))],
    "keys of a ConfigMap": [
        apply(configmap("m", **{key: "1"})) for key in ("a b", "..", "..a", "x" * 254)
    ],
    "keys of a Secret": [apply(kubernetes("v1", "Secret", "m", data={"a b": "MQ=="}))],
    "name": [apply(odd("C_c"))],
    "labels": [
        *(apply(odd(labels={key: "c"})) for key in ("a b", "UPPER/a", "a" * 64, "a/b/c", "/c")),
        *(apply(odd(labels={"a": value})) for value in ("c d", "c" * 64, "-")),
    ],
    "annotations": [
        apply(odd(annotations={"A b": "c"})),
        apply(odd(annotations={"k": "x" * 262_145})),
        apply(odd(annotations={"Key": "any text: ä"})),
    ],
    "finalizers": [
        apply(odd(finalizers=[name])) for name in ("none", "a b/x", "a/b c", "example.org/x")
    ],
    "selector of a Deployment": [
        apply(workload("Deployment", replicas=0)),
        apply(workload("Deployment", "b", replicas=0)),
    ],
    "selector of a DaemonSet": [apply(workload("DaemonSet")), apply(workload("DaemonSet", "b"))],
    "selector that does not select": [
        apply(workload("Deployment", selector={"matchLabels": {"app": "other"}}))
    ],
    "StatefulSet": [
        apply(workload("StatefulSet", replicas=0, serviceName="a")),
        apply(workload("StatefulSet", replicas=0, serviceName="b")),
    ],
    "template of a Job": [apply(job("a")), apply(job("b"))],
    "role of a RoleBinding": [apply(binding("a")), apply(binding("b"))],
    "size of a claim": [apply(claim("2Gi")), apply(claim("1Gi"))],
    "ports of a Service": [apply(service(ports=PORTS)), apply(service(ports=[{"port": 0}]))],
    "address of a Service": [
        apply(service(clusterIP="10.96.7.7")),
        apply(service(clusterIP="10.96.7.8")),
    ],
    "negative replicas": [apply(workload("Deployment", replicas=-1))],
    "type of a field": [
        apply(workload("Deployment", replicas="many")),
        apply(workload("Deployment", replicas=True)),
        apply(workload("Deployment", replicas=[])),
        apply(workload("Deployment", paused="yes")),
        apply(workload("Deployment", paused=1)),
        apply(configmap("m") | {"data": {"a": True}}),
        patch("ConfigMap", "none", {"data": {"a": 1}}),
        apply(configmap("m") | {"data": {"a": 1}}),
        apply(configmap("m") | {"data": []}),
        apply(configmap("m") | {"data": ["a", {"b": True}]}),
        apply(configmap("m") | {"data": "text"}),
        apply(odd(finalizers={"a": 1})),
    ],
    "unknown field": [apply(configmap("m") | {"dta": {}})],
    "conflict": [
        apply(configmap("m", a="1", b="1"), "one"),
        apply(configmap("m", a="2", b="2"), "two"),
        apply(configmap("m", a="2"), "two", force=True),
        apply(configmap("m", a="3", b="1"), "one"),
    ],
    "conflict with an update": [
        apply(configmap("m", a="1"), "one"),
        patch("ConfigMap", "m", {"data": {"a": "2"}}),
        apply(configmap("m", a="1"), "one"),
    ],
    "preconditions": [
        apply(odd(uid="8d7a6c0e-0000-4000-8000-000000000000")),
        apply(odd(resourceVersion="1")),
        apply(odd()),
        apply(odd(uid="8d7a6c0e-0000-4000-8000-000000000000")),
        apply(odd(resourceVersion="1")),
        delete("ConfigMap", "c", preconditions={"uid": "other"}),
        delete("ConfigMap", "c", preconditions={"resourceVersion": "1"}),
        delete("ConfigMap", "c"),
        delete("ConfigMap", "c"),
    ],
    "finalizers of what is being deleted": [
        apply(odd(finalizers=["example.org/x"])),
        delete("ConfigMap", "c"),
        apply(odd(finalizers=["example.org/x", "example.org/y"])),
        patch("ConfigMap", "c", {"metadata": {"finalizers": None}}),
        patch("ConfigMap", "c", {"metadata": {"finalizers": None}}),
    ],
    "no such namespace": [
        Deed(
            "PATCH",
            "/api/v1/namespaces/none-such/configmaps/m",
            configmap("m"),
            APPLY,
            {"fieldManager": "trueup"},
        ),
    ],
    "no such kind": [Deed("GET", "/api/v1/namespaces/{ns}/nones")],
    "without a manager": [
        Deed("PATCH", PLURALS["ConfigMap"] + "/m", configmap("m"), APPLY),
        Deed("PATCH", PLURALS["ConfigMap"] + "/m", configmap("m"), "text/plain"),
    ],
    "another name than in the path": [
        Deed(
            "PATCH",
            PLURALS["ConfigMap"] + "/other",
            configmap("m"),
            APPLY,
            {"fieldManager": "trueup"},
        ),
    ],
    "resource version of a list": [
        Deed("GET", PLURALS["ConfigMap"], params={"resourceVersion": "x"}),
    ],
}


class Servers:
    """A real API server and a simulated one, each with the namespace of a test."""

    def __init__(self, plane: ControlPlane, simulator: Simulator, namespace: str) -> None:
        self._plane, self._simulator, self._namespace = plane, simulator, namespace

    async def real(self, deed: Deed) -> tuple[int, Any]:
        """Send a request to the real one."""
        async with self._plane.session() as session:
            return await self._send(session, "", deed)

    async def simulated(self, deed: Deed) -> tuple[int, Any]:
        """Send a request to the simulated one."""
        async with aiohttp.ClientSession(self._simulator.url) as session:
            return await self._send(session, "/c/sim", deed)

    async def of_one_release(self) -> bool:
        """Whether both are of the same minor version."""
        version = Deed("GET", "/version")
        (_, real), (_, simulated) = await self.real(version), await self.simulated(version)
        return bool((real["major"], real["minor"]) == (simulated["major"], simulated["minor"]))

    async def _send(self, session: aiohttp.ClientSession, base: str, deed: Deed) -> tuple[int, Any]:
        path = base + deed.path.replace("{ns}", self._namespace)
        async with session.request(
            deed.method,
            path,
            params=deed.params,
            json=deed.body,
            headers={"Content-Type": deed.content_type},
        ) as answer:
            return answer.status, await answer.json(content_type=None)


@pytest.fixture
async def servers(control_plane: ControlPlane, namespace: str) -> AsyncIterator[Servers]:
    async with Simulator(["sim"]) as simulator:
        made = Servers(control_plane, simulator, namespace)
        space = kubernetes("v1", "Namespace", namespace)
        await made.simulated(Deed("POST", "/api/v1/namespaces", space))
        yield made


@pytest.mark.parametrize("case", CASES)
async def test_a_request_is_answered_as_by_a_real_api_server(case: str, servers: Servers) -> None:
    of_one_release = await servers.of_one_release()
    for step, deed in enumerate(CASES[case], 1):
        real, simulated = await servers.real(deed), await servers.simulated(deed)
        expected, found = (_gist(*answer, words=of_one_release) for answer in (real, simulated))
        assert (step, *found) == (step, *expected)


def _gist(code: int, body: Any, *, words: bool) -> tuple[Any, ...]:
    """Return what must be the same: for a refusal all of it, but for ids and versions.

    Other releases have other `words`.
    """
    if not words:
        return code, body.get("reason")
    if code < 400:
        managed = body.get("metadata", {}).get("managedFields") or []
        owners = sorted((each["manager"], str(each["fieldsV1"])) for each in managed)
        return code, owners
    causes = (body.get("details") or {}).get("causes") or ()
    found = [(each.get("reason"), each.get("field")) for each in causes]
    message = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "UID", body["message"])
    message = re.sub(r"in record \(\d+\)", "in record (VERSION)", message)
    # What a whole pod template or specification looks like in Go is not imitated.
    message = re.sub(r"(?s)(template.spec: Invalid value: |bound claims).*", r"\1", message)
    return code, body.get("reason"), message, found
