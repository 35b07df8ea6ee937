"""Verifies what belongs to 256 events: entries, the tile of their hashes, payloads and bodies.

Nothing here needs what comes before or after, so many can be gone through at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from engine.audit import layout
from engine.audit.bodies import Bodies
from engine.audit.fault import Fault, first_difference
from engine.audit.files import read, read_tile
from events.catalog import CheckpointKeyAdded
from events.entry import EntryWrong, Header, parse_entry
from events.event import Digest, digest_of
from events.merkle import complete_root, leaf_hash
from events.tiles import MAX_ENTRY, WIDTH, Tile, bundle_path, unpack

_MAX_PAYLOADS = WIDTH * 2**21
_KEY_ADDED = CheckpointKeyAdded.__name__


class Checked(Struct, frozen=True):
    """A bundle that is right. `leaves` are the hashes of its events, `root` that over 256 of them.

    `payloads` and `withheld` are counts; `bodies` were found and right, and perhaps looked at in an
    earlier bundle too. `keys` are the payloads of events that enter a key (None: withheld), each
    with its position.
    """

    leaves: list[bytes]
    root: bytes | None
    payloads: int
    withheld: int
    bodies: list[Digest]
    keys: list[tuple[int, bytes | None]]


class Bundles:
    """Verifies the bundles of an export of `size` events, in any order."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._has_payloads = (folder / layout.PAYLOADS).is_dir()
        has_blobs = (folder / layout.BLOBS).is_dir()
        self._bodies = Bodies(folder, size) if has_blobs else None

    def check(self, index: int, width: int) -> Checked:
        """Verify one bundle; raises `Fault` for the first event that is not right."""
        first = index * WIDTH
        entries = self._entries(index, width)
        leaves = [leaf_hash(entry) for entry in entries]
        self._check_leaves(Tile(0, index, width), leaves, entries)
        headers = [_header(first + number, entry) for number, entry in enumerate(entries, 1)]
        found = self._check_payloads(index, headers) if self._has_payloads else [None] * width
        withheld = found.count(None)
        bodies: list[Digest] = []
        if self._bodies is not None:
            bodies, self._bodies.met = self._bodies.met, []
        return Checked(
            leaves,
            complete_root(leaves) if width == WIDTH else None,
            width - withheld,
            withheld,
            bodies,
            [
                (header.position, payload)
                for header, payload in zip(headers, found, strict=True)
                if header.type == _KEY_ADDED
            ],
        )

    def _entries(self, index: int, width: int) -> list[bytes]:
        name = bundle_path(index, width)
        data = read(self._folder, name, (MAX_ENTRY + 2) * WIDTH, index * WIDTH + 1)
        entries, rest = unpack(data)
        if rest or len(entries) != width:
            # Those that are whole may show more exactly where it begins.
            tile = read_tile(self._folder, Tile(0, index, width))
            leaves = [leaf_hash(entry) for entry in entries]
            wrong = first_difference(leaves, tile)
            if wrong < min(len(leaves), width):
                raise Fault(_what(leaves, tile, wrong), index * WIDTH + wrong + 1, file=name)
            what = "dropped, or cut off" if len(entries) < width else "inserted behind the last"
            raise Fault(what, index * WIDTH + min(len(entries), width) + 1, file=name)
        return entries

    def _check_leaves(self, tile: Tile, leaves: list[bytes], entries: list[bytes]) -> None:
        stored = read_tile(self._folder, tile)
        if leaves == stored:
            return
        wrong = first_difference(leaves, stored)
        what = _what(leaves, stored, wrong)
        header = _header_or_none(entries[wrong])
        if header is not None and header.position != tile.index * WIDTH + wrong + 1:
            what += f": here is what was position {header.position}"
        raise Fault(f"{what}, or its hash in {tile.path}", tile.index * WIDTH + wrong + 1)

    def _check_payloads(self, index: int, headers: Sequence[Header]) -> list[bytes | None]:
        """Return the payloads, None for each that is withheld; raises `Fault`."""
        name = layout.payloads_name(index, len(headers))
        lines = read(self._folder, name, _MAX_PAYLOADS, headers[0].position).split(b"\n")
        found: list[bytes | None] = []
        for header, line in zip(headers, lines, strict=False):
            if not line and header.payload_size:
                found.append(None)
                continue
            if len(line) != header.payload_size or digest_of(line) != header.payload:
                raise Fault("the payload was altered", header.position, file=name)
            found.append(line)
            if self._bodies is not None:
                self._bodies.check(header, line)
        if len(lines) != len(headers) + 1 or lines[-1]:
            missing = min(len(lines) - 1, len(headers) - 1)
            raise Fault("a payload too many or too few", headers[missing].position, file=name)
        return found


def _header(position: int, entry: bytes) -> Header:
    try:
        header = parse_entry(entry)
    except EntryWrong as error:
        raise Fault(f"the log holds what is no event: {error}", position) from error
    if header.position != position:
        raise Fault(
            f"the log itself has position {header.position} here: events were dropped, "
            "inserted or reordered before they were signed",
            position,
        )
    return header


def _what(leaves: Sequence[bytes], stored: Sequence[bytes], at: int) -> str:
    """Tell from the hashes after a difference what was probably done there."""
    drops = at + 1 < len(stored) and leaves[at] == stored[at + 1]
    inserts = at + 1 < len(leaves) and leaves[at + 1] == stored[at]
    if drops and not inserts:
        return "dropped: here is what follows on it"
    if inserts and not drops:
        return "inserted: what belongs here comes after it"
    if leaves[at] in stored[at:]:
        return "reordered"
    return "altered"


def _header_or_none(entry: bytes) -> Header | None:
    try:
        return parse_entry(entry)
    except EntryWrong:
        return None
