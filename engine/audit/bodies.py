"""Whether the bodies that payloads name are in an export, and are what their digests say."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from engine.audit import layout
from engine.audit.fault import Fault
from engine.audit.files import read
from events.codec import CodecError, fact_of
from events.entry import EntryWrong, Header, parse_entry
from events.event import Digest, Event
from events.naming import REDACTED, listed, named, redacted_in
from events.tiles import unpack

MAX_BODY = 64 * 2**20
_REMEMBER = 100_000
_UNSORTED = 1000


class Bodies:
    """Looks each body up where an event names it; `blobs` is how many were right.

    Memory is bounded: a body that is named again after very many others is looked at again.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._folder, self._size = folder, size
        self._root = str(folder)
        self._known: OrderedDict[Digest, None] = OrderedDict()
        self._redacted: set[Digest] | None = None
        self.met: list[Digest] = []
        """Those that were found and right since this was emptied."""

    def check(self, header: Header, payload: bytes) -> None:
        """Check what an event names; raises `Fault`."""
        needed: set[Digest] | None = None
        for digest in layout.named_in(payload):
            if self._is_known(digest):
                continue
            body = self._body(digest, header.position)
            if body is None:
                needed = needed_by(header, payload) if needed is None else needed
                if digest in needed:
                    self._missing(digest, header.position)
            elif layout.is_list(body):
                self._check_listed(body, header.position)

    def _check_listed(self, body: bytes, position: int) -> None:
        needed = set(listed(body))
        for digest in layout.named_in(body):
            if self._is_known(digest) or self._body(digest, position) is not None:
                continue
            if digest in needed:
                self._missing(digest, position)

    def _is_known(self, digest: Digest) -> bool:
        if digest not in self._known:
            return False
        self._known.move_to_end(digest)
        return True

    def _body(self, digest: Digest, position: int) -> bytes | None:
        name = layout.body_name(digest)
        # Most of what looks like a digest is none of a body: a path object for each would cost more
        # than all the rest.
        if not os.path.lexists(f"{self._root}/{name}"):
            return None
        body = read(self._folder, name, MAX_BODY, position)
        if sha256(body).hexdigest() != digest[7:]:
            raise Fault("a body that this event names was altered", position, file=name)
        self.met.append(digest)
        self._known[digest] = None
        if len(self._known) > _REMEMBER:
            self._known.popitem(last=False)
        return body

    def _missing(self, digest: Digest, position: int) -> None:
        if self._redacted is None:
            self._redacted = redactions(self._folder, self._size)
        if digest not in self._redacted:
            raise Fault(
                "a body that this event names is missing, and no event says that it was redacted",
                position,
                file=layout.body_name(digest),
            )


def needed_by(header: Header, payload: bytes) -> set[Digest]:
    """Return the bodies that an event must have: none, if a later release wrote it."""
    event = Event(
        position=header.position,
        stream=header.stream,
        version=header.version,
        event_id=header.event_id,
        type=header.type,
        schema=header.schema,
        recorded_at=header.recorded_at,
        occurred_at=header.occurred_at,
        actor=header.actor,
        causation=header.causation,
        correlation=header.correlation,
        traceparent=header.traceparent,
        payload=payload,
    )
    try:
        return set(named(fact_of(event)))
    except CodecError:
        return set()  # it was signed like this; what it means is not for a proof to say


def redactions(folder: Path, size: int) -> set[Digest]:
    """Look all entries through for bodies that were redacted.

    Entries need not be verified for that: whoever made one up is found where it stands.
    """
    found = set()
    for index, width in layout.bundles_of(size):
        path = layout.entries_file(folder, index, width)
        data = path.read_bytes() if path.is_file() else b""
        if REDACTED.encode() not in data:
            continue
        for entry in unpack(data)[0]:
            try:
                header = parse_entry(entry)
            except EntryWrong:
                continue  # the walk gets there, and says so
            if header.type == REDACTED:
                found.add(redacted_in(header.stream))
    return found


class Digests:
    """A set of digests, eight bytes each.

    Eight bytes tell apart what is there by chance; and a file that was made to agree in them would
    still have to be the body of its own name.
    """

    def __init__(self) -> None:
        self._rows = [array("Q") for _ in range(256)]
        self._new: list[set[int]] = [set() for _ in range(256)]

    def add(self, digests: Iterable[Digest]) -> None:
        """Take digests in."""
        for digest in digests:
            new = self._new[int(digest[7:9], 16)]
            new.add(int(digest[7:23], 16))
            if len(new) > _UNSORTED:
                self._sort(int(digest[7:9], 16))

    def __contains__(self, digest: object) -> bool:
        """Whether a digest was taken in."""
        if not isinstance(digest, str):
            return False
        item, shard = int(digest[7:23], 16), int(digest[7:9], 16)
        return item in self._new[shard] or _is_in(self._rows[shard], item)

    def __len__(self) -> int:
        """How many different ones were taken in."""
        for shard in range(256):
            self._sort(shard)
        return sum(map(len, self._rows))

    def _sort(self, shard: int) -> None:
        row, new = self._rows[shard], self._new[shard]
        self._rows[shard] = array("Q", sorted({*row, *new})) if new else row
        new.clear()


def _is_in(row: array[int], item: int) -> bool:
    at = bisect_left(row, item)
    return at < len(row) and row[at] == item
