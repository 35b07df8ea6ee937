"""The writes of a Kubernetes API: create, replace, patch, apply, delete.

Every function runs without a pause between reading and storing, so each write is atomic.
"""

from __future__ import annotations

import copy
import secrets
from dataclasses import dataclass, field
from typing import Any

from engine.simulator import (
    custom,
    decode,
    defaults,
    errors,
    ownership,
    patches,
    scale,
    strategy,
    typed,
)
from engine.simulator.cluster import Object, Served, SimCluster
from engine.simulator.ownership import Entries, Manager
from engine.simulator.resources import Resource
from engine.simulator.store import Stored

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_SERVER_SET = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


@dataclass(slots=True)
class Call:
    """How a write was asked for."""

    manager: str = "unknown"
    dry_run: bool = False
    force: bool = False
    subresource: str = ""
    field_validation: str = "Warn"
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a write came to: the object as answered, and whether anything was stored."""

    item: Object
    changed: bool
    created: bool = False


def create(cluster: SimCluster, served: Served, namespace: str, body: Any, call: Call) -> Outcome:
    """Creates an object; raises ApiError."""
    resource = served.resource
    item = _envelope(resource, body)
    metadata = item["metadata"]
    _place(resource, metadata, namespace)
    if not metadata.get("name") and metadata.get("generateName"):
        suffix = "".join(secrets.choice(_SUFFIX) for _ in range(5))
        metadata["name"] = str(metadata["generateName"])[:58] + suffix
    if not metadata.get("name"):
        causes = [errors.required("metadata.name", "name or generateName is required")]
        raise errors.invalid(resource.kind, resource.group, "", causes)
    name = str(metadata["name"])
    if metadata.get("resourceVersion"):
        raise errors.internal("resourceVersion should not be set on objects to be created")
    _require_namespace(cluster, resource, namespace, name)
    item = _decode(served, item, call)
    if cluster.store.get(resource.key, (namespace, name)) is not None:
        raise errors.already_exists(resource, name)
    empty = _empty(served)
    item["metadata"].pop("managedFields", None)
    entries = ownership.update(
        empty,
        _without_status(resource, item),
        {},
        Manager(call.manager, "Update", resource.api_version),
        served.typ,
        now=cluster.now(),
    )
    return _store_new(cluster, served, namespace, name, item, entries, call)


def _store_new(
    cluster: SimCluster,
    served: Served,
    namespace: str,
    name: str,
    item: Object,
    entries: Entries,
    call: Call,
) -> Outcome:
    resource = served.resource
    metadata = item["metadata"]
    for server_set in (*_SERVER_SET, "generation", "selfLink", "resourceVersion"):
        metadata.pop(server_set, None)
    metadata["uid"] = cluster.new_uid()
    metadata["creationTimestamp"] = cluster.now()
    if resource.generation:
        metadata["generation"] = 1
    empty = _empty(served)
    first_status = {"status": empty["status"]} if "status" in empty else {}
    strategy.on_create(resource, item, first_status, cluster.addresses)
    _validate(served, item, None)
    if managed := ownership.encode(entries):
        metadata["managedFields"] = managed
    if call.dry_run:
        return Outcome(item, changed=False, created=True)
    stored = cluster.store.put(resource.key, (namespace, name), item)
    cluster.changed(resource, namespace, name)
    return Outcome(stored.item, changed=True, created=True)


def replace(
    cluster: SimCluster, served: Served, namespace: str, name: str, body: Any, call: Call
) -> Outcome:
    """Replaces an object, its status or its scale; raises ApiError."""
    resource = served.resource
    live = require(cluster, served, namespace, name)
    if call.subresource == "scale":
        return _rescale(cluster, served, live, body, call)
    item = _envelope(resource, body)
    metadata = item["metadata"]
    _place(resource, metadata, namespace)
    if metadata.get("name", name) != name:
        raise errors.bad_request(
            f"the name of the object ({metadata['name']}) does not match "
            f"the name on the URL ({name})"
        )
    metadata["name"] = name
    uid = metadata.get("uid")
    if uid and uid != live.item["metadata"]["uid"]:
        raise errors.conflict(resource, name, _uid_differs(uid, live))
    if not metadata.get("resourceVersion") and resource.custom:
        causes = [
            errors.cause(
                "metadata.resourceVersion",
                "FieldValueInvalid",
                "Invalid value: 0: must be specified for an update",
            )
        ]
        raise errors.invalid(resource.kind, resource.group, name, causes)
    return _update(cluster, served, live, item, call)


def patch(
    cluster: SimCluster,
    served: Served,
    namespace: str,
    name: str,
    form: str,
    body: Any,
    call: Call,
) -> Outcome:
    """Patches an object; `form` is "json", "merge" or "strategic". Raises ApiError."""
    live = require(cluster, served, namespace, name)
    target = scale.read(served.resource, live.item) if call.subresource == "scale" else live.item
    typ = scale.TYPE() if call.subresource == "scale" else served.typ
    if form == "json":
        item = patches.json_patch(target, body)
    elif not isinstance(body, dict):
        raise errors.bad_request("error decoding patch: a patch of this kind is an object")
    elif form == "merge":
        item = patches.merge_patch(target, body)
    else:
        item = patches.strategic_merge(target, body, typ)
    if not isinstance(item, dict):
        raise errors.bad_request("the patch leaves no object")
    if call.subresource == "scale":
        return _rescale(cluster, served, live, item, call)
    item = _envelope(served.resource, copy.deepcopy(item))
    if item["metadata"].get("name") != name:
        causes = [
            errors.invalid_value(
                "metadata.name", item["metadata"].get("name"), "field is immutable"
            )
        ]
        raise errors.invalid(served.resource.kind, served.resource.group, name, causes)
    return _update(cluster, served, live, item, call)


def _rescale(cluster: SimCluster, served: Served, live: Stored, body: Any, call: Call) -> Outcome:
    item = copy.deepcopy(live.item)
    wanted = (body.get("metadata") or {}).get("resourceVersion") if isinstance(body, dict) else None
    if wanted:
        item["metadata"]["resourceVersion"] = wanted
    scale.write(served.resource, item, body)
    outcome = _update(cluster, served, live, item, call)
    return Outcome(scale.read(served.resource, outcome.item), outcome.changed)


def _update(cluster: SimCluster, served: Served, live: Stored, item: Object, call: Call) -> Outcome:
    resource = served.resource
    metadata = item["metadata"]
    _check_version(resource, live, metadata)
    item = _decode(served, item, call)
    metadata = item["metadata"]
    sent = metadata.pop("managedFields", None)
    before = _without_managed(live.item)
    item = _confine(resource, before, item, call.subresource)
    entries = _entries_for_update(live, sent, subresource=bool(call.subresource))
    if entries is not None:
        # As by a real server, a scale is booked without a time.
        now = "" if call.subresource == "scale" else cluster.now()
        entries = ownership.update(
            before,
            item,
            entries,
            Manager(call.manager, "Update", resource.api_version, call.subresource),
            served.typ,
            now=now,
        )
    return _store_changed(cluster, served, live, item, item, entries or {}, call)


def _entries_for_update(live: Stored, sent: Any, *, subresource: bool) -> Entries | None:
    """The ownership that an update starts from; None when the object's is not tracked."""
    stored = ownership.decode(live.item["metadata"].get("managedFields")) or {}
    if sent is not None and not subresource:
        if sent == [{}]:
            return None
        return ownership.decode(sent) or stored or None
    return stored or None


