"""Bytes <-> facts. Old shapes are upcast here; stored bytes never change.

Pure. A payload is the JSON of the fact, its fields in the order of the catalogue, defaults left
out. An upcaster turns the plain JSON of (type, schema) into that of schema + 1; where a schema only
added fields (`events.shapes`) none is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from events.catalog import CATALOG, Fact
from events.event import Event
from events.shapes import ADDED

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTERS: dict[tuple[str, int], Upcaster] = {}

_encoder = msgspec.json.Encoder()
_decoders = {name: msgspec.json.Decoder(cls) for name, cls in CATALOG.items()}


class CodecError(Exception):
    """A stored payload cannot be read as the type that it says it is."""


class UnknownFact(Fact, frozen=True):
    """A fact of a type or schema that this release does not know; carried, never dropped."""

    type: str
    type_schema: int
    payload: bytes


def encode(fact: Fact) -> bytes:
    """Return the payload of a fact."""
    return _encoder.encode(fact)


def type_of(fact: Fact) -> tuple[str, int]:
    """Return a fact's type name and schema number."""
    return type(fact).__name__, type(fact).schema


def fact_of(event: Event) -> Fact:
    """Decode an event's payload, upcasting it to today's shape.

    An event from a later release comes back as `UnknownFact`. Raises `CodecError` where the bytes
    are not what the envelope says.
    """
    cls = CATALOG.get(event.type)
    if cls is None or event.schema > cls.schema:
        return UnknownFact(event.type, event.schema, event.payload)
    try:
        if event.schema == cls.schema:
            return _decoders[event.type].decode(event.payload)
        altered = [s for s in range(event.schema, cls.schema) if (event.type, s + 1) not in ADDED]
        if not altered:
            return _decoders[event.type].decode(event.payload)
        plain = msgspec.json.decode(event.payload)
        for schema in altered:
            plain = UPCASTERS[event.type, schema](plain)
        return msgspec.convert(plain, cls)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise CodecError(
            f"the event at position {event.position} does not read as {event.type} "
            f"schema {event.schema}: {error}; run `trueup fsck` to see whether the log was altered"
        ) from error
