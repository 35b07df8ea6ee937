"""Digests that tell quickly whether an object changed, and whether that counts. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from engine.objects.canonical import digest_of
from engine.objects.identity import ObjectRefused
from engine.objects.kept import Kept, extract
from engine.objects.managed import STATUS, own_raw
from events.vocabulary import Difference, Health, Presence

VOLATILE: Final = ("generation", "managedFields", "resourceVersion", "selfLink")
"""Bookkeeping in an object's metadata."""
NOTHING: Final = b""
"""The body hash and signature of what was never seen."""


def body_hash(live: Mapping[str, Any]) -> bytes:
    """Return 16 bytes that are equal while an object's body is: all but status and bookkeeping.

    uid and deletionTimestamp are part of it; resourceVersion, generation and managedFields are
    not. Quick, so that the order of keys counts: a server always writes them in one order. Raises
    `ObjectRefused("bad-value")` on what is nested too deeply.
    """
    body = {key: value for key, value in live.items() if key != "status"}
    metadata = live.get("metadata")
    if type(metadata) is dict:
        body["metadata"] = lean = metadata.copy()
        for name in VOLATILE:
            lean.pop(name, None)
    return _short(body)


def managed_signature(live: Mapping[str, Any]) -> bytes:
    """Return 16 bytes that are equal while the same managers own the same fields.

    Times do not count, and neither does who writes status. Raises `ObjectRefused("bad-value")`.
    """
    metadata = live.get("metadata")
    managed = metadata.get("managedFields") if type(metadata) is dict else None
    if not isinstance(managed, list):
        return _short([])
    return _short(
        [
            (
                entry.get("manager"),
                entry.get("operation"),
                entry.get("subresource"),
                entry.get("apiVersion"),
                entry.get("fieldsV1"),
            )
            for entry in managed
            if isinstance(entry, Mapping) and entry.get("subresource") != STATUS
        ]
    )


def change_digest(
    kept: Kept | None,
    live: Mapping[str, Any],
    foreign: Sequence[Difference],
    health: Health,
    message: str,
    presence: Presence,
    *,
    is_frozen: bool = False,
) -> str:
    """Return the digest of what counts as a change of an object (`Observation.digest`).

    That is: which object it is, whether it is there, our fields with their values, which of them
    we own, where others have fields of their own (not their values), health and its message.
    Without a kept form the whole body counts. `live` is redacted beforehand. `is_frozen` says that
    the kept form was frozen from this very object, which saves comparing the two.
    """
    metadata = live.get("metadata")
    uid = metadata.get("uid", "") if isinstance(metadata, Mapping) else ""
    others = sorted(
        {(found.path, found.manager, found.operation, found.subresource) for found in foreign}
    )
    ours: Any = body_hash(live).hex()
    if kept is not None:
        ours = [kept.values if is_frozen else extract(kept, live), own_raw(live)]
    return digest_of(_bytes([uid, presence.value, health.value, message, others, ours]))


def storable(live: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is stored of a live object: all but its status. `live` is redacted beforehand."""
    return {key: value for key, value in live.items() if key != "status"}


def _short(value: Any) -> bytes:
    return hashlib.sha256(_bytes(value, 0)).digest()[:16]


def _bytes(value: Any, option: int = orjson.OPT_SORT_KEYS) -> bytes:
    try:
        return orjson.dumps(value, option=option)
    except TypeError as error:
        raise ObjectRefused("bad-value", f"The object cannot be written as JSON: {error}") from None