def apply(
    cluster: SimCluster, served: Served, namespace: str, name: str, body: Any, call: Call
) -> Outcome:
    """Server-side apply; raises ApiError."""
    resource = served.resource
    config = _envelope(resource, body)
    metadata = config["metadata"]
    told = f"{metadata.get('namespace') or ''}/{name}"
    _place(resource, metadata, namespace)
    if metadata.get("name", name) != name:
        raise errors.bad_request(
            f"the name of the object ({metadata['name']}) does not match "
            f"the name on the URL ({name})"
        )
    metadata["name"] = name
    if metadata.get("managedFields"):
        raise errors.bad_request("metadata.managedFields must be nil")
    metadata.pop("managedFields", None)
    live = cluster.store.get(resource.key, (namespace, name))
    uid = metadata.get("uid")
    if live is None:
        if call.subresource:
            raise errors.not_found(resource, name)
        if uid:
            raise errors.conflict(
                resource,
                name,
                f"uid mismatch: the provided object specified uid {uid}, "
                "and no existing object was found",
            )
        _require_namespace(cluster, resource, namespace, name)
    if call.subresource == "status":
        config = {
            k: v for k, v in config.items() if k in ("apiVersion", "kind", "metadata", "status")
        }
    else:
        config = _without_status(resource, config)
    before, entries = _entries_for_apply(cluster, served, live)
    try:
        merged, entries = ownership.apply(
            before,
            config,
            entries,
            Manager(call.manager, "Apply", resource.api_version, call.subresource),
            served.typ,
            force=call.force,
            now=cluster.now(),
        )
    except ownership.ConflictError as conflict:
        raise errors.field_conflict(str(conflict), conflict.causes) from None
    except typed.TypedError as error:
        raise errors.internal(
            f"failed to create typed patch object ({told}; "
            f"{resource.group}/{resource.version}, Kind={resource.kind}): {error}"
        ) from None
    item = _decode(served, copy.deepcopy(merged), call)
    if live is None:
        return _store_new(cluster, served, namespace, name, item, entries, call)
    _check_version(resource, live, item["metadata"])
    if uid and uid != live.item["metadata"]["uid"]:
        causes = [errors.invalid_value("metadata.uid", uid, "field is immutable")]
        raise errors.invalid(resource.kind, resource.group, name, causes)
    item = _confine(resource, _without_managed(live.item), item, call.subresource)
    return _store_changed(cluster, served, live, item, merged, entries, call)


