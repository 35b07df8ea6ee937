"""What each built-in kind does on a write beside storing: allocation, generation, validation.

Only rules that a client of ours can meet are here; `docs/simulator.md` says what is left out.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from typing import Any

from engine.simulator.errors import Cause, cause, invalid_value, required
from engine.simulator.names import DNS_LABEL, DNS_NAME, SUBDOMAIN, check_data, check_metadata
from engine.simulator.resources import Resource
from engine.simulator.typed import equal

Object = dict[str, Any]
_PATH_NAMES = frozenset({"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"})


# How many templates a DaemonSet has had: a field once, kept as an annotation.
_TEMPLATES = "deprecated.daemonset.template.generation"


class Addresses:
    """Hands out cluster IPs and node ports, one after the other."""

    def __init__(self, address: int = 1, port: int = 29_999) -> None:
        self._address, self._port = address, port

    @property
    def state(self) -> tuple[int, int]:
        """What was handed out last: it makes another one that goes on."""
        return self._address, self._port

    def address(self) -> str:
        """The next cluster IP."""
        self._address += 1
        high, low = divmod(self._address, 250)
        return f"10.{96 + high // 250}.{high % 250}.{low + 1}"

    def port(self) -> int:
        """The next node port."""
        self._port += 1
        return self._port


def on_decode(resource: Resource, item: Object) -> None:
    """What reading a body does to it: a Secret's stringData becomes data."""
    if resource.kind == "Secret" and resource.group == "" and "stringData" in item:
        data = dict(item.get("data") or {})
        for name, text in (item.pop("stringData") or {}).items():
            data[name] = base64.b64encode(str(text).encode()).decode()
        if data:
            item["data"] = data


def on_create(resource: Resource, item: Object, first_status: Object, addresses: Addresses) -> None:
    """What the server sets in a new object, after its fields have been booked.

    `first_status` is the status, under its name, as the kind writes it before anybody did.
    """
    metadata = item["metadata"]
    if "status" in resource.subresources and not _KEEPS_STATUS.get(resource.kind):
        item.pop("status", None)
        item.update(first_status)
    match (resource.group, resource.kind):
        case ("", "Service"):
            allocate(item, None, addresses)
        case ("", "Namespace"):
            item.setdefault("spec", {})["finalizers"] = ["kubernetes"]
            item["status"] = {"phase": "Active"}
        case ("apiextensions.k8s.io", "CustomResourceDefinition"):
            versions = item["spec"].get("versions") or []
            item["status"]["storedVersions"] = [v["name"] for v in versions if v.get("storage")]
        case ("", "PersistentVolumeClaim"):
            metadata["finalizers"] = [
                *(metadata.get("finalizers") or []),
                "kubernetes.io/pvc-protection",
            ]
        case ("apps", "DaemonSet"):
            metadata["annotations"] = {**(metadata.get("annotations") or {}), _TEMPLATES: "1"}
        case ("batch", "Job"):
            _own_pods(item)


# Kinds whose status a create may bring, or to which defaulting gives one.
_KEEPS_STATUS = {"Pod": True, "PersistentVolumeClaim": True, "PersistentVolume": True, "Node": True}


def _own_pods(item: Object) -> None:
    spec = item["spec"]
    if spec.get("manualSelector"):
        return
    uid, name = item["metadata"]["uid"], item["metadata"]["name"]
    metadata = spec.setdefault("template", {}).setdefault("metadata", {})
    metadata["labels"] = {
        **(metadata.get("labels") or {}),
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": name,
        "controller-uid": uid,
        "job-name": name,
    }
    spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}


def on_update(resource: Resource, live: Object, item: Object, addresses: Addresses) -> None:
    """What the server keeps of the live object when a new one leaves it out."""
    match (resource.group, resource.kind):
        case ("", "Service"):
            allocate(item, live, addresses)
        case ("", "Namespace"):
            item["spec"] = live.get("spec") or {}
        case ("apps", "DaemonSet"):
            count = (live["metadata"].get("annotations") or {}).get(_TEMPLATES, "1")
            if not equal(live["spec"].get("template"), item["spec"].get("template")):
                count = str(int(count) + 1) if count.isdigit() else "1"
            metadata = item["metadata"]
            metadata["annotations"] = {**(metadata.get("annotations") or {}), _TEMPLATES: count}
        case ("batch", "Job"):
            spec, before = item["spec"], live["spec"]
            if "selector" in before:
                spec.setdefault("selector", before["selector"])
        case ("", "Pod") | ("", "PersistentVolumeClaim"):
            spec, before = item["spec"], live["spec"]
            for name in ("nodeName", "volumeName", "storageClassName", "tolerations"):
                if name in before:
                    spec.setdefault(name, before[name])


