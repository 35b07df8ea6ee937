"""The envelope: what every event carries, whatever happened.

Pure. A position is an event's place in the log: dense from 1, gap-free, never reused. A
version is its place in its own stream: dense from 1. Times are UTC microseconds since the
epoch, as Postgres keeps them.
"""

from __future__ import annotations

import hashlib
from typing import NewType

from msgspec import Struct

from events.catalog import Fact

Position = NewType("Position", int)
Version = NewType("Version", int)
Digest = NewType("Digest", str)
"""`sha256:` and 64 hexadecimal digits, of the bytes that a blob holds."""
StreamName = NewType("StreamName", str)
"""`<kind>/<project>/<name>`, for example `target/default/podinfo@prod-eu`."""
EventId = NewType("EventId", str)
"""A UUIDv7 in its canonical text form; also the idempotency key of its append."""
Micros = NewType("Micros", int)
"""Microseconds since 1970-01-01T00:00:00Z."""
Actor = NewType("Actor", str)
"""A pseudonymous id: `user:…`, `engine:…`, `cluster:…` or `git:…`."""

START = Position(0)
"""The position before the first event."""
ABSENT = Version(0)
"""The version of a stream that has no event yet."""


class NewEvent(Struct, frozen=True, kw_only=True, gc=False):
    """An event that asks to be appended.

    `expected` is the version that the stream must have just before this event; None asks for no
    check. Several events of one append may go to one stream: each names the version that it
    expects at its own turn, or None.
    """

    event_id: EventId
    stream: StreamName
    fact: Fact
    actor: Actor
    occurred_at: Micros
    expected: Version | None = None
    causation: Position | None = None
    correlation: str = ""
    traceparent: str = ""


class Event(Struct, frozen=True, kw_only=True, gc=False):
    """An event as the log holds it. `payload` is decoded by `events.codec.fact_of`, when needed."""

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
    payload: bytes


class Blob(Struct, frozen=True, weakref=True):
    """A body kept once under the digest of its bytes."""

    digest: Digest
    body: bytes


def blob(body: bytes) -> Blob:
    """Name `body` by its digest."""
    return Blob(digest_of(body), body)


def digest_of(body: bytes) -> Digest:
    """Return the digest that names `body`: SHA-256 (FIPS 180-4), prefixed with the algorithm."""
    return Digest("sha256:" + hashlib.sha256(body).hexdigest())


def stream(kind: str, project: str, name: str) -> StreamName:
    """Name the stream of one declared resource, or of one target."""
    return StreamName(f"{kind}/{project}/{name}")


def target_name(application: str, cluster: str) -> str:
    """Write a target as people do: `app@cluster`."""
    return f"{application}@{cluster}"