def _entries_for_apply(
    cluster: SimCluster, served: Served, live: Stored | None
) -> tuple[Object | None, Entries]:
    """The live object and its owners; what is not tracked belongs to `before-first-apply`."""
    if live is None:
        return None, {}
    resource = served.resource
    before = _without_managed(live.item)
    entries: Entries = ownership.decode(live.item["metadata"].get("managedFields")) or {}
    if not entries:
        empty = _empty(served)
        entries = ownership.update(
            empty,
            before,
            {},
            Manager("before-first-apply", "Update", resource.api_version),
            served.typ,
            now=cluster.now(),
        )
    return before, entries


def _store_changed(
    cluster: SimCluster,
    served: Served,
    live: Stored,
    item: Object,
    written: Object,
    entries: Entries,
    call: Call,
) -> Outcome:
    """Stores an update unless it changes nothing; `written` is the object before decoding."""
    resource = served.resource
    before = live.item["metadata"]
    metadata = item["metadata"]
    for name in (*_SERVER_SET, "generation", "resourceVersion"):
        metadata.pop(name, None)
        if name in before:
            metadata[name] = before[name]
    metadata.pop("selfLink", None)
    if not call.subresource or call.subresource == "scale":
        strategy.on_update(resource, live.item, item, cluster.addresses)
        # NetworkPolicies are compared before empty lists are dropped, in real servers, too.
        judged = written if resource.kind == "NetworkPolicy" else item
        if strategy.generation_changed(resource, live.item, judged):
            metadata["generation"] = before.get("generation", 0) + 1
    if managed := ownership.encode(entries):
        metadata["managedFields"] = managed
    else:
        metadata.pop("managedFields", None)
    _validate(served, item, live.item)
    if _same_but_times(live.item, item):
        return Outcome(live.item, changed=False)
    if call.dry_run:
        return Outcome(item, changed=False)
    key = (str(before.get("namespace") or ""), str(before["name"]))
    ends = metadata.get("deletionTimestamp") and not metadata.get("finalizers")
    if ends and not _held(resource, item):
        stored = cluster.store.remove(resource.key, key, item)
        cluster.changed(resource, *key)
        return Outcome(stored.item, changed=True)
    stored = cluster.store.put(resource.key, key, item)
    cluster.changed(resource, *key)
    return Outcome(stored.item, changed=True)


def _held(resource: Resource, item: Object) -> bool:
    """Whether an object being deleted waits for more than metadata.finalizers."""
    is_namespace = resource.kind == "Namespace" and not resource.group
    return is_namespace and bool((item.get("spec") or {}).get("finalizers"))


def _same_but_times(live: Object, item: Object) -> bool:
    if not typed.equal(_without_managed(live), _without_managed(item)):
        return False
    return _without_times(live) == _without_times(item)


def _without_times(item: Object) -> list[Object]:
    managed = item["metadata"].get("managedFields") or []
    # The order is by time, so without times it is no order.
    return sorted(
        ({k: v for k, v in entry.items() if k != "time"} for entry in managed),
        key=lambda e: (e["manager"], e["operation"], e["apiVersion"], e.get("subresource", "")),
    )


