"""Stand-ins for the controllers of a cluster: they make workloads ready and clean up.

One task serves all clusters. What is due is kept in a heap, so idle clusters cost nothing.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engine.simulator import operations
from engine.simulator.cluster import Object, Served, SimCluster
from engine.simulator.errors import ApiError
from engine.simulator.operations import Call
from engine.simulator.resources import Resource
from engine.simulator.store import Stored

_MANAGER = "kube-controller-manager"
Work = Callable[[SimCluster, Served, Stored], None]


@dataclass(order=True, slots=True)
class _Due:
    at: float
    number: int
    cluster: SimCluster = field(compare=False)
    key: tuple[str, str] = field(compare=False)
    name: tuple[str, str] = field(compare=False)
    work: Work = field(compare=False)


class Controllers:
    """Watches every write of the clusters it is given and does what is due a moment later."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heap: list[_Due] = []
        self._waiting: set[tuple[int, tuple[str, str], tuple[str, str], Work]] = set()
        self._count = 0
        self._wake = asyncio.Event()
        self.failures: list[str] = []

    def adopt(self, cluster: SimCluster) -> None:
        """Looks after a cluster from now on."""
        cluster.listeners.append(self._written)

    @property
    def idle(self) -> bool:
        """Whether nothing is due any more."""
        return not self._heap

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            self._wake.clear()
            now = self._clock()
            while self._heap and self._heap[0].at <= now:
                self._do(heapq.heappop(self._heap))
                # Lets requests through between two pieces of work.
                await asyncio.sleep(0)
            wait = self._heap[0].at - self._clock() if self._heap else None
            try:
                await asyncio.wait_for(self._wake.wait(), wait)
            except TimeoutError:
                continue

    def work_off(self) -> None:
        """Does everything that is due now or later at once, for tests without waiting."""
        while self._heap:
            self._do(heapq.heappop(self._heap))

    def _do(self, due: _Due) -> None:
        self._waiting.discard((id(due.cluster), due.key, due.name, due.work))
        stored = due.cluster.store.get(due.key, due.name)
        served = due.cluster.served_by_key(due.key)
        if stored is None or served is None:
            return
        try:
            due.work(due.cluster, served, stored)
        except ApiError as error:
            # A controller that meets a refusal tries again when the object changes next.
            self.failures.append(f"{due.cluster.name} {due.key} {due.name}: {error}")
            del self.failures[:-100]

    def _later(
        self,
        cluster: SimCluster,
        resource: Resource,
        name: tuple[str, str],
        work: Work,
        wait: float,
    ) -> None:
        entry = (id(cluster), resource.key, name, work)
        if entry in self._waiting:
            return
        self._waiting.add(entry)
        self._count += 1
        due = _Due(self._clock() + wait, self._count, cluster, resource.key, name, work)
        heapq.heappush(self._heap, due)
        self._wake.set()

    def _written(self, cluster: SimCluster, resource: Resource, namespace: str, name: str) -> None:
        stored = cluster.store.get(resource.key, (namespace, name))
        if stored is None:
            self._removed(cluster, resource, namespace, name)
            return
        at = (namespace, name)
        metadata = stored.item["metadata"]
        if "deletionTimestamp" in metadata:
            work = _ENDINGS.get(resource.kind, _end)
            self._later(cluster, resource, at, work, cluster.delays.namespace)
            return
        work_ready = _READY.get((resource.group, resource.kind))
        if work_ready is not None and _unobserved(stored.item):
            self._later(cluster, resource, at, work_ready, cluster.delays.ready)
        if resource.kind == "CustomResourceDefinition":
            cluster_delay = cluster.delays.established
            if not _condition(stored.item, "Established"):
                self._later(cluster, resource, at, _establish, cluster_delay)
            else:
                cluster.define(stored.item)
        if resource.kind == "Namespace" and not resource.group:
            self._later(cluster, resource, at, _furnish, cluster.delays.namespace)

    def _removed(self, cluster: SimCluster, resource: Resource, namespace: str, name: str) -> None:
        """Collects what the removed object owned, and ends owners that waited for it."""
        for key in cluster.store.keys():  # noqa: SIM118 - a method of the store
            served = cluster.served_by_key(key)
            if served is None:
                continue
            for at, stored in list(cluster.store.table(key).items()):
                metadata = stored.item["metadata"]
                owners = metadata.get("ownerReferences") or []
                if any(_is_owner(o, resource, name) for o in owners) and not any(
                    _alive(cluster, owner, at[0]) for owner in owners
                ):
                    self._later(cluster, served.resource, at, _collect, cluster.delays.namespace)
                if "deletionTimestamp" in metadata and "foregroundDeletion" in (
                    metadata.get("finalizers") or []
                ):
                    self._later(cluster, served.resource, at, _end, cluster.delays.namespace)
        found = cluster.store.get(("", "namespaces"), ("", namespace)) if namespace else None
        if found is not None and "deletionTimestamp" in found.item["metadata"]:
            served = cluster.served("", "v1", "namespaces")
            if served is not None:
                self._later(
                    cluster,
                    served.resource,
                    ("", namespace),
                    _end_namespace,
                    cluster.delays.namespace,
                )


