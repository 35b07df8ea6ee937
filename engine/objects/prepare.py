"""What a manifest is sent as. Pure.

The rules come from `docs/difference.md`, "Before applying": without them a later comparison sees
changes that nobody made, or misses some that somebody made.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from engine.objects.identity import ObjectRefused

# Only the server writes these; a manifest that was exported from a cluster carries them along.
# A resourceVersion or uid would be a precondition that nobody meant.
SERVER_ONLY = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generation",
        "managedFields",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)


def prepare(obj: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object as it is to be applied; the input is left alone.

    Drops `status` and what only the server writes, and empty labels and annotations. Turns a
    Secret's `stringData` into `data`, and drops `rules` of an aggregated ClusterRole. Raises
    `ObjectRefused("bad-metadata")` or `ObjectRefused("bad-secret")`; no message holds a value.
    """
    prepared = {key: value for key, value in obj.items() if key != "status"}
    metadata = obj.get("metadata")
    if metadata is not None:
        prepared["metadata"] = _metadata(metadata)
    if is_secret(obj):
        _string_data(prepared)
    elif _is_aggregated(obj):
        # The aggregation controller writes them; naming them starts a war.
        prepared.pop("rules", None)
    return prepared


def is_secret(obj: Mapping[str, Any]) -> bool:
    """Whether this is a core Secret, of whatever version."""
    return obj.get("kind") == "Secret" and "/" not in str(obj.get("apiVersion", ""))


def _metadata(metadata: Any) -> dict[str, Any]:
    if not isinstance(metadata, Mapping):
        raise ObjectRefused("bad-metadata", "metadata must be a map of fields.")
    kept = {key: value for key, value in metadata.items() if key not in SERVER_ONLY}
    for field in ("labels", "annotations"):
        # An empty map is a field of ours, and a controller that adds to it would change it.
        if field in kept and not kept[field]:
            del kept[field]
    return kept


def _string_data(secret: dict[str, Any]) -> None:
    """Replace `stringData` by `data`, as the server would: its keys win over those of `data`."""
    plain = secret.pop("stringData", None)
    if not plain:
        return
    data = secret.get("data")
    if not isinstance(plain, Mapping) or not (data is None or isinstance(data, Mapping)):
        raise ObjectRefused("bad-secret", "A Secret's data and stringData must be maps of strings.")
    secret["data"] = {**(data or {}), **{key: _encode(key, text) for key, text in plain.items()}}


def _encode(key: Any, text: Any) -> str:
    if text is None:
        return ""
    if not isinstance(text, str):
        raise ObjectRefused(
            "bad-secret", f"A Secret's stringData[{key!r}] must be a string: put it in quotes."
        )
    try:
        return b64encode(text.encode()).decode()
    except UnicodeEncodeError:
        # `from None`: the error's own text would hold the value.
        raise ObjectRefused(
            "bad-secret", f"A Secret's stringData[{key!r}] is not valid Unicode."
        ) from None


def _is_aggregated(obj: Mapping[str, Any]) -> bool:
    return (
        obj.get("kind") == "ClusterRole"
        and str(obj.get("apiVersion", "")).startswith("rbac.authorization.k8s.io/")
        and obj.get("aggregationRule") is not None
    )
