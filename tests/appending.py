"""Events to append in tests: real ids, a fact of little weight, everything else by keyword."""

from __future__ import annotations

import secrets
import time
from typing import Any

from events.catalog import Fact, SourceFailed
from events.event import Actor, EventId, Micros, NewEvent, StreamName


def now() -> Micros:
    return Micros(time.time_ns() // 1000)


def event_id(micros: int | None = None) -> EventId:
    """A fresh UUIDv7 (RFC 9562), made now or at a given time."""
    millis = (now() if micros is None else micros) // 1000
    chance = secrets.randbits(74)
    digits = (
        f"{millis:012x}7{chance >> 62:03x}{8 | chance >> 60 & 3:x}{chance & (1 << 60) - 1:015x}"
    )
    parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    return EventId("-".join(parts))


def failed(message: str = "no route to host") -> SourceFailed:
    return SourceFailed("unreachable", message)


def new(stream: str = "repo/default/podinfo", fact: Fact | None = None, **fields: Any) -> NewEvent:
    given = {
        "event_id": event_id(),
        "stream": StreamName(stream),
        "fact": fact or failed(),
        "actor": Actor("user:test"),
        "occurred_at": Micros(1_700_000_000_000_000),
    }
    return NewEvent(**{**given, **fields})