def _is_owner(reference: Object, resource: Resource, name: str) -> bool:
    return reference.get("kind") == resource.kind and reference.get("name") == name


def _alive(cluster: SimCluster, reference: Object, namespace: str) -> bool:
    group, _, version = str(reference.get("apiVersion", "")).rpartition("/")
    for resource in cluster.resources().get((group, version), []):
        if resource.kind == reference.get("kind"):
            place = namespace if resource.namespaced else ""
            found = cluster.store.get(resource.key, (place, str(reference.get("name"))))
            return found is not None and found.item["metadata"]["uid"] == reference.get("uid")
    return False


def _unobserved(item: Object) -> bool:
    status = item.get("status") or {}
    generation = item["metadata"].get("generation")
    return generation is None or status.get("observedGeneration") != generation


def _condition(item: Object, name: str) -> bool:
    conditions = (item.get("status") or {}).get("conditions") or []
    return any(c.get("type") == name and c.get("status") == "True" for c in conditions)


def _report(
    cluster: SimCluster, served: Served, stored: Stored, status: Object, manager: str = _MANAGER
) -> None:
    """Writes a status as the controller manager does, through the status subresource."""
    item = {**stored.item, "status": status}
    _replace(cluster, served, item, "status", manager)


def _replace(
    cluster: SimCluster,
    served: Served,
    item: Object,
    subresource: str = "",
    manager: str = _MANAGER,
) -> None:
    metadata = item["metadata"]
    call = Call(manager=manager, subresource=subresource, field_validation="Ignore")
    place = str(metadata.get("namespace") or "")
    item = {**item, "apiVersion": served.resource.api_version}
    operations.replace(cluster, served, place, str(metadata["name"]), item, call)


def _conditions(now: str, **found: str) -> list[Object]:
    return [
        {
            "type": name,
            "status": "True",
            "lastUpdateTime": now,
            "lastTransitionTime": now,
            "reason": reason,
            "message": "",
        }
        for name, reason in found.items()
    ]


def _deployment(cluster: SimCluster, served: Served, stored: Stored) -> None:
    item = stored.item
    replicas = item["spec"].get("replicas", 1)
    status: Object = {
        "observedGeneration": item["metadata"]["generation"],
        "conditions": _conditions(
            cluster.now(),
            Available="MinimumReplicasAvailable",
            Progressing="NewReplicaSetAvailable",
        ),
    }
    if replicas:
        for name in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"):
            status[name] = replicas
    metadata = dict(item["metadata"])
    annotations = dict(metadata.get("annotations") or {})
    annotations.setdefault("deployment.kubernetes.io/revision", "1")
    metadata["annotations"] = annotations
    _report(cluster, served, Stored({**item, "metadata": metadata}), status)


def _stateful_set(cluster: SimCluster, served: Served, stored: Stored) -> None:
    item = stored.item
    replicas = item["spec"].get("replicas", 1)
    generation = item["metadata"]["generation"]
    revision = f"{item['metadata']['name']}-{generation:010x}"
    status = {
        "observedGeneration": generation,
        "replicas": replicas,
        "readyReplicas": replicas,
        "availableReplicas": replicas,
        "currentReplicas": replicas,
        "updatedReplicas": replicas,
        "currentRevision": revision,
        "updateRevision": revision,
        "collisionCount": 0,
    }
    _report(cluster, served, stored, status)


def _daemon_set(cluster: SimCluster, served: Served, stored: Stored) -> None:
    names = (
        "currentNumberScheduled",
        "desiredNumberScheduled",
        "numberAvailable",
        "numberReady",
        "updatedNumberScheduled",
    )
    status: Object = dict.fromkeys(names, 1)
    status["numberMisscheduled"] = 0
    status["observedGeneration"] = stored.item["metadata"]["generation"]
    _report(cluster, served, stored, status)


def _replica_set(cluster: SimCluster, served: Served, stored: Stored) -> None:
    replicas = stored.item["spec"].get("replicas", 1)
    status: Object = {"observedGeneration": stored.item["metadata"]["generation"]}
    for name in ("replicas", "readyReplicas", "availableReplicas", "fullyLabeledReplicas"):
        status[name] = replicas
    _report(cluster, served, stored, status)


