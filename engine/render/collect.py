"""From parsed documents to a desired state: each object checked, marked as ours, redacted, named.

Pure but for its input's size: run it in a thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from engine.objects.canonical import canonical, digest_of
from engine.objects.identity import ObjectRefused, ref_of
from engine.objects.ownership import stamp
from engine.objects.prepare import prepare
from engine.objects.redact import Redactor
from engine.objects.staging import staging_of
from engine.ports import Owner, Rendered, RenderRefused
from events.vocabulary import Desired, ObjectRef

_API_VERSION = re.compile(
    r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z"
)
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9]{0,62}\Z")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_SEGMENT = re.compile(r"(?!\.{1,2}\Z)[^/%\x00-\x1f\x7f]+\Z")
_SEGMENT_GROUPS = ("rbac.authorization.k8s.io", "certificates.k8s.io")
"""Groups whose names may be any path segment, `system:node` for example."""
_LONGEST_NAME = 253


class Source(Struct, frozen=True):
    """Where a document was found: a file ("" where it is what kustomize gave), place and line."""

    file: str
    document: int
    line: int
    value: dict[str, Any]


class Collector:
    """Takes documents one by one and gives the whole."""

    def __init__(self, owner: Owner, redactor: Redactor, limit: int) -> None:
        self._owner, self._redactor, self._limit = owner, redactor, limit
        self._desired: dict[str, Desired] = {}
        self._places: dict[str, str] = {}
        self._bodies: dict[str, bytes] = {}
        self._secrets: dict[str, dict[str, Any]] = {}

    def add(self, source: Source) -> None:
        """Take a document: an object, or a List of them. Raises `RenderRefused`."""
        try:
            for obj in _flat(source.value):
                self._one(obj, source)
        except ObjectRefused as refused:
            raise _refused(source, refused.code, refused.message) from None

    def finish(self, inputs: str, renderer: str) -> Rendered:
        """Return everything taken. Raises `RenderRefused("empty")` for nothing."""
        if not self._desired:
            raise RenderRefused(
                "empty", "the render has no object: nothing changes, and nothing is deleted"
            )
        return Rendered(
            inputs=inputs,
            renderer=renderer,
            objects=tuple(sorted(self._desired.values())),
            bodies=self._bodies,
            secrets=self._secrets,
        )

    def _one(self, obj: dict[str, Any], source: Source) -> None:
        ref = ref_of(obj)
        _check(ref, obj)
        identity = ref.identity
        if identity in self._desired:
            raise _refused(
                source,
                "duplicate-object",
                f"{ref} ({ref.api_version}) is there twice; the other one is in "
                f"{self._places[identity]}",
            )
        if len(self._desired) >= self._limit:
            raise _refused(source, "too-many-objects", f"more than {self._limit} objects")
        whole = stamp(prepare(obj), self._owner)
        staging = staging_of(whole)
        redacted, is_secret = self._redactor.redact(whole)
        body = canonical(redacted)
        digest = digest_of(body)
        self._desired[identity] = Desired(
            ref, digest, is_secret, staging.wave, staging.hooks, staging.cleanup
        )
        self._places[identity] = _place(source) or "the same render"
        self._bodies[digest] = body
        if is_secret:
            self._secrets[identity] = whole


def _flat(value: dict[str, Any], depth: int = 0) -> Iterable[dict[str, Any]]:
    kind = value.get("kind")
    if not (isinstance(kind, str) and kind.endswith("List") and "items" in value):
        yield value
        return
    items = value["items"]
    if depth > 8 or not (items is None or isinstance(items, list)):
        raise ObjectRefused("bad-list", f"The {kind} has items that are no list of objects.")
    for item in items or ():
        if not isinstance(item, dict):
            raise ObjectRefused("bad-list", f"The {kind} holds what is no object.")
        if kind != "List" and "kind" not in item:
            # A typed list names its items' kind once, in its own.
            item = {"apiVersion": value.get("apiVersion"), "kind": kind[: -len("List")], **item}
        yield from _flat(item, depth + 1)


def _check(ref: ObjectRef, obj: dict[str, Any]) -> None:
    if not _API_VERSION.match(ref.api_version):
        raise ObjectRefused("bad-api-version", f"apiVersion {ref.api_version!r} is none.")
    if not _KIND.match(ref.kind):
        raise ObjectRefused("bad-kind", f"kind {ref.kind!r} is none.")
    pattern = _SEGMENT if ref.group in _SEGMENT_GROUPS else _SUBDOMAIN
    if ref.kind == "Namespace" and ref.group == "":
        pattern = _LABEL
    if len(ref.name) > _LONGEST_NAME or not pattern.match(ref.name):
        raise ObjectRefused(
            "bad-name",
            f"{ref.kind} {ref.name!r}: metadata.name must be lower-case letters, digits, dashes "
            "and dots.",
        )
    if ref.namespace and not _LABEL.match(ref.namespace):
        raise ObjectRefused("bad-namespace", f"{ref}: metadata.namespace is no namespace's name.")
    for field in ("labels", "annotations"):
        values = obj["metadata"].get(field)
        if not isinstance(values, dict):
            continue  # `prepare` and `stamp` say what is wrong with it, if anything
        for key, value in values.items():
            if not isinstance(value, str) and value is not None:
                raise ObjectRefused(
                    "bad-metadata",
                    f"{ref}: metadata.{field}[{key!r}] must be text: put the value in quotes.",
                )


def _place(source: Source) -> str:
    return f"{source.file} document {source.document}" if source.file else ""


def _refused(source: Source, code: str, message: str) -> RenderRefused:
    place = f"{_place(source)}, line {source.line}: " if source.file else ""
    return RenderRefused(
        code,
        place + message,
        file=source.file,
        document=source.document,
        line=source.line if source.file else 0,
    )