def allocate(item: Object, live: Object | None, addresses: Addresses) -> None:
    """Gives a Service its addresses and node ports, those that it had where it still may."""
    spec = item["spec"]
    before = (live or {}).get("spec") or {}
    kind = spec.get("type")
    if kind == "ExternalName":
        for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            spec.pop(name, None)
        return
    if not spec.get("clusterIP"):
        listed = spec.get("clusterIPs") or [before.get("clusterIP")]
        spec["clusterIP"] = listed[0] or addresses.address()
    if live is None or not spec.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    for name, value in (("ipFamilies", ["IPv4"]), ("ipFamilyPolicy", "SingleStack")):
        if not spec.get(name):
            spec[name] = before.get(name) or value
    if kind in ("NodePort", "LoadBalancer"):
        known = {
            (port.get("port"), port.get("protocol")): port.get("nodePort")
            for port in before.get("ports") or []
        }
        for port in spec.get("ports") or []:
            if not port.get("nodePort"):
                had = known.get((port.get("port"), port.get("protocol")))
                port["nodePort"] = had or addresses.port()


def generation_changed(resource: Resource, live: Object, item: Object) -> bool:
    """Whether `metadata.generation` counts this change."""
    if resource.generation != "spec":
        return False
    if resource.kind == "Deployment" and resource.group == "apps":
        # The real Deployment strategy counts annotations, too.
        before = live["metadata"].get("annotations") or {}
        if before != (item["metadata"].get("annotations") or {}):
            return True
    left_out = {"metadata", "status"} if "status" in resource.subresources else {"metadata"}
    names = (live.keys() | item.keys()) - left_out
    return not all(equal(live.get(name), item.get(name)) for name in names)


def validate(resource: Resource, item: Object) -> Iterator[Cause]:
    """Yields why an object may not be stored."""
    metadata = item["metadata"]
    name = str(metadata.get("name") or "")
    if resource.kind in _PATH_NAMES:
        if "/" in name or "%" in name or name in (".", ".."):
            yield invalid_value("metadata.name", name, "may not contain '/'")
    elif resource.kind in ("Namespace", "Service"):
        if not DNS_LABEL.match(name) or len(name) > 63:
            yield invalid_value("metadata.name", name, SUBDOMAIN.replace("subdomain", "label"))
    elif not DNS_NAME.match(name) or len(name) > 253:
        yield invalid_value("metadata.name", name, SUBDOMAIN)
    yield from check_metadata(metadata)
    check = _CHECKS.get((resource.group, resource.kind))
    if check is not None:
        yield from check(item)


def _pod_template(template: Object, path: str) -> Iterator[Cause]:
    spec = template.get("spec") or {}
    if not spec.get("containers"):
        yield required(f"{path}.spec.containers")
    for index, container in enumerate(spec.get("containers") or []):
        here = f"{path}.spec.containers[{index}]"
        if not container.get("name"):
            yield required(f"{here}.name")
        if not container.get("image"):
            yield required(f"{here}.image")


def _workload(item: Object) -> Iterator[Cause]:
    spec = item.get("spec") or {}
    template = spec.get("template") or {}
    selector = spec.get("selector")
    if not selector:
        yield required("spec.selector")
    else:
        wanted = selector.get("matchLabels") or {}
        found = (template.get("metadata") or {}).get("labels") or {}
        if any(found.get(name) != value for name, value in wanted.items()):
            yield cause(
                "spec.template.metadata.labels",
                "FieldValueInvalid",
                f"Invalid value: {_go_map(found)}: `selector` does not match template `labels`",
            )
    if isinstance(spec.get("replicas"), int) and spec["replicas"] < 0:
        yield invalid_value("spec.replicas", spec["replicas"], "must be greater than or equal to 0")
    yield from _pod_template(template, "spec.template")


def _go_map(found: dict[str, str]) -> str:
    return "{" + ",".join(f'"{k}":"{v}"' for k, v in sorted(found.items())) + "}"


_PORT = "must be between 1 and 65535, inclusive"


def _service(item: Object) -> Iterator[Cause]:
    spec = item.get("spec") or {}
    if not spec.get("ports") and spec.get("clusterIP") != "None" and spec["type"] != "ExternalName":
        yield required("spec.ports")
    ports = spec.get("ports") or []
    for index, port in enumerate(ports):
        if len(ports) > 1 and not port.get("name"):
            yield required(f"spec.ports[{index}].name")
        number = port.get("port")
        if not isinstance(number, int) or not 0 < number < 65536:
            yield invalid_value(f"spec.ports[{index}].port", number, _PORT)
        aim = port.get("targetPort")
        if isinstance(aim, int) and not 0 < aim < 65536:
            yield invalid_value(f"spec.ports[{index}].targetPort", aim, _PORT)


def _job(item: Object) -> Iterator[Cause]:
    template = (item.get("spec") or {}).get("template") or {}
    yield from _pod_template(template, "spec.template")
    policy = (template.get("spec") or {}).get("restartPolicy")
    if policy not in ("OnFailure", "Never"):
        yield cause(
            "spec.template.spec.restartPolicy",
            "FieldValueNotSupported",
            f'Unsupported value: "{policy}": supported values: "OnFailure", "Never"',
        )


