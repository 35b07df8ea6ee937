"""Whose an object is: the annotation and the label that mark it as ours. Pure.

The annotation says which application of which log owns the object. The label carries a hash of
that, so that the API server can select our objects, and so that no object of ours is without a
field of ours (without one, the server books everything to `before-first-apply`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from engine.objects.identity import ObjectRefused
from engine.ports import Owner

MANAGER: Final = "trueup"
"""Our field manager."""
OWNER_ANNOTATION: Final = "trueup.dev/owner"
OWNER_LABEL: Final = "trueup.dev/owner"
LABEL_SELECTOR: Final = OWNER_LABEL
"""Selects every object with our label, whichever log wrote it."""


def label_value(owner: Owner) -> str:
    """Return the label's value: 32 hexadecimal digits of the annotation's SHA-256."""
    return hashlib.sha256(owner.annotation.encode()).hexdigest()[:32]


def label_selector(owner: Owner | None = None) -> str:
    """Return the selector of every object with our label, or of one owner's objects."""
    return LABEL_SELECTOR if owner is None else f"{OWNER_LABEL}={label_value(owner)}"


def stamp(obj: Mapping[str, Any], owner: Owner) -> dict[str, Any]:
    """Return a copy of an object that carries our label and annotation; the input is left alone.

    What a manifest itself writes under these two names is replaced. Raises
    `ObjectRefused("bad-metadata")` where metadata, labels or annotations are not maps.
    """
    metadata = _map(obj.get("metadata"), "metadata")
    metadata["labels"] = _map(metadata.get("labels"), "metadata.labels")
    metadata["labels"][OWNER_LABEL] = label_value(owner)
    metadata["annotations"] = _map(metadata.get("annotations"), "metadata.annotations")
    metadata["annotations"][OWNER_ANNOTATION] = owner.annotation
    return {**obj, "metadata": metadata}


def owner_of(live: Mapping[str, Any]) -> Owner | None:
    """Return whose a live object is by its annotation, None where it is nobody's.

    The label is not compared: one that somebody changed is drift of an object that is still ours.
    But an object with a controller and without the label is that controller's: a Deployment's
    annotations are copied to its ReplicaSets, a Service's labels to its EndpointSlices.
    """
    metadata = live.get("metadata")
    if not isinstance(metadata, Mapping):
        return None
    annotations = metadata.get("annotations")
    value = annotations.get(OWNER_ANNOTATION) if isinstance(annotations, Mapping) else None
    if not isinstance(value, str):
        return None
    parts = value.split("/")
    if len(parts) != 3 or not all(parts):
        return None
    labels = metadata.get("labels")
    if not (isinstance(labels, Mapping) and OWNER_LABEL in labels) and _has_controller(metadata):
        return None
    return Owner(*parts)


def _has_controller(metadata: Mapping[str, Any]) -> bool:
    references = metadata.get("ownerReferences")
    return isinstance(references, list) and any(
        isinstance(reference, Mapping) and reference.get("controller") is True
        for reference in references
    )


def _map(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ObjectRefused("bad-metadata", f"{where} must be a map of fields.")
    return dict(value)