def _job(cluster: SimCluster, served: Served, stored: Stored) -> None:
    if _condition(stored.item, "Complete") or stored.item["spec"].get("suspend"):
        return
    now = cluster.now()
    status = {
        "startTime": now,
        "completionTime": now,
        "succeeded": stored.item["spec"].get("completions", 1),
        "ready": 0,
        "terminating": 0,
        "conditions": [
            {
                "type": name,
                "status": "True",
                "lastProbeTime": now,
                "lastTransitionTime": now,
                "reason": "CompletionsReached",
                "message": "Reached expected number of succeeded pods",
            }
            for name in ("SuccessCriteriaMet", "Complete")
        ],
    }
    _report(cluster, served, stored, status)


def _pod(cluster: SimCluster, served: Served, stored: Stored) -> None:
    if (stored.item.get("status") or {}).get("phase") == "Running":
        return
    status = {"phase": "Running", "conditions": _conditions(cluster.now(), Ready="")}
    _report(cluster, served, stored, status)


def _claim(cluster: SimCluster, served: Served, stored: Stored) -> None:
    if (stored.item.get("status") or {}).get("phase") == "Bound":
        return
    spec = stored.item["spec"]
    status = {
        "phase": "Bound",
        "accessModes": spec.get("accessModes") or [],
        "capacity": (spec.get("resources") or {}).get("requests") or {},
    }
    _report(cluster, served, stored, status)


def _budget(cluster: SimCluster, served: Served, stored: Stored) -> None:
    generation = stored.item["metadata"]["generation"]
    condition = {
        "type": "DisruptionAllowed",
        "status": "True",
        "observedGeneration": generation,
        "lastTransitionTime": cluster.now(),
        "reason": "SufficientPods",
        "message": "",
    }
    numbers = {"currentHealthy": 1, "desiredHealthy": 0, "disruptionsAllowed": 1, "expectedPods": 1}
    status = {"observedGeneration": generation, "conditions": [condition], **numbers}
    _report(cluster, served, stored, status)


def _autoscaler(cluster: SimCluster, served: Served, stored: Stored) -> None:
    replicas = stored.item["spec"].get("minReplicas", 1)
    found = {"AbleToScale": "ReadyForNewScale", "ScalingActive": "ValidMetricFound"}
    conditions = [
        {k: v for k, v in condition.items() if k != "lastUpdateTime"}
        for condition in _conditions(cluster.now(), **found)
    ]
    status = {
        "observedGeneration": stored.item["metadata"]["generation"],
        "currentReplicas": replicas,
        "desiredReplicas": replicas,
        "conditions": conditions,
    }
    _report(cluster, served, stored, status)


def _api_service(cluster: SimCluster, served: Served, stored: Stored) -> None:
    if (stored.item.get("status") or {}).get("conditions"):
        return
    service = stored.item["spec"].get("service")
    condition = {
        "type": "Available",
        "status": "False" if service else "True",
        "lastTransitionTime": cluster.now(),
        "reason": "MissingEndpoints" if service else "Local",
        "message": "no backend answers for this group"
        if service
        else "Local APIServices are always available",
    }
    _report(cluster, served, stored, {"conditions": [condition]})


_READY: dict[tuple[str, str], Work] = {
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("apps", "StatefulSet"): _stateful_set,
    ("batch", "Job"): _job,
    ("", "Pod"): _pod,
    ("", "PersistentVolumeClaim"): _claim,
    ("policy", "PodDisruptionBudget"): _budget,
    ("autoscaling", "HorizontalPodAutoscaler"): _autoscaler,
    ("apiregistration.k8s.io", "APIService"): _api_service,
}


def _establish(cluster: SimCluster, served: Served, stored: Stored) -> None:
    """Accepts a definition's names and serves its resource."""
    item, now = stored.item, cluster.now()
    cluster.define(item)
    condition = {"status": "True", "lastTransitionTime": now}
    status = {
        "acceptedNames": item["spec"]["names"],
        "storedVersions": [v["name"] for v in item["spec"]["versions"] if v.get("storage")],
        "conditions": [
            {"type": "NamesAccepted", "reason": "NoConflicts", "message": "no conflicts found"}
            | condition,
            {
                "type": "Established",
                "reason": "InitialNamesAccepted",
                "message": "the initial names have been accepted",
            }
            | condition,
        ],
    }
    _report(cluster, served, stored, status, manager="kube-apiserver")


def _furnish(cluster: SimCluster, served: Served, stored: Stored) -> None:
    """Gives a namespace its default ServiceAccount."""
    accounts = cluster.served("", "v1", "serviceaccounts")
    namespace = str(stored.item["metadata"]["name"])
    if accounts is None or cluster.store.get(accounts.resource.key, (namespace, "default")):
        return
    body: dict[str, Any] = {"metadata": {"name": "default"}}
    operations.create(cluster, accounts, namespace, body, Call(manager=_MANAGER))


