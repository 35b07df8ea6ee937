"""Objects of ours as a server has them, and what a watch brings of them: made here, in memory."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from benchmarks.support.shops import objects
from engine.clusters.look import Eyes
from engine.objects.kept import Kept, freeze
from engine.objects.ownership import MANAGER, stamp
from engine.objects.redact import Redactor
from engine.ports import Owner
from engine.simulator.cluster import SimCluster
from engine.simulator.operations import Call, apply, create
from events.vocabulary import ObjectRef

NAMESPACE = "bench"
REDACTOR = Redactor(b"0123456789abcdef0123456789abcdef", "bench")
EYES = Eyes(REDACTOR)
_SERVED = {
    "Deployment": ("apps", "v1", "deployments"),
    "ServiceAccount": ("", "v1", "serviceaccounts"),
    "Service": ("", "v1", "services"),
    "Ingress": ("networking.k8s.io", "v1", "ingresses"),
}
_REPLICAS = 3

Object = dict[str, Any]


class Known(NamedTuple):
    """An object as the server answered when it was applied, and what was kept of it."""

    ref: ObjectRef
    live: Object
    kept: Kept


def known(log_id: str, count: int) -> list[Known]:
    """Apply so many objects, four an application, to a simulated cluster in this process.

    Each then has the status that its controller writes, and the controller's managed fields.
    """
    cluster = SimCluster("bench")
    namespaces = cluster.served("", "v1", "namespaces")
    assert namespaces is not None
    create(cluster, namespaces, "", _namespace(), Call())
    found: list[Known] = []
    for number in itertools.count():
        name = f"shop-{number:05}"
        owner = Owner(log_id, "default", name)
        for body in objects(name):
            if len(found) == count:
                return found
            if body["kind"] == "Deployment":
                body["spec"]["replicas"] = _REPLICAS
            found.append(_applied(cluster, stamp(body, owner)))
    raise AssertionError


def touched(live: Object, turn: int, version: int) -> Object:
    """Return an object with another status, and managed fields as their writer leaves them.

    Nothing that counts is another: the controller has looked at it once more.
    """
    # As decoded, so that it shares no text with what it is compared with.
    live = orjson.loads(orjson.dumps(live))
    metadata, time = live["metadata"], _time(turn)
    metadata["resourceVersion"] = str(version)
    for entry in metadata["managedFields"]:
        if entry["manager"] != MANAGER:
            entry["time"] = time
    status = live.get("status", {})
    for condition in status.get("conditions", ()):
        condition["lastUpdateTime"] = time
    for address in status.get("loadBalancer", {}).get("ingress", ()):
        address["ip"] = f"192.0.2.{turn % 250 + 1}"
    return live


def edited(live: Object, turn: int, version: int) -> Object:
    """Return an object one of whose fields of ours somebody else has changed."""
    live = touched(live, turn, version)
    name = "app.kubernetes.io/name"
    live["metadata"]["labels"][name] = f"edited-{turn}"
    for entry in live["metadata"]["managedFields"]:
        if entry["manager"] == MANAGER:
            del entry["fieldsV1"]["f:metadata"]["f:labels"][f"f:{name}"]
    fields: Object = {"f:metadata": {"f:labels": {f"f:{name}": {}}}}
    live["metadata"]["managedFields"].append(
        _entry("kubectl-edit", live["apiVersion"], fields, _time(turn))
    )
    return live


def updates(found: list[Known], count: int, one_in: int) -> Iterator[tuple[Known, Object]]:
    """Yield so many updates, object after object; each `one_in`th changes what is ours."""
    for turn, of in zip(range(count), itertools.cycle(found), strict=False):
        change = edited if turn % one_in == one_in - 1 else touched
        yield of, change(of.live, turn, 1_000_000 + turn)


def line(live: Object) -> bytes:
    """Return an update as a watch brings it."""
    return orjson.dumps({"type": "MODIFIED", "object": live})


def _applied(cluster: SimCluster, body: Object) -> Known:
    kind, name = body["kind"], body["metadata"]["name"]
    served = cluster.served(*_SERVED[kind])
    assert served is not None
    call = Call(manager=MANAGER, force=True)
    live = copy.deepcopy(apply(cluster, served, NAMESPACE, name, body, call).item)
    kept = freeze(live, sent=body)
    assert kept is not None
    _report(live)
    return Known(ObjectRef(live["apiVersion"], kind, NAMESPACE, name), live, kept)


def _report(live: Object) -> None:
    """Write what a controller writes about an object of this kind."""
    if live["kind"] == "Deployment":
        status: Object = {
            "observedGeneration": live["metadata"]["generation"],
            **dict.fromkeys(
                ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), _REPLICAS
            ),
            "conditions": [
                _condition("Available", "MinimumReplicasAvailable"),
                _condition("Progressing", "NewReplicaSetAvailable"),
            ],
        }
    elif live["kind"] in ("Service", "Ingress"):
        status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    else:
        return
    live["status"] = status
    entry = _entry("kube-controller-manager", live["apiVersion"], _status_fields(status), _time(0))
    live["metadata"]["managedFields"].append({**entry, "subresource": "status"})


def _status_fields(status: Object) -> Object:
    fields: Object = {f"f:{name}": {} for name in status}
    if "conditions" in status:
        fields["f:conditions"] = {".": {}} | {
            f'k:{{"type":"{condition["type"]}"}}': {".": {}}
            | {f"f:{name}": {} for name in condition}
            for condition in status["conditions"]
        }
    return {"f:status": fields}


def _entry(manager: str, api_version: str, fields: Object, time: str) -> Object:
    return {
        "manager": manager,
        "operation": "Update",
        "apiVersion": api_version,
        "time": time,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }


def _condition(kind: str, reason: str) -> Object:
    return {
        "type": kind,
        "status": "True",
        "lastUpdateTime": _time(0),
        "lastTransitionTime": _time(0),
        "reason": reason,
        "message": f"{kind} as the controller sees it, in words that fill a line.",
    }


def _namespace() -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}


def _time(turn: int) -> str:
    return f"2026-11-01T{turn // 3600 % 24:02}:{turn // 60 % 60:02}:{turn % 60:02}Z"
