"""One look at a live object: redacted, with what tells whether anything that counts changed. Pure.

Nothing gets past here that still has a secret value in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from engine.clusters.glance import NOTHING, fares_of
from engine.objects.canonical import canonical
from engine.objects.digest import body_hash, managed_signature, storable
from engine.objects.health_rules import BUILT_IN, HealthRules
from engine.objects.ownership import OWNER_LABEL, owner_of
from engine.objects.redact import Redactor
from engine.ports import Owner
from events.event import Blob, blob
from events.vocabulary import Health, ObjectRef, Presence


class Look(Struct, frozen=True):
    """A live object, as it may be stored. `body`, `signature`, `fares` are hashes."""

    ref: ObjectRef
    live: dict[str, Any]
    uid: str
    version: str
    presence: Presence
    health: Health
    message: str
    owner: Owner | None
    body: bytes
    signature: bytes
    fares: bytes
    essence: bytes = NOTHING
    """That of the glance before, where there was one."""


class Eyes(Struct, frozen=True):
    """How objects of a cluster are looked at: with what is redacted, and by which health rules."""

    redactor: Redactor
    rules: HealthRules = BUILT_IN

    def redact(self, body: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """Return an object without its secret values; see `Redactor.redact`."""
        return self.redactor.redact(body)


def look(ref: ObjectRef, live: dict[str, Any], eyes: Eyes, essence: bytes = NOTHING) -> Look:
    """Look at an object as the API server sent it. Raises `ObjectRefused`."""
    # Items of a list come without these two.
    live = {"apiVersion": ref.api_version, "kind": ref.kind} | live
    live, _ = eyes.redact(live)
    metadata = live["metadata"]
    health, message = eyes.rules.of(live)
    return Look(
        ref=ref,
        live=live,
        uid=str(metadata.get("uid", "")),
        version=str(metadata.get("resourceVersion", "")),
        presence=(Presence.TERMINATING if metadata.get("deletionTimestamp") else Presence.PRESENT),
        health=health,
        message=message,
        owner=owner_of(live),
        body=body_hash(live),
        signature=managed_signature(live),
        fares=fares_of(health, message),
        essence=essence,
    )


def is_labelled(live: dict[str, Any]) -> bool:
    """Whether an object has our label, so that lists and watches bring it."""
    labels = live["metadata"].get("labels")
    return isinstance(labels, dict) and OWNER_LABEL in labels


def body_of(seen: Look) -> Blob:
    """Return the object as it is stored: redacted, without its status."""
    return blob(canonical(storable(seen.live)))
