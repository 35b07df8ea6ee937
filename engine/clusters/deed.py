"""What is sent and what is answered, turned into the log's terms."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import orjson
from msgspec import Struct

from engine.clusters.connect import Unreachable
from engine.clusters.look import Look
from engine.clusters.memory import Entry
from engine.clusters.paths import is_segment, object_path
from engine.clusters.status import refusal
from engine.clusters.wire import Response
from engine.objects.left import SCALED_BY_CLUSTER
from engine.objects.ownership import OWNER_ANNOTATION
from engine.ports import Answer, ApplyRequest, KindInfo
from events.vocabulary import FieldRule, ObjectRef, Outcome


class NotSent(Exception):
    """A request that cannot be sent as it is; `answer` says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.message)
        self.answer = answer


class Before(Struct, frozen=True):
    """What a deed found: preconditions for the request ("" for none), and what was there.

    `by_digest`: the version may move on while the observation's digest stays the same. `altered`:
    this deed itself has changed it already, in an earlier request.
    """

    uid: str = ""
    version: str = ""
    entry: Entry | None = None
    by_digest: bool = False
    altered: bool = False


class Contacts:
    """A lock an object for who meets it for the first time; kept while somebody waits for it."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[anyio.Lock, int]] = {}

    @asynccontextmanager
    async def of(self, identity: str) -> AsyncIterator[None]:
        """Be the only one with this object."""
        lock, waiting = self._locks.get(identity, (anyio.Lock(), 0))
        self._locks[identity] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._locks.pop(identity)
            if waiting > 1:
                self._locks[identity] = (lock, waiting - 1)


def rules_of(request: ApplyRequest) -> tuple[FieldRule, ...]:
    """Return which fields an apply leaves as they are live: as it says, and what is scaled.

    What scales is looked for only where the manifest names replicas at all.
    """
    spec = request.body.get("spec")
    is_scalable = isinstance(spec, Mapping) and "replicas" in spec
    return (*request.leave, SCALED_BY_CLUSTER) if is_scalable else request.leave


def path_of(info: KindInfo, ref: ObjectRef) -> str:
    """Return an object's path. Raises `NotSent` where its name or namespace make none."""
    if info.namespaced and not ref.namespace:
        raise NotSent(invalid(f"A {ref.kind} needs a namespace."))
    namespace = ref.namespace if info.namespaced else ""
    if not is_segment(ref.name) or (namespace and not is_segment(namespace)):
        raise NotSent(invalid("The name or the namespace has characters that no object's has."))
    return object_path(info, namespace, ref.name)


def sent(
    body: Mapping[str, Any], info: KindInfo, ref: ObjectRef, uid: str, version: str
) -> dict[str, Any]:
    """Return the body of an apply, with its preconditions where they are not ""."""
    metadata = dict(body.get("metadata") or {})
    # These two say what the object must be, so that whatever the manifest carried is not sent.
    for field, value in (("uid", uid), ("resourceVersion", version)):
        metadata.pop(field, None)
        if value:
            metadata[field] = value
    metadata.pop("managedFields", None)
    metadata["name"] = ref.name
    if info.namespaced:
        metadata["namespace"] = ref.namespace
    else:
        metadata.pop("namespace", None)
    return {**body, "apiVersion": ref.api_version, "kind": ref.kind, "metadata": metadata}


def encoded(body: Mapping[str, Any]) -> bytes:
    """Return the JSON that is sent. Raises `NotSent`; the message holds no value."""
    try:
        return orjson.dumps(body)
    except TypeError:
        raise NotSent(invalid("The object holds a value that JSON has no form for.")) from None


def delete_options(uid: str, version: str) -> bytes:
    """Return the body of a delete with its preconditions."""
    preconditions = {"uid": uid}
    if version:
        preconditions["resourceVersion"] = version
    return orjson.dumps(
        {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": preconditions,
            "propagationPolicy": "Background",
        }
    )


def is_ending(live: Mapping[str, Any]) -> bool:
    """Whether a deleted object stays for a while: it has finalizers, or time to end in."""
    metadata = live.get("metadata")
    if not isinstance(metadata, Mapping) or not metadata.get("deletionTimestamp"):
        return False
    spec = live.get("spec")
    return bool(
        metadata.get("finalizers")
        or metadata.get("deletionGracePeriodSeconds")
        or (
            live.get("kind") == "Namespace" and isinstance(spec, Mapping) and spec.get("finalizers")
        )
    )


def owner_annotation(live: Mapping[str, Any]) -> str:
    """Return an object's owner annotation, "" where it has none."""
    metadata = live.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    value = annotations.get(OWNER_ANNOTATION) if isinstance(annotations, Mapping) else None
    return value if isinstance(value, str) else ""


def owned_by_another(
    seen: Look, body: Mapping[str, Any], owners: Collection[str] = ()
) -> Answer | None:
    """Return the conflict where an object that is there belongs to another application or log.

    Not where a person said that it may be taken from one of `owners`, applications of this log.
    """
    theirs, ours = owner_annotation(seen.live), owner_annotation(body)
    if seen.owner is None or theirs == ours:
        return None
    shown = f"{seen.owner.project}/{seen.owner.application}"
    if shown in owners and ours.startswith(f"{seen.owner.log_id}/"):
        return None
    claims = ours.partition("/")[2]
    where = "" if ours.startswith(f"{seen.owner.log_id}/") else " of another Trueup"
    return Answer(
        outcome=Outcome.CONFLICT,
        uid=seen.uid,
        resource_version=seen.version,
        message=f"Two applications claim it: it belongs to {shown}{where}, and {claims} declares "
        "it too. Remove it from one of them.",
        managers=(f"trueup:{shown}",),
    )


def outcome_of(before: Before, seen: Look, response: Response) -> Outcome:
    """Return what an apply that went well has come to."""
    if response.status == 201:
        return Outcome.CREATED
    if before.altered:
        return Outcome.CHANGED
    entry = before.entry
    # Not by version alone: it may have moved on through status since the entry was made.
    if entry is not None and (entry.uid, entry.body, entry.signature) == (
        seen.uid,
        seen.body,
        seen.signature,
    ):
        return Outcome.UNCHANGED
    return Outcome.UNCHANGED if before.version == seen.version else Outcome.CHANGED


def refused(response: Response, secret: bool) -> Answer:
    """Return what a refused request came to."""
    found = refusal(response, secret)
    return Answer(
        outcome=found.outcome,
        message=found.message,
        managers=found.managers,
        retry_after=response.retry_after,
    )


def unreachable(error: Unreachable) -> Answer:
    """Return what a request without an answer came to; it may have had its effect."""
    return Answer(outcome=Outcome.UNREACHABLE, message=error.message)


def invalid(message: str) -> Answer:
    """Return what a request that no server would take came to."""
    return Answer(outcome=Outcome.INVALID, message=message)


def stale(message: str) -> Answer:
    """Return what a deed on an object that has moved on came to."""
    return Answer(outcome=Outcome.STALE, message=message)