def _confine(resource: Resource, live: Object, item: Object, subresource: str) -> Object:
    """Keeps a write to what its endpoint may write: status, scale, or all but status."""
    if subresource == "status":
        if resource.custom:
            kept = {**live["metadata"]}
        else:
            kept = {**item["metadata"], "labels": live["metadata"].get("labels")}
            if kept["labels"] is None:
                del kept["labels"]
        out = {**live, "metadata": kept}
        out.pop("status", None)
        return {**out, "status": item["status"]} if "status" in item else out
    if "status" in resource.subresources:
        out = {k: v for k, v in item.items() if k != "status"}
        return {**out, "status": live["status"]} if "status" in live else out
    return item


def _without_status(resource: Resource, item: Object) -> Object:
    if "status" not in resource.subresources or "status" not in item:
        return item
    return {name: value for name, value in item.items() if name != "status"}


def _without_managed(item: Object) -> Object:
    metadata = item["metadata"]
    if "managedFields" not in metadata:
        return item
    return {**item, "metadata": {k: v for k, v in metadata.items() if k != "managedFields"}}


def require(cluster: SimCluster, served: Served, namespace: str, name: str) -> Stored:
    """The stored object; raises 404."""
    live = cluster.store.get(served.resource.key, (namespace, name))
    if live is None:
        raise errors.not_found(served.resource, name)
    return live


def _empty(served: Served) -> Object:
    """The kind's empty object: a create is compared with it to see which fields it set."""
    resource = served.resource
    empty = {} if resource.custom else decode.empty(served.typ)
    return {"apiVersion": resource.api_version, "kind": resource.kind, **empty}


def _envelope(resource: Resource, body: Any) -> Object:
    """Checks that a body is an object of this resource; returns a copy of its top levels."""
    if not isinstance(body, dict):
        raise errors.bad_request("the body of the request is no object")
    item = dict(body)
    version = item.setdefault("apiVersion", resource.api_version)
    kind = item.setdefault("kind", resource.kind)
    if version != resource.api_version:
        raise errors.bad_request(
            f"the API version in the data ({version}) does not match "
            f"the expected API version ({resource.api_version})"
        )
    if kind != resource.kind:
        raise errors.bad_request(
            f'{kind} in version "{resource.version}" cannot be handled as a {resource.kind}'
        )
    metadata = item.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise errors.bad_request("metadata is no object")
    item["metadata"] = dict(metadata or {})
    return item


def _place(resource: Resource, metadata: Object, namespace: str) -> None:
    if not resource.namespaced:
        metadata.pop("namespace", None)
        return
    given = metadata.get("namespace")
    if given and given != namespace:
        raise errors.bad_request(
            f"the namespace of the provided object does not match the namespace sent on the "
            f"request ({given} and {namespace})"
        )
    metadata["namespace"] = namespace


def _require_namespace(cluster: SimCluster, resource: Resource, namespace: str, name: str) -> None:
    if not resource.namespaced:
        return
    found = cluster.store.get(("", "namespaces"), ("", namespace))
    if found is None:
        details = {"name": namespace, "kind": "namespaces"}
        raise errors.ApiError(
            404, "NotFound", f'namespaces "{namespace}" not found', details=details
        )
    if "deletionTimestamp" in found.item["metadata"]:
        why = f"namespace {namespace} is being terminated"
        raise errors.ApiError(
            403,
            "Forbidden",
            f'{resource.qualified} "{name}" is forbidden: unable to create new content in '
            f"namespace {namespace} because it is being terminated",
            details={
                "name": name,
                "kind": resource.plural,
                "causes": [
                    errors.cause("metadata.namespace", "NamespaceTerminating", why),
                ],
            },
        )


def _decode(served: Served, item: Object, call: Call) -> Object:
    """The object as the kind holds it: unknown fields dropped, defaults filled in."""
    resource = served.resource
    unknown: list[str] = []
    if served.structural is not None:
        metadata = item["metadata"]
        out: Object = custom.fill(custom.prune(item, served.structural, unknown), served.structural)
        out["metadata"] = _metadata(served, metadata, unknown)
    else:
        try:
            out = decode.builtin(item, served.typ, unknown)
        except decode.WrongTypeError as error:
            raise errors.bad_request(
                f'{resource.kind} in version "{resource.version}" cannot be handled as a '
                f"{resource.kind}: json: {error}"
            ) from None
        out.setdefault("metadata", {})
        strategy.on_decode(resource, out)
        defaults.apply_defaults(resource.group, resource.kind, out)
    if unknown and call.field_validation == "Strict":
        listed = ", ".join(f'unknown field "{name}"' for name in unknown)
        raise errors.bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a '
            f"{resource.kind}: strict decoding error: {listed}"
        )
    if call.field_validation == "Warn":
        call.warnings.extend(f'unknown field "{name}"' for name in unknown)
    return out


