"""From parsed documents to a desired state: flattened, checked, prepared, stamped, redacted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from engine.objects.canonical import canonical, digest_of
from engine.objects.identity import ObjectRefused, ref_of
from engine.objects.ownership import stamp
from engine.objects.prepare import prepare
from engine.objects.redact import Redactor
from engine.objects.yaml import Document, YamlRefused, parse_documents
from engine.ports import Owner, Rendered, RenderRefused
from events.vocabulary import Desired

MAX_OBJECTS = 10_000
_KUSTOMIZE_GROUP = "kustomize.config.k8s.io/"

Placed = tuple[str, Document]
"""A document, and the file that it stands in."""


def documents_of(file: str, body: bytes) -> list[Placed]:
    """Parse a file. Raises `RenderRefused` with its name."""
    try:
        return [(file, document) for document in parse_documents(body)]
    except YamlRefused as refused:
        raise RenderRefused(
            refused.code,
            refused.message,
            file=file,
            document=refused.document,
            line=refused.line,
        ) from None


def rendered(
    documents: Sequence[Placed], inputs: str, renderer: str, owner: Owner, redactor: Redactor
) -> Rendered:
    """Turn documents into a desired state. Raises `RenderRefused` that names the place."""
    found: dict[str, Desired] = {}
    bodies: dict[str, bytes] = {}
    secrets: dict[str, dict[str, Any]] = {}
    for file, document in documents:
        for value in _flat(document.value, file, document):
            desired, body, whole = _one(value, owner, redactor, file, document)
            identity = desired.ref.identity
            if identity in found:
                raise _refuse("duplicate-object", f"{desired.ref} is there twice", file, document)
            if len(found) == MAX_OBJECTS:
                message = f"more than {MAX_OBJECTS} objects; split the application"
                raise _refuse("too-many-objects", message, file, document)
            found[identity] = desired
            bodies[desired.digest] = body
            if desired.secret:
                secrets[identity] = whole
    if not found:
        message = "the render is empty; to delete everything, delete the application"
        raise RenderRefused("empty", message)
    return Rendered(
        inputs=inputs,
        renderer=renderer,
        objects=tuple(sorted(found.values())),
        bodies=bodies,
        secrets=secrets,
    )


def _one(
    value: dict[str, Any], owner: Owner, redactor: Redactor, file: str, document: Document
) -> tuple[Desired, bytes, dict[str, Any]]:
    try:
        ref = ref_of(value)
        whole = stamp(prepare(value), owner)
        redacted, secret = redactor.redact(whole)
        body = canonical(redacted)
    except ObjectRefused as refused:
        raise _refuse(refused.code, str(refused), file, document) from None
    if "/" in ref.name or "%" in ref.name or ref.name in (".", ".."):
        raise _refuse("bad-name", f"{ref.name!r} is no name of an object", file, document)
    return Desired(ref, digest_of(body), secret), body, whole


def _flat(value: dict[str, Any], file: str, document: Document) -> Iterator[dict[str, Any]]:
    api_version, kind = value.get("apiVersion"), value.get("kind")
    if isinstance(api_version, str) and api_version.startswith(_KUSTOMIZE_GROUP):
        return
    items = value.get("items")
    if isinstance(kind, str) and kind.endswith("List") and isinstance(items, list):
        for item in items:
            if not isinstance(item, dict):
                raise _refuse("bad-list", f"an item of the {kind} is no object", file, document)
            yield from _flat(item, file, document)
    else:
        yield value


def _refuse(code: str, message: str, file: str, document: Document) -> RenderRefused:
    return RenderRefused(code, message, file=file, document=document.index, line=document.line)