def _pod(item: Object) -> Iterator[Cause]:
    for found in _pod_template(item, "template"):
        yield {**found, "field": found["field"].removeprefix("template.")}


def _secret(item: Object) -> Iterator[Cause]:
    yield from check_data(item)
    for name, value in (item.get("data") or {}).items():
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError, TypeError):
            yield cause(f"data[{name}]", "FieldValueInvalid", "Invalid value: illegal base64 data")


def _definition(item: Object) -> Iterator[Cause]:
    spec = item.get("spec") or {}
    names = spec.get("names") or {}
    wanted = f"{names.get('plural')}.{spec.get('group')}"
    if item["metadata"].get("name") != wanted:
        yield invalid_value(
            "metadata.name",
            item["metadata"].get("name"),
            'must be spec.names.plural+"."+spec.group',
        )
    versions = spec.get("versions") or []
    if sum(bool(version.get("storage")) for version in versions) != 1:
        yield invalid_value(
            "spec.versions", "", "must have exactly one version marked as storage version"
        )
    for index, version in enumerate(versions):
        if not (version.get("schema") or {}).get("openAPIV3Schema"):
            yield required(f"spec.versions[{index}].schema.openAPIV3Schema", "schemas are required")


_CHECKS: dict[tuple[str, str], Callable[[Object], Iterator[Cause]]] = {
    ("", "ConfigMap"): check_data,
    ("", "Pod"): _pod,
    ("", "Secret"): _secret,
    ("", "Service"): _service,
    ("apps", "DaemonSet"): _workload,
    ("apps", "Deployment"): _workload,
    ("apps", "ReplicaSet"): _workload,
    ("apps", "StatefulSet"): _workload,
    ("batch", "Job"): _job,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
}


def _immutable(path: str, value: Any) -> Cause:
    return invalid_value(path, value, "field is immutable")


def validate_update(resource: Resource, live: Object, item: Object) -> Iterator[Cause]:
    """Yields why an object may not become this one."""
    before, after = live.get("spec") or {}, item.get("spec") or {}
    match (resource.group, resource.kind):
        case ("apps", "Deployment" | "DaemonSet" | "ReplicaSet"):
            if not equal(before.get("selector"), after.get("selector")):
                yield _immutable("spec.selector", after.get("selector"))
        case ("apps", "StatefulSet"):
            if before.get("serviceName", "") != after.get("serviceName", ""):
                yield _immutable("spec.serviceName", after.get("serviceName", ""))
            free = {
                "serviceName",
                "replicas",
                "ordinals",
                "template",
                "updateStrategy",
                "revisionHistoryLimit",
                "persistentVolumeClaimRetentionPolicy",
                "minReadySeconds",
            }
            if not equal(_without(before, free), _without(after, free)):
                yield cause(
                    "spec",
                    "FieldValueForbidden",
                    "Forbidden: updates to statefulset spec for fields other than 'replicas', "
                    "'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', "
                    "'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
                )
        case ("batch", "Job"):
            for name in ("selector", "completionMode"):
                if not equal(before.get(name), after.get(name)):
                    yield _immutable(f"spec.{name}", after.get(name))
            for name in ("metadata", "spec"):
                old, new = ((side.get("template") or {}).get(name) for side in (before, after))
                if not equal(old, new):
                    yield _immutable(f"spec.template.{name}", new)
        case ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding"):
            if not equal(live.get("roleRef"), item.get("roleRef")):
                role = item.get("roleRef") or {}
                shown = {"APIGroup" if k == "apiGroup" else k.title(): v for k, v in role.items()}
                yield _immutable("roleRef", shown)
        case ("", "Service"):
            old, new = before.get("clusterIP"), after.get("clusterIP")
            if old and new and old != new:
                yield invalid_value("spec.clusterIPs[0]", [new], "may not change once set")
        case ("", "PersistentVolumeClaim"):
            free = {"resources", "volumeAttributesClassName", "volumeName"}
            is_bound = (live.get("status") or {}).get("phase") == "Bound"
            if not equal(_without(before, free), _without(after, free)) or not (
                is_bound or equal(before.get("resources"), after.get("resources"))
            ):
                yield cause(
                    "spec",
                    "FieldValueForbidden",
                    "Forbidden: spec is immutable after creation except resources.requests and "
                    "volumeAttributesClassName for bound claims",
                )
        case ("", "Secret" | "ConfigMap"):
            yield from _validate_data(resource, live, item)


def _validate_data(resource: Resource, live: Object, item: Object) -> Iterator[Cause]:
    if resource.kind == "Secret" and live.get("type") != item.get("type"):
        yield _immutable("type", item.get("type"))
    if live.get("immutable"):
        for name in ("immutable", "data", "binaryData"):
            if not equal(live.get(name), item.get(name)):
                yield cause(
                    name,
                    "FieldValueForbidden",
                    "Forbidden: field is immutable when `immutable` is set",
                )


def _without(spec: Object, names: set[str]) -> Object:
    return {name: value for name, value in spec.items() if name not in names}
