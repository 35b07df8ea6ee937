"""Which object a manifest or a live object is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from events.vocabulary import ObjectRef

# Kubernetes allows 253 characters in a name; room for group and version, none for a hostile one.
_MAX = 512


class ObjectRefused(Exception):
    """An object that cannot be taken. `code` is stable; `message` says what is wrong with it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def ref_of(obj: Mapping[str, Any]) -> ObjectRef:
    """Return an object's reference; the namespace is "" where none is named.

    Raises `ObjectRefused` with `not-an-object`, `api-version-missing`, `kind-missing`,
    `metadata-missing`, `name-missing`, `generate-name` or `bad-namespace`.
    """
    if not isinstance(obj, Mapping):
        raise ObjectRefused("not-an-object", "A Kubernetes object must be a map of fields.")
    api_version = _text(obj, "apiVersion", "api-version-missing", "The object")
    kind = _text(obj, "kind", "kind-missing", f"The object of apiVersion {api_version}")
    metadata = obj.get("metadata")
    if not isinstance(metadata, Mapping):
        raise ObjectRefused("metadata-missing", f"The {kind} has no metadata.")
    if not metadata.get("name") and metadata.get("generateName"):
        raise ObjectRefused(
            "generate-name",
            f"The {kind} has generateName and no name: a declared object needs a name.",
        )
    name = _text(metadata, "name", "name-missing", f"The {kind}", "metadata.name")
    namespace = metadata.get("namespace")
    if namespace is None:
        namespace = ""
    elif not isinstance(namespace, str) or len(namespace) > _MAX:
        raise ObjectRefused("bad-namespace", f"{kind}/{name}: metadata.namespace must be a string.")
    return ObjectRef(api_version, kind, namespace, name)


def same(a: ObjectRef, b: ObjectRef) -> bool:
    """Whether two references mean one object, whatever API version each looks through."""
    return (
        a.kind == b.kind and a.name == b.name and a.namespace == b.namespace and a.group == b.group
    )


def _text(
    holder: Mapping[str, Any], field: str, code: str, whose: str, shown: str | None = None
) -> str:
    value = holder.get(field)
    if not isinstance(value, str) or not value:
        raise ObjectRefused(code, f"{whose} has no {shown or field} (a string that is not empty).")
    if len(value) > _MAX:
        raise ObjectRefused(code, f"{whose} has a {shown or field} over {_MAX} characters.")
    return value
