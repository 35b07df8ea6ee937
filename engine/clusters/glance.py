"""Whether what a watch brought can be news at all: told from its bytes, mostly undecoded. Pure.

Of a hundred updates of an object, all but a few differ in status and in times alone. Whatever
else it holds, the object is the one that was looked at before where those bytes are equal, and
then no more is to be found out than how it fares.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec import Raw, Struct

from engine.objects.digest import VOLATILE
from engine.objects.health_rules import BUILT_IN, HealthRules
from engine.objects.managed import STATUS
from events.vocabulary import ObjectRef

NOTHING = b""
"""The essence of what cannot be told by its bytes."""


class _Owned(Struct, rename="camel"):
    """An entry of managedFields but for its times."""

    manager: Raw = Raw(b"null")
    operation: Raw = Raw(b"null")
    api_version: Raw = Raw(b"null")
    subresource: str = ""
    fields_v1: Raw = msgspec.field(default=Raw(b"null"), name="fieldsV1")


_map = msgspec.json.Decoder(dict[str, Raw])
_entries = msgspec.json.Decoder(list[_Owned])
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Glance(Struct, frozen=True, gc=False):
    """An object's parts. `essence` is 16 bytes that are equal while all is but status and times."""

    essence: bytes
    parts: dict[str, Raw]
    metadata: dict[str, Raw]

    def fares(self, ref: ObjectRef, rules: HealthRules = BUILT_IN) -> bytes:
        """Return the hash of its health; `NOTHING` where it cannot be read."""
        live: dict[str, Any] = {"apiVersion": ref.api_version, "kind": ref.kind}
        try:
            live.update((name, _decode(part)) for name, part in self.parts.items())
            live["metadata"] = {name: _decode(part) for name, part in self.metadata.items()}
        except _UNREADABLE:
            return NOTHING
        return fares_of(*rules.of(live))


def glance(ref: ObjectRef, body: bytes) -> Glance | None:
    """Take an object apart; None where it has to be looked at.

    A Secret always has: its values go into no hash that is not keyed.
    """
    if ref.kind == "Secret":
        return None
    try:
        parts = _map.decode(body)
        metadata = _map.decode(parts.pop("metadata", b""))
        managed = metadata.pop("managedFields", None)
        entries = _entries.decode(managed) if managed is not None else []
    except _UNREADABLE:
        return None
    status = parts.pop("status", None)
    volatile = {name: found for name in VOLATILE if (found := metadata.pop(name, None)) is not None}
    owners = [
        (entry.manager, entry.operation, entry.api_version, entry.subresource, entry.fields_v1)
        for entry in entries
        if entry.subresource != STATUS
    ]
    essence = hashlib.sha256(_encode((parts, metadata, owners))).digest()[:16]
    if status is not None:
        parts["status"] = status
    return Glance(essence, parts, metadata | volatile)


def fares_of(health: str, message: str) -> bytes:
    """Return 8 bytes that tell a health and its message."""
    return hashlib.sha256(f"{health}\n{message}".encode()).digest()[:8]
