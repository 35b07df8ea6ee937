"""The canonical header of an event: the bytes that the Merkle tree has as its leaf.

Pure. It is a JSON array of every column of the envelope, in the order of `Header`, and of its
payload the size and the SHA-256: so bodies can be given separately, and one that had to be erased
leaves the proof standing. docs/proofs.md is its specification; it never changes, a new one gets a
new `FORMAT`.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from events.event import (
    Actor,
    Digest,
    Event,
    EventId,
    Micros,
    Position,
    StreamName,
    Version,
    digest_of,
)
from events.merkle import leaf_hash

FORMAT = "trueup.dev/event/v1"


class Header(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """All that an event says besides its payload, and which payload it is."""

    format: str
    position: Position
    stream: StreamName
    version: Version
    event_id: EventId
    type: str
    schema: int
    recorded_at: Micros
    occurred_at: Micros
    actor: Actor
    causation: Position | None
    correlation: str
    traceparent: str
    payload_size: int
    payload: Digest


class EntryWrong(Exception):
    """Bytes that are not the header of an event as they must be written."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Header)


def header_of(event: Event) -> Header:
    """Return an event's header."""
    return Header(
        FORMAT,
        event.position,
        event.stream,
        event.version,
        event.event_id,
        event.type,
        event.schema,
        event.recorded_at,
        event.occurred_at,
        event.actor,
        event.causation,
        event.correlation,
        event.traceparent,
        len(event.payload),
        digest_of(event.payload),
    )


def entry_of(header: Header) -> bytes:
    """Write a header as the entry that is hashed."""
    return _encoder.encode(header)


def entry_of_columns(columns: Iterable[object]) -> bytes:
    """Write the entry of an event whose columns are in the order of `Header`, behind the format."""
    return _encoder.encode((FORMAT, *columns))


def event_leaf(event: Event) -> bytes:
    """Hash an event as a leaf."""
    return leaf_hash(entry_of(header_of(event)))


def parse_entry(entry: bytes) -> Header:
    """Read an entry; raises `EntryWrong` for bytes that `entry_of` would not have written."""
    try:
        header = _decoder.decode(entry)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise EntryWrong(f"not the header of an event: {error}") from error
    if header.format != FORMAT or entry_of(header) != entry:
        raise EntryWrong(f"not written as {FORMAT} is")
    return header