def _metadata(served: Served, metadata: Object, unknown: list[str]) -> Object:
    typ = served.typ.fields["metadata"]
    try:
        return decode.builtin(metadata, typ, unknown)
    except decode.WrongTypeError as error:
        raise errors.bad_request(f"metadata: json: {error}") from None


def _check_version(resource: Resource, live: Stored, metadata: Object) -> None:
    wanted = metadata.get("resourceVersion")
    if wanted and wanted != live.item["metadata"]["resourceVersion"]:
        raise errors.conflict(resource, str(live.item["metadata"]["name"]), errors.MODIFIED)


def _uid_differs(uid: Any, live: Stored) -> str:
    there = live.item["metadata"]["uid"]
    return f"Precondition failed: UID in precondition: {uid}, UID in object meta: {there}"


def _validate(served: Served, item: Object, live: Object | None) -> None:
    resource = served.resource
    causes = list(strategy.validate(resource, item))
    if served.structural is not None:
        causes += custom.validate(item, served.structural)
    if live is not None:
        causes += strategy.validate_update(resource, live, item)
        if live["metadata"].get("deletionTimestamp"):
            had = set(live["metadata"].get("finalizers") or [])
            if more := [f for f in item["metadata"].get("finalizers") or [] if f not in had]:
                causes.append(
                    errors.cause(
                        "metadata.finalizers",
                        "FieldValueForbidden",
                        "Forbidden: no new finalizers can be added if the object is being "
                        "deleted, found new finalizers []string{"
                        + ", ".join(f'"{name}"' for name in more)
                        + "}",
                    )
                )
    if causes:
        name = str(item["metadata"].get("name") or "")
        raise errors.invalid(resource.kind, resource.group, name, causes)


def delete(
    cluster: SimCluster, served: Served, namespace: str, name: str, options: Object, call: Call
) -> Outcome:
    """Deletes an object, or marks it where finalizers hold it. Raises ApiError."""
    resource = served.resource
    live = require(cluster, served, namespace, name)
    metadata = live.item["metadata"]
    wanted = options.get("preconditions") or {}
    if wanted.get("uid") and wanted["uid"] != metadata["uid"]:
        raise errors.unmet(resource, name, "UID", wanted["uid"], metadata["uid"])
    version, there = wanted.get("resourceVersion"), metadata["resourceVersion"]
    if version and version != there:
        raise errors.unmet(resource, name, "ResourceVersion", version, there)
    finalizers = [*(metadata.get("finalizers") or [])]
    policy = options.get("propagationPolicy")
    waits = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(str(policy))
    if waits and waits not in finalizers:
        finalizers.append(waits)
    if resource.kind == "CustomResourceDefinition":
        finalizers.append("customresourcecleanup.apiextensions.k8s.io")
    held = bool(finalizers) or _held(resource, live.item)
    if call.dry_run:
        return Outcome(live.item, changed=False)
    key = (namespace, name)
    if not held:
        stored = cluster.store.remove(resource.key, key)
        cluster.changed(resource, namespace, name)
        return Outcome(_deleted(resource, stored.item), changed=True)
    if metadata.get("deletionTimestamp"):
        return Outcome(live.item, changed=False)
    marked = {**metadata, "deletionTimestamp": cluster.now(), "deletionGracePeriodSeconds": 0}
    if finalizers:
        marked["finalizers"] = list(dict.fromkeys(finalizers))
    if resource.generation:
        marked["generation"] = marked.get("generation", 0) + 1
    item = {**live.item, "metadata": marked}
    if resource.kind == "Namespace" and not resource.group:
        item["status"] = {**(item.get("status") or {}), "phase": "Terminating"}
    stored = cluster.store.put(resource.key, key, item)
    cluster.changed(resource, namespace, name)
    return Outcome(stored.item, changed=True)


def _deleted(resource: Resource, item: Object) -> Object:
    """The Status that answers a delete which is done."""
    details = {
        "name": item["metadata"]["name"],
        "group": resource.group,
        "kind": resource.plural,
        "uid": item["metadata"]["uid"],
    }
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {k: v for k, v in details.items() if v},
    }
