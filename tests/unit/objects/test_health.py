"""How objects fare, kind by kind."""

from itertools import permutations
from typing import Any

import pytest

from engine.objects.health import MAX_MESSAGE, health_of, worst
from events.vocabulary import Health

H, P, D, S = Health.HEALTHY, Health.PROGRESSING, Health.DEGRADED, Health.SUSPENDED
READY = {"type": "Ready", "status": "True"}
AVAILABLE = {"type": "Available", "status": "True"}
ROLLED = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
LATE = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}


def counts(number: int, *names: str) -> dict[str, int]:
    return dict.fromkeys(names, number)


DEPLOYED = counts(2, "replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
STATEFUL = counts(2, "replicas", "readyReplicas", "currentReplicas", "updatedReplicas")
REPLICAS = counts(2, "replicas", "fullyLabeledReplicas", "availableReplicas", "readyReplicas")
SCHEDULED = {
    "observedGeneration": 1,
    **counts(3, "desiredNumberScheduled", "currentNumberScheduled", "updatedNumberScheduled"),
    **counts(3, "numberAvailable", "numberReady"),
}
DEADLINE = {"replicas": 2, "progressDeadlineSeconds": 600}


def conditions(*listed: dict[str, str]) -> dict[str, Any]:
    return {"conditions": list(listed)}


CASES: list[tuple[str, dict[str, Any], dict[str, Any], Health, str]] = [
    ("apps/v1/Deployment", DEADLINE, {}, P, "Replicas: 0/2"),
    ("apps/v1/Deployment", DEADLINE, {**DEPLOYED, "updatedReplicas": 1}, P, "Updated: 1/2"),
    ("apps/v1/Deployment", DEADLINE, {**DEPLOYED, "replicas": 3}, P, "Pending termination: 1"),
    ("apps/v1/Deployment", DEADLINE, {**DEPLOYED, "availableReplicas": 1}, P, "Available: 1/2"),
    ("apps/v1/Deployment", DEADLINE, {**DEPLOYED, "readyReplicas": 1}, P, "Ready: 1/2"),
    ("apps/v1/Deployment", DEADLINE, DEPLOYED, P, "ReplicaSet is not available"),
    ("apps/v1/Deployment", DEADLINE, {**DEPLOYED, **conditions(ROLLED)}, P, "not available"),
    ("apps/v1/Deployment", DEADLINE, {**DEPLOYED, **conditions(ROLLED, AVAILABLE)}, H, "2"),
    ("apps/v1/Deployment", {"replicas": 2}, {**DEPLOYED, **conditions(AVAILABLE)}, H, "2"),
    ("apps/v1/Deployment", DEADLINE, {**DEPLOYED, **conditions(LATE)}, D, "deadline"),
    ("apps/v1/Deployment", {**DEADLINE, "paused": True}, {}, S, "paused"),
    ("apps/v1/StatefulSet", {"replicas": 2}, {}, P, "Replicas: 0/2"),
    ("apps/v1/StatefulSet", {"replicas": 2}, {**STATEFUL, "readyReplicas": 1}, P, "Ready: 1/2"),
    ("apps/v1/StatefulSet", {"replicas": 1}, STATEFUL, P, "Pending termination: 1"),
    ("apps/v1/StatefulSet", {"replicas": 2}, {**STATEFUL, "currentReplicas": 1}, P, "Current: 1/2"),
    ("apps/v1/StatefulSet", {"replicas": 2}, {**STATEFUL, "updateRevision": "b"}, P, "revision"),
    ("apps/v1/StatefulSet", {"replicas": 2}, STATEFUL, H, "2"),
    ("apps/v1/StatefulSet", {"updateStrategy": {"type": "OnDelete"}}, {}, H, "OnDelete"),
    (
        "apps/v1/StatefulSet",
        {"replicas": 2, "updateStrategy": {"rollingUpdate": {"partition": 0}}},
        {**STATEFUL, "updatedReplicas": 1},
        P,
        "Updated: 1/2",
    ),
    (
        "apps/v1/StatefulSet",
        {"replicas": 2, "updateStrategy": {"rollingUpdate": {"partition": 1}}},
        {**STATEFUL, "updatedReplicas": 1},
        H,
        "Partition",
    ),
    ("apps/v1/DaemonSet", {}, {}, P, "Not observed"),
    ("apps/v1/DaemonSet", {}, {"observedGeneration": 1}, P, "Not scheduled"),
    ("apps/v1/DaemonSet", {}, {**SCHEDULED, "numberReady": 2}, P, "Ready: 2/3"),
    ("apps/v1/DaemonSet", {}, {**SCHEDULED, "updatedNumberScheduled": 2}, P, "Updated: 2/3"),
    ("apps/v1/DaemonSet", {}, SCHEDULED, H, "3"),
    ("apps/v1/ReplicaSet", {"replicas": 2}, {}, P, "Labelled: 0/2"),
    ("apps/v1/ReplicaSet", {"replicas": 2}, REPLICAS, H, "2"),
    (
        "apps/v1/ReplicaSet",
        {"replicas": 2},
        {**REPLICAS, **conditions({"type": "ReplicaFailure", "status": "True"})},
        P,
        "cannot be created",
    ),
    ("batch/v1/Job", {}, {}, P, "not started"),
    ("batch/v1/Job", {"suspend": True}, {}, S, "suspended"),
    ("batch/v1/Job", {}, {"startTime": "2026", "active": 1}, P, "active: 1"),
    ("batch/v1/Job", {}, conditions({"type": "Complete", "status": "True"}), H, "Completed"),
    ("batch/v1/Job", {}, conditions({"type": "Failed", "status": "True"}), D, "Failed"),
    ("batch/v1/CronJob", {"suspend": True}, {}, S, "suspended"),
    ("batch/v1/CronJob", {"suspend": False}, {}, H, ""),
    ("v1/Pod", {}, {}, P, "not observed"),
    ("v1/Pod", {}, {"phase": "Succeeded"}, H, "completed"),
    ("v1/Pod", {}, {"phase": "Failed", "message": "evicted"}, D, "evicted"),
    ("v1/Pod", {}, {"phase": "Running"}, P, "not ready"),
    ("v1/Pod", {}, {"phase": "Running", **conditions(READY)}, H, "ready"),
    (
        "v1/Pod",
        {},
        {
            "phase": "Running",
            "containerStatuses": [
                {"name": "a", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
            ],
        },
        D,
        "container a: CrashLoopBackOff",
    ),
    ("v1/Pod", {}, {"phase": "Pending"}, P, "pending"),
    (
        "v1/Pod",
        {},
        {
            "phase": "Pending",
            **conditions({"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}),
        },
        D,
        "cannot be scheduled",
    ),
    ("v1/Pod", {}, {"phase": "Odd"}, Health.UNKNOWN, "Odd"),
    ("v1/PersistentVolumeClaim", {}, {}, P, "unknown"),
    ("v1/PersistentVolumeClaim", {}, {"phase": "Bound"}, H, "Bound"),
    ("v1/PersistentVolumeClaim", {}, {"phase": "Lost"}, D, "lost"),
    ("v1/PersistentVolume", {}, {"phase": "Available"}, H, "Available"),
    ("v1/PersistentVolume", {}, {"phase": "Pending"}, P, "Pending"),
    ("v1/PersistentVolume", {}, {"phase": "Failed", "message": "no disk"}, D, "no disk"),
    ("v1/Service", {"type": "LoadBalancer"}, {}, P, "cluster IP"),
    ("v1/Service", {"type": "LoadBalancer", "clusterIP": "10.0.0.1"}, {}, H, ""),
    ("v1/Service", {}, {}, H, ""),
    ("v1/Namespace", {}, {"phase": "Active"}, H, "Active"),
    (
        "v1/Namespace",
        {},
        {
            "phase": "Terminating",
            **conditions(
                {"type": "NamespaceContentRemaining", "status": "True", "message": "pods remain"}
            ),
        },
        P,
        "pods remain",
    ),
    ("networking.k8s.io/v1/Ingress", {}, {}, H, ""),
    ("policy/v1/PodDisruptionBudget", {}, {}, H, ""),
    ("apiextensions.k8s.io/v1/CustomResourceDefinition", {}, {}, P, "Not established"),
    (
        "apiextensions.k8s.io/v1/CustomResourceDefinition",
        {},
        conditions({"type": "Established", "status": "True"}),
        H,
        "Established",
    ),
    (
        "apiextensions.k8s.io/v1/CustomResourceDefinition",
        {},
        conditions({"type": "Established", "status": "False", "reason": "Installing"}),
        P,
        "Not established",
    ),
    (
        "apiextensions.k8s.io/v1/CustomResourceDefinition",
        {},
        conditions({"type": "NamesAccepted", "status": "False", "message": "in use"}),
        D,
        "in use",
    ),
    ("apiregistration.k8s.io/v1/APIService", {}, conditions(AVAILABLE), H, "Available"),
    (
        "apiregistration.k8s.io/v1/APIService",
        {},
        conditions({"type": "Available", "status": "False", "reason": "MissingEndpoints"}),
        P,
        "MissingEndpoints",
    ),
    ("autoscaling/v2/HorizontalPodAutoscaler", {}, {}, P, "Not observed"),
    (
        "autoscaling/v2/HorizontalPodAutoscaler",
        {},
        conditions({"type": "AbleToScale", "status": "True"}),
        H,
        "",
    ),
    (
        "autoscaling/v2/HorizontalPodAutoscaler",
        {},
        conditions({"type": "ScalingActive", "status": "False", "reason": "FailedGetMetric"}),
        D,
        "FailedGetMetric",
    ),
    (
        "autoscaling/v2/HorizontalPodAutoscaler",
        {},
        conditions({"type": "ScalingActive", "status": "False", "reason": "ScalingDisabled"}),
        S,
        "ScalingDisabled",
    ),
    ("x.io/v1/Thing", {}, {}, H, ""),
    ("x.io/v1/Thing", {}, conditions(READY), H, "Ready"),
    (
        "x.io/v1/Thing",
        {},
        conditions({"type": "Ready", "status": "Unknown", "reason": "Starting", "message": "soon"}),
        P,
        "Starting: soon",
    ),
    (
        "x.io/v1/Thing",
        {},
        conditions(READY, {"type": "Reconciling", "status": "True", "message": "busy"}),
        P,
        "busy",
    ),
    (
        "x.io/v1/Thing",
        {},
        conditions(READY, {"type": "Stalled", "status": "True", "message": "bad spec"}),
        D,
        "bad spec",
    ),
    (
        "v1/ReplicationController",
        {"replicas": 2},
        {**REPLICAS, "readyReplicas": 1},
        P,
        "Ready: 1/2",
    ),
    ("v1/ReplicationController", {"replicas": 2}, REPLICAS, H, "2"),
    (
        "apps/v1/DaemonSet",
        {"updateStrategy": {"type": "OnDelete"}},
        {**SCHEDULED, "updatedNumberScheduled": 0},
        H,
        "3",
    ),
    *(
        (
            "v1/Pod",
            {},
            {
                "phase": phase,
                field: [{"name": "web", "state": {"waiting": {"reason": reason, "message": "so"}}}],
            },
            D,
            f"container web: {reason}: so",
        )
        for phase, field, reason in (
            ("Running", "containerStatuses", "CrashLoopBackOff"),
            ("Pending", "containerStatuses", "ImagePullBackOff"),
            ("Pending", "initContainerStatuses", "ErrImagePull"),
            ("Pending", "initContainerStatuses", "CreateContainerConfigError"),
        )
    ),
    (
        "v1/Pod",
        {},
        {
            "phase": "Pending",
            "containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}],
        },
        P,
        "pending",
    ),
    # Another group's Deployment has no Deployment's rules.
    ("x.io/v1/Deployment", {}, {}, H, ""),
]


def obj(kind: str, spec: Any, status: Any, **metadata: Any) -> dict[str, Any]:
    api_version, _, name = kind.rpartition("/")
    return {
        "apiVersion": api_version,
        "kind": name,
        "metadata": {"name": "a", "generation": 1, **metadata},
        "spec": spec,
        "status": status,
    }


@pytest.mark.parametrize(("kind", "spec", "status", "health", "said"), CASES)
def test_an_objects_health_is_told_with_its_reason(
    kind: str, spec: dict[str, Any], status: dict[str, Any], health: Health, said: str
) -> None:
    found, message = health_of(obj(kind, spec, status))
    assert found is health
    assert said in message
    assert message


def test_a_generation_that_is_not_observed_is_progress_whatever_the_status_says() -> None:
    status = {**DEPLOYED, **conditions(ROLLED, AVAILABLE), "observedGeneration": 1}
    assert health_of(obj("apps/v1/Deployment", DEADLINE, status))[0] is H
    found, message = health_of(obj("apps/v1/Deployment", DEADLINE, status, generation=2))
    assert found is P
    assert "Generation 2" in message


def test_what_is_being_deleted_says_what_holds_it() -> None:
    gone = obj("v1/ConfigMap", {}, {}, deletionTimestamp="2026", finalizers=["x/y"])
    assert health_of(gone) == (P, "Being deleted. waiting for x/y")


@pytest.mark.parametrize("status", [None, [], "x", {"conditions": "x"}, {"conditions": [1, {}]}])
@pytest.mark.parametrize("kind", sorted({case[0] for case in CASES}))
def test_a_malformed_status_is_no_error(kind: str, status: Any) -> None:
    assert health_of(obj(kind, None, status))[0] in set(Health)
    assert health_of({"kind": kind, "status": status})[0] in set(Health)


def test_a_message_is_one_short_line() -> None:
    condition = {"type": "Stalled", "status": "True", "message": "no\n" * 5000}
    message = health_of(obj("x.io/v1/Thing", {}, conditions(condition)))[1]
    assert len(message) == MAX_MESSAGE
    assert "\n" not in message


def test_the_worst_of_several_is_found_in_any_order() -> None:
    assert worst([]) is H
    for listed in permutations([H, P, S, Health.MISSING]):
        assert worst(listed) is Health.MISSING
    assert worst(Health) is D
