"""How an object fares, by its own status. Pure.

The rules are those of kstatus (sigs.k8s.io/cli-utils), which kubectl-like tools share, and differ
where it has no word or no rule:

- what is suspended on purpose (CronJob, Job, a paused Deployment) is SUSPENDED;
- a Job, or a Pod that is to end, is PROGRESSING while it runs, since later waves wait for its end;
- a Pod that failed or whose containers do not come up (a crash loop, an image that cannot be
  pulled), and a PersistentVolumeClaim that lost its volume, are DEGRADED;
- a DaemonSet whose Pods are updated on deletion does not wait for that;
- a Pod that cannot be scheduled is DEGRADED at once, since nothing here reads a clock;
- HorizontalPodAutoscaler and APIService are read by their conditions;
- a ReplicationController is read as a ReplicaSet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from events.vocabulary import Health

Verdict: TypeAlias = tuple[Health, str]
Rule: TypeAlias = Callable[[Mapping[str, Any]], Verdict]

MAX_MESSAGE: Final = 500
_ORDER = {health: place for place, health in enumerate(Health)}
_NO_DEADLINE = 2**31 - 1


def health_of(live: Mapping[str, Any], rule: Rule | None = None) -> Verdict:
    """Return the health of a live object (whole, with its status) and one sentence on why.

    `rule` takes the place of its kind's, for an object that is not on its way to be gone or to be
    looked at by its controller.
    """
    health, message = _verdict(live, rule)
    message = " ".join(message.split())
    return health, message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"


def worst(healths: Iterable[Health]) -> Health:
    """Return the worst of these; HEALTHY of none."""
    return max(healths, key=_ORDER.__getitem__, default=Health.HEALTHY)


def _verdict(live: Mapping[str, Any], rule: Rule | None) -> Verdict:
    metadata = _map(live, "metadata")
    if metadata.get("deletionTimestamp"):
        return Health.PROGRESSING, _terminating(live)
    generation, observed = (
        metadata.get("generation"),
        _map(live, "status").get("observedGeneration"),
    )
    if type(generation) is int and type(observed) is int and observed != generation:
        return (
            Health.PROGRESSING,
            f"Generation {generation} is not observed yet; the latest observed is {observed}",
        )
    if rule is not None:
        return rule(live)
    for condition in _conditions(live):
        if condition["type"] == "Reconciling" and condition["status"] == "True":
            return Health.PROGRESSING, _why(condition)
        if condition["type"] == "Stalled" and condition["status"] == "True":
            return Health.DEGRADED, _why(condition)
    built_in = _RULES.get((_group(live), str(live.get("kind", ""))))
    return built_in(live) if built_in is not None else _by_ready(live)


def _deployment(live: Mapping[str, Any]) -> Verdict:
    spec, status = _map(live, "spec"), _map(live, "status")
    # Without a deadline the controller writes no Progressing condition.
    progressed = _number(spec, "progressDeadlineSeconds", _NO_DEADLINE) == _NO_DEADLINE
    available = False
    for condition in _conditions(live):
        if condition["type"] == "Progressing":
            if condition["reason"] == "ProgressDeadlineExceeded":
                return Health.DEGRADED, _why(condition, "Progress deadline exceeded")
            if condition["status"] == "True" and condition["reason"] == "NewReplicaSetAvailable":
                progressed = True
        elif condition["type"] == "Available":
            available = condition["status"] == "True"
    wanted, there = _number(spec, "replicas", 1), _number(status, "replicas")
    updated, usable = _number(status, "updatedReplicas"), _number(status, "availableReplicas")
    behind = _behind(
        (there, wanted, "Replicas"),
        (updated, wanted, "Updated"),
        (wanted, there, "Pending termination"),
        (usable, updated, "Available"),
        (_number(status, "readyReplicas"), wanted, "Ready"),
    )
    if behind is None and not progressed:
        behind = "The new ReplicaSet is not available yet"
    if behind is None and not available:
        behind = "The Deployment is not available yet"
    if behind is None:
        return Health.HEALTHY, f"Available. Replicas: {there}"
    if spec.get("paused") is True:
        return Health.SUSPENDED, f"The rollout is paused. {behind}"
    return Health.PROGRESSING, behind


def _stateful_set(live: Mapping[str, Any]) -> Verdict:
    spec, status = _map(live, "spec"), _map(live, "status")
    strategy = _map(spec, "updateStrategy")
    if strategy.get("type") == "OnDelete":
        return Health.HEALTHY, "Updates wait for Pods to be deleted (OnDelete)"
    wanted, there = _number(spec, "replicas", 1), _number(status, "replicas")
    updated = _number(status, "updatedReplicas")
    behind = _behind(
        (there, wanted, "Replicas"),
        (_number(status, "readyReplicas"), wanted, "Ready"),
        (wanted, there, "Pending termination"),
    )
    if behind is not None:
        return Health.PROGRESSING, behind
    partition = _number(_map(strategy, "rollingUpdate"), "partition", -1)
    if partition != -1:
        if updated < wanted - partition:
            return Health.PROGRESSING, f"Updated: {updated}/{wanted - partition}"
        return Health.HEALTHY, f"Partition rollout complete. Updated: {updated}"
    behind = _behind((_number(status, "currentReplicas"), wanted, "Current"))
    if behind is not None:
        return Health.PROGRESSING, behind
    if status.get("currentRevision", "") != status.get("updateRevision", ""):
        return Health.PROGRESSING, "Waiting for all Pods to be of the updated revision"
    return Health.HEALTHY, f"All Pods are ready. Replicas: {there}"


def _daemon_set(live: Mapping[str, Any]) -> Verdict:
    status = _map(live, "status")
    is_on_delete = _map(_map(live, "spec"), "updateStrategy").get("type") == "OnDelete"
    if "observedGeneration" not in status:
        return Health.PROGRESSING, "Not observed yet"
    wanted = _number(status, "desiredNumberScheduled", -1)
    if wanted == -1:
        return Health.PROGRESSING, "Not scheduled yet"
    behind = _behind(
        (_number(status, "currentNumberScheduled"), wanted, "Current"),
        # With OnDelete, Pods are updated when somebody deletes them.
        (wanted if is_on_delete else _number(status, "updatedNumberScheduled"), wanted, "Updated"),
        (_number(status, "numberAvailable"), wanted, "Available"),
        (_number(status, "numberReady"), wanted, "Ready"),
    )
    if behind is not None:
        return Health.PROGRESSING, behind
    return Health.HEALTHY, f"All Pods are ready. Scheduled: {wanted}"


def _replica_set(live: Mapping[str, Any]) -> Verdict:
    for condition in _conditions(live):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return Health.PROGRESSING, _why(condition, "Pods cannot be created")
    status, wanted = _map(live, "status"), _number(_map(live, "spec"), "replicas", 1)
    there = _number(status, "replicas")
    behind = _behind(
        (_number(status, "fullyLabeledReplicas"), wanted, "Labelled"),
        (_number(status, "availableReplicas"), wanted, "Available"),
        (_number(status, "readyReplicas"), wanted, "Ready"),
        (wanted, there, "Pending termination"),
    )
    if behind is not None:
        return Health.PROGRESSING, behind
    return Health.HEALTHY, f"Available. Replicas: {there}"


def _job(live: Mapping[str, Any]) -> Verdict:
    spec, status = _map(live, "spec"), _map(live, "status")
    completions = _number(spec, "completions", _number(spec, "parallelism", 1))
    succeeded, failed = _number(status, "succeeded"), _number(status, "failed")
    for condition in _conditions(live):
        if condition["type"] == "Complete" and condition["status"] == "True":
            return Health.HEALTHY, f"Completed. Succeeded: {succeeded}/{completions}"
        if condition["type"] == "Failed" and condition["status"] == "True":
            return Health.DEGRADED, _why(condition, f"Failed: {failed}/{completions}")
    if spec.get("suspend") is True:
        return Health.SUSPENDED, "The Job is suspended"
    if not status.get("startTime"):
        return Health.PROGRESSING, "The Job has not started"
    active = _number(status, "active")
    counts = f"Succeeded: {succeeded}, active: {active}, failed: {failed}"
    return Health.PROGRESSING, f"Running. {counts}"


def _cron_job(live: Mapping[str, Any]) -> Verdict:
    if _map(live, "spec").get("suspend") is True:
        return Health.SUSPENDED, "The CronJob is suspended"
    return Health.HEALTHY, "Scheduled"


def _pod(live: Mapping[str, Any]) -> Verdict:
    status = _map(live, "status")
    phase = status.get("phase")
    if phase == "Succeeded":
        return Health.HEALTHY, "The Pod has completed"
    if phase == "Failed":
        return Health.DEGRADED, str(status.get("message") or "The Pod has failed")
    conditions = {condition["type"]: condition for condition in _conditions(live)}
    stuck = list(_stuck(status)) if phase in ("Running", "Pending") else []
    if stuck:
        return Health.DEGRADED, "; ".join(stuck)
    if phase == "Running":
        if conditions.get("Ready", {}).get("status") == "True":
            if _map(live, "spec").get("restartPolicy") in ("Never", "OnFailure"):
                return Health.PROGRESSING, "The Pod runs to completion"
            return Health.HEALTHY, "The Pod is ready"
        return Health.PROGRESSING, "The Pod is running and not ready"
    if phase == "Pending":
        scheduled = conditions.get("PodScheduled", {})
        if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
            return Health.DEGRADED, _why(scheduled, "The Pod cannot be scheduled")
        return Health.PROGRESSING, "The Pod is pending"
    if phase:
        return Health.UNKNOWN, f"The Pod's phase is {phase}"
    return Health.PROGRESSING, "The Pod is not observed yet"


_STUCK: Final = frozenset(
    (
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RegistryUnavailable",
        "RunContainerError",
    )
)
"""Why a container waits that does not come up by itself, or not soon."""


def _stuck(status: Mapping[str, Any]) -> Iterator[str]:
    """Say of each container that does not come up why that is."""
    for field in ("initContainerStatuses", "containerStatuses"):
        for container in _maps(status, field):
            waiting = _map(_map(container, "state"), "waiting")
            if waiting.get("reason") in _STUCK:
                message = waiting.get("message")
                told = f"container {container.get('name')}: {waiting['reason']}"
                yield f"{told}: {message}" if message else told


def _claim(live: Mapping[str, Any]) -> Verdict:
    phase = _map(live, "status").get("phase", "unknown")
    if phase == "Bound":
        return Health.HEALTHY, "Bound"
    if phase == "Lost":
        return Health.DEGRADED, "The claim lost its volume"
    return Health.PROGRESSING, f"Not bound. Phase: {phase}"


def _volume(live: Mapping[str, Any]) -> Verdict:
    phase = _map(live, "status").get("phase", "unknown")
    if phase in ("Available", "Bound", "Released"):
        return Health.HEALTHY, str(phase)
    if phase == "Failed":
        return Health.DEGRADED, str(_map(live, "status").get("message") or "The volume has failed")
    return Health.PROGRESSING, f"Not available yet. Phase: {phase}"


def _service(live: Mapping[str, Any]) -> Verdict:
    spec = _map(live, "spec")
    if spec.get("type") == "LoadBalancer" and not spec.get("clusterIP"):
        return Health.PROGRESSING, "The load balancer has no cluster IP yet"
    return Health.HEALTHY, "Ready"


def _crd(live: Mapping[str, Any]) -> Verdict:
    for condition in _conditions(live):
        if condition["type"] == "NamesAccepted" and condition["status"] == "False":
            return Health.DEGRADED, _why(condition)
        if condition["type"] == "Established":
            if condition["status"] == "True":
                return Health.HEALTHY, "Established"
            if condition["status"] == "False" and condition["reason"] != "Installing":
                return Health.DEGRADED, _why(condition)
    return Health.PROGRESSING, "Not established yet"


def _api_service(live: Mapping[str, Any]) -> Verdict:
    for condition in _conditions(live):
        if condition["type"] == "Available":
            if condition["status"] == "True":
                return Health.HEALTHY, "Available"
            return Health.PROGRESSING, _why(condition, "Not available yet")
    return Health.PROGRESSING, "Not observed yet"


def _autoscaler(live: Mapping[str, Any]) -> Verdict:
    conditions = {condition["type"]: condition for condition in _conditions(live)}
    for name in ("AbleToScale", "ScalingActive"):
        condition = conditions.get(name, {})
        if condition.get("status") != "False":
            continue
        if condition["reason"] == "ScalingDisabled":
            return Health.SUSPENDED, _why(condition, "Scaling is disabled")
        return Health.DEGRADED, _why(condition)
    if "AbleToScale" not in conditions:
        # autoscaling/v1 has its conditions in an annotation, so that silence says little there.
        if live.get("apiVersion") == "autoscaling/v1":
            return Health.HEALTHY, "Present"
        return Health.PROGRESSING, "Not observed yet"
    return Health.HEALTHY, "Able to scale"


def _namespace(live: Mapping[str, Any]) -> Verdict:
    if _map(live, "status").get("phase") == "Terminating":
        return Health.PROGRESSING, _terminating(live)
    return Health.HEALTHY, "Active"


def _present(_: Mapping[str, Any]) -> Verdict:
    return Health.HEALTHY, "Present"


def _by_ready(live: Mapping[str, Any]) -> Verdict:
    """Judge a kind without a rule by its Ready condition; without one it counts as healthy."""
    for condition in _conditions(live):
        if condition["type"] == "Ready":
            if condition["status"] == "True":
                return Health.HEALTHY, _why(condition, "Ready")
            return Health.PROGRESSING, _why(condition, "Not ready")
    return Health.HEALTHY, "Present"


_RULES: Final[Mapping[tuple[str, str], Callable[[Mapping[str, Any]], Verdict]]] = {
    ("", "ConfigMap"): _present,
    ("", "Namespace"): _namespace,
    ("", "PersistentVolume"): _volume,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "Pod"): _pod,
    ("", "ReplicationController"): _replica_set,
    ("", "Secret"): _present,
    ("", "Service"): _service,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _crd,
    ("apiregistration.k8s.io", "APIService"): _api_service,
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("apps", "StatefulSet"): _stateful_set,
    ("autoscaling", "HorizontalPodAutoscaler"): _autoscaler,
    ("batch", "CronJob"): _cron_job,
    ("batch", "Job"): _job,
    ("networking.k8s.io", "Ingress"): _present,
    ("policy", "PodDisruptionBudget"): _present,
}


def _terminating(live: Mapping[str, Any]) -> str:
    held = [
        condition["message"]
        for condition in _conditions(live)
        if condition["status"] == "True" and condition["type"].startswith("Namespace")
    ]
    finalizers = _map(live, "metadata").get("finalizers")
    if not held and isinstance(finalizers, list) and finalizers:
        held = [f"waiting for {', '.join(map(str, finalizers))}"]
    return ". ".join(["Being deleted", *held])


def _group(live: Mapping[str, Any]) -> str:
    group, slash, _ = str(live.get("apiVersion", "")).partition("/")
    return group if slash else ""


def _behind(*counts: tuple[int, int, str]) -> str | None:
    """Return what is said of the first count (have, want, word) that is not reached."""
    for have, want, word in counts:
        if have < want:
            # The one count that is about too many.
            return (
                f"{word}: {want - have}" if word.startswith("Pending") else f"{word}: {have}/{want}"
            )
    return None


def _conditions(live: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for condition in _maps(_map(live, "status"), "conditions"):
        yield {
            field: text if isinstance(text := condition.get(field), str) else ""
            for field in ("type", "status", "reason", "message")
        }


def _why(condition: Mapping[str, str], otherwise: str = "") -> str:
    told = condition["message"] or otherwise or condition["type"]
    return f"{condition['reason']}: {told}" if condition["reason"] else told


def _map(holder: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    value = holder.get(field)
    return value if isinstance(value, Mapping) else {}


def _maps(holder: Mapping[str, Any], field: str) -> list[Mapping[str, Any]]:
    value = holder.get(field)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _number(holder: Mapping[str, Any], field: str, otherwise: int = 0) -> int:
    value = holder.get(field)
    return value if type(value) is int else otherwise