def _end_namespace(cluster: SimCluster, served: Served, stored: Stored) -> None:
    """Deletes what a namespace holds, and the namespace once it is empty."""
    namespace = str(stored.item["metadata"]["name"])
    left = False
    for key in cluster.store.keys():  # noqa: SIM118 - a method of the store
        inner = cluster.served_by_key(key)
        if inner is None or not inner.resource.namespaced:
            continue
        for place, name in list(cluster.store.table(key)):
            if place == namespace:
                operations.delete(cluster, inner, place, name, {}, Call(manager=_MANAGER))
                left = left or cluster.store.get(key, (place, name)) is not None
    if left:
        # What waits for its finalizers brings us back when it goes.
        return
    finalized = {**stored.item, "spec": {}}
    if finalized["metadata"].get("finalizers"):
        return
    cluster.store.remove(served.resource.key, ("", namespace), finalized)
    cluster.changed(served.resource, "", namespace)


def _end_definition(cluster: SimCluster, served: Served, stored: Stored) -> None:
    """Deletes every resource of a definition, then the definition."""
    spec = stored.item["spec"]
    key = (spec["group"], spec["names"]["plural"])
    inner = cluster.served_by_key(key)
    if inner is not None:
        for place, name in list(cluster.store.table(key)):
            operations.delete(cluster, inner, place, name, {}, Call(manager=_MANAGER))
    if not cluster.store.table(key):
        cluster.forget(stored.item)
        _drop_finalizer(cluster, served, stored, "customresourcecleanup.apiextensions.k8s.io")


def _end(cluster: SimCluster, served: Served, stored: Stored) -> None:
    """Does what the finalizers of the garbage collector and the claim protection stand for."""
    finalizers = stored.item["metadata"].get("finalizers") or []
    if "orphan" in finalizers:
        for inner, child in _dependents(cluster, stored):
            owners = [
                o
                for o in child.item["metadata"]["ownerReferences"]
                if o.get("uid") != stored.item["metadata"]["uid"]
            ]
            metadata = {**child.item["metadata"], "ownerReferences": owners}
            _replace(cluster, inner, {**child.item, "metadata": metadata})
        _drop_finalizer(cluster, served, stored, "orphan")
    elif "foregroundDeletion" in finalizers:
        waiting = False
        for inner, child in _dependents(cluster, stored):
            _collect(cluster, inner, child)
            blocking = any(
                o.get("uid") == stored.item["metadata"]["uid"] and o.get("blockOwnerDeletion")
                for o in child.item["metadata"]["ownerReferences"]
            )
            metadata = child.item["metadata"]
            place = (str(metadata.get("namespace") or ""), str(metadata["name"]))
            there = cluster.store.get(inner.resource.key, place)
            waiting = waiting or (blocking and there is not None)
        if not waiting:
            _drop_finalizer(cluster, served, stored, "foregroundDeletion")
    elif "kubernetes.io/pvc-protection" in finalizers:
        _drop_finalizer(cluster, served, stored, "kubernetes.io/pvc-protection")


_ENDINGS: dict[str, Work] = {
    "Namespace": _end_namespace,
    "CustomResourceDefinition": _end_definition,
}


def _dependents(cluster: SimCluster, owner: Stored) -> list[tuple[Served, Stored]]:
    uid = owner.item["metadata"]["uid"]
    out: list[tuple[Served, Stored]] = []
    for key in cluster.store.keys():  # noqa: SIM118 - a method of the store
        served = cluster.served_by_key(key)
        if served is not None:
            out.extend(
                (served, stored)
                for stored in cluster.store.table(key).values()
                if any(
                    o.get("uid") == uid
                    for o in stored.item["metadata"].get("ownerReferences") or []
                )
            )
    return out


def _collect(cluster: SimCluster, served: Served, stored: Stored) -> None:
    """Deletes an object that has no owner any more."""
    metadata = stored.item["metadata"]
    place = str(metadata.get("namespace") or "")
    call = Call(manager=_MANAGER)
    operations.delete(cluster, served, place, str(metadata["name"]), {}, call)


def _drop_finalizer(cluster: SimCluster, served: Served, stored: Stored, name: str) -> None:
    metadata = stored.item["metadata"]
    current = cluster.store.get(
        served.resource.key, (str(metadata.get("namespace") or ""), str(metadata["name"]))
    )
    if current is None:
        return
    kept = [f for f in current.item["metadata"].get("finalizers") or [] if f != name]
    item = {**current.item, "metadata": {**current.item["metadata"], "finalizers": kept}}
    _replace(cluster, served, item)
