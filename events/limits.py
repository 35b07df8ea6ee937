"""What an append may hold, and what is refused before it reaches the log.

Pure. The limits keep one caller from making everybody else's batch slow, and the checks keep out
what Postgres could not store, so that one bad event never fails the batch it is in.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from events.catalog import CATALOG
from events.event import Blob, Digest, EventId, NewEvent, Position, digest_of

MAX_PAYLOAD = 2**20
"""Bytes of one event's payload."""
MAX_BLOB = 16 * 2**20
"""Bytes of one body."""
MAX_EVENTS = 10_000
"""Events of one append."""
MAX_BYTES = 64 * 2**20
"""Bytes of one append: payloads and bodies."""
MAX_NAME = 1024
"""Bytes of a stream's name, an actor, a correlation or a traceparent, as UTF-8."""
MAX_PAGE = 10_000
"""Events of one page."""
REMEMBERED = 7 * 24 * 3600 * 1000
"""Milliseconds for which event ids are remembered; an id made earlier is refused."""

_UNWRITABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_INT64 = 2**63
_REMEMBERED_TEXTS = 10_000
_writable: set[str] = set()
"""Texts that were looked at and are good: the same streams and actors come again and again."""


def check_events(events: Sequence[NewEvent]) -> None:
    """Refuse, with a ValueError that says what to do, events that no log could hold."""
    if not events:
        raise ValueError("an append needs at least one event")
    if len(events) > MAX_EVENTS:
        raise ValueError(f"{len(events)} events in one append; at most {MAX_EVENTS}: split them")
    seen: set[EventId] = set()
    for event in events:
        _check_event(event)
        if event.event_id in seen:
            raise ValueError(f"event id {event.event_id} twice in one append: each needs its own")
        seen.add(event.event_id)


def _check_event(event: NewEvent) -> None:
    if not _UUID7.fullmatch(event.event_id):
        raise ValueError(f"event id {event.event_id!r} is not a UUIDv7 in canonical form")
    name = type(event.fact).__name__
    if CATALOG.get(name) is not type(event.fact):
        raise ValueError(f"{name} is not a type of the catalogue: what is not known is not written")
    if not event.stream or not event.actor:
        raise ValueError(f"event {event.event_id} needs a stream and an actor")
    for what, text in (
        ("stream", event.stream),
        ("actor", event.actor),
        ("correlation", event.correlation),
        ("traceparent", event.traceparent),
    ):
        if text not in _writable:
            _check_text(what, text)
    if not 0 <= event.occurred_at < _INT64:
        raise ValueError(f"occurred_at {event.occurred_at} is not in microseconds since 1970")
    if event.causation is not None and not 0 < event.causation < _INT64:
        raise ValueError(f"causation {event.causation} is not a position")


def _check_text(what: str, text: str) -> None:
    if _UNWRITABLE.search(text):
        raise ValueError(f"the {what} {text!r} has a control character or half a character")
    if len(text) * 4 > MAX_NAME and len(text.encode()) > MAX_NAME:
        raise ValueError(f"a {what} of more than {MAX_NAME} bytes: {text[:60]!r}…")
    if len(_writable) >= _REMEMBERED_TEXTS:
        _writable.clear()
    _writable.add(text)


def check_blobs(blobs: Collection[Blob]) -> None:
    """Refuse bodies that are too large or are not what their digest says (ValueError)."""
    for blob in blobs:
        if len(blob.body) > MAX_BLOB:
            raise ValueError(f"body {blob.digest} has {len(blob.body)} bytes; at most {MAX_BLOB}")
        if digest_of(blob.body) != blob.digest:
            raise ValueError(f"a body is not what its digest says: {blob.digest!r}")


def digest_bytes(digest: Digest) -> bytes:
    """Return the 32 bytes of a digest; raises ValueError for what is none."""
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"{digest!r} is not a digest: sha256: and 64 hexadecimal digits")
    return bytes.fromhex(digest[7:])


def digest_text(digest: bytes) -> Digest:
    """Return a digest's text form."""
    return Digest("sha256:" + digest.hex())


def check_page(after: int, limit: int) -> None:
    """Refuse a page of less than one event, or of too many, or from nowhere (ValueError)."""
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"a page of {limit} events; 1 to {MAX_PAGE}")
    if not 0 <= after < _INT64:
        raise ValueError(f"{after} is not a position")


def is_name(text: str) -> bool:
    """Whether a stream or type of this name could be in a log at all."""
    return not _UNWRITABLE.search(text)


def places(positions: Collection[Position]) -> list[Position]:
    """Return positions sorted, each once, without those that no log has (ValueError: too many)."""
    if len(positions) > MAX_PAGE:
        raise ValueError(f"{len(positions)} positions at once; at most {MAX_PAGE}")
    return sorted({position for position in positions if 0 < position < _INT64})


def clamp(micros: int) -> int:
    """Return a time within what a log can hold."""
    return max(-1, min(micros, _INT64 - 1))


def made_at(event_id: EventId) -> int:
    """Return when a UUIDv7 says that it was made, in milliseconds since the epoch."""
    return int(event_id[:8] + event_id[9:13], 16)
