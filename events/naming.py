"""Which bodies facts name, that must be kept for them.

Pure. What is written like a digest need not be one of a body: an image's digest is not.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from events.catalog import BodyRedacted, DesiredRendered, Fact, ObjectsObserved
from events.event import Digest, StreamName
from events.vocabulary import Desired

REDACTED = BodyRedacted.__name__
_listing = msgspec.json.Decoder(tuple[Desired, ...])


def named(fact: Fact) -> Iterator[Digest]:
    """Yield the digests of the bodies that a fact names, and that are kept for it."""
    match fact:
        case DesiredRendered():
            yield from _there(fact.objects)
        case ObjectsObserved():
            for seen in fact.objects:
                yield from _there(seen.body, seen.kept)
    for result in getattr(fact, "results", ()):
        yield from _there(result.kept)
        if result.observed is not None:
            yield from _there(result.observed.body)


def listed(body: bytes) -> Iterator[Digest]:
    """Yield the digests of the bodies that a list of desired objects names; none for others.

    What is secret is in no body that is kept.
    """
    if not body.startswith(b"["):
        return
    try:
        objects = _listing.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    yield from (Digest(item.digest) for item in objects if not item.secret)


def redacted_in(stream: StreamName) -> Digest:
    """Return the digest that a `BodyRedacted` is about: its stream is the body's own."""
    return Digest(f"sha256:{stream.rpartition('/')[2]}")


def _there(*digests: str | None) -> Iterator[Digest]:
    yield from (Digest(digest) for digest in digests if digest)
