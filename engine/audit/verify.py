"""Verifies an export: offline, in bounded memory, trusting only public keys.

The tree is computed anew from the entries, and every file of the export is held against it on the
way, in the order of positions: so the first fault that is met is the first there is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from msgspec import Struct

from engine.audit import layout
from engine.audit.progress import Meter, Progress
from engine.ports import Clock
from events.entry import EntryWrong, Header, parse_entry
from events.event import Digest, digest_of
from events.merkle import HASH_BYTES, leaf_hash
from events.note import (
    MAX_NOTE,
    Checkpoint,
    NoteWrong,
    VerifierKey,
    open_checkpoint,
    parse,
    parse_verifier,
    strangers,
)
from events.tiles import MAX_ENTRY, WIDTH, Edge, Tile, edge_of, split, unpack

_MAX_PAYLOADS = WIDTH * 2**21
_MAX_BODY = 64 * 2**20
_REMEMBER = 200_000


class Fault(Exception):
    """An export does not prove what it says.

    `position` is the first that is not right; where only a range can be told, `until` is its last.
    0 where no position can be named: a file about the whole log.
    """

    def __init__(self, what: str, position: int = 0, until: int = 0, file: str = "") -> None:
        if position and until > position:
            place = f"positions {position} to {until}: "
        else:
            place = f"position {position}: " if position else ""
        super().__init__(f"{place}{what}{f' ({file})' if file else ''}")
        self.what, self.position, self.file = what, position, file
        self.until = max(position, until)


class Verified(Struct, frozen=True):
    """What was proven. `payloads` and `blobs` were there and right, `withheld` were left out."""

    checkpoint: Checkpoint
    keys: tuple[VerifierKey, ...]
    since: int
    payloads: int
    withheld: int
    blobs: int


def verify(
    folder: Path,
    pinned: Sequence[VerifierKey],
    since: Sequence[str],
    report: Callable[[Progress], None],
    clock: Clock,
) -> Verified:
    """Verify an export; `pinned` are the keys to trust (none: those in it), `since` older notes.

    Blocks; run it in a thread. Raises `Fault` for the first thing that is wrong, and OSError.
    """
    listed = _keys(folder)
    trusted = tuple(pinned) or tuple(listed)
    note = _text(folder / layout.CHECKPOINT, MAX_NOTE)
    checkpoint = _checkpoint(note, trusted, layout.CHECKPOINT)
    _check_signatures(note, [*trusted, *listed])
    landmarks = _landmarks(folder, checkpoint, [*trusted, *listed], trusted, since)
    walk = _Walk(folder, landmarks)
    meter = Meter(checkpoint.size, report, clock)
    for index, width in layout.bundles_of(checkpoint.size):
        walk.bundle(index, width)
        meter.at(index * WIDTH + width)
    walk.end()
    oldest = max((open_size(text) for text in since), default=0)
    return Verified(checkpoint, trusted, oldest, walk.payloads, walk.withheld, walk.blobs)


def open_size(note: str) -> int:
    """Return the size that a note, verified before, is of."""
    return int(note.split("\n")[1])


def _keys(folder: Path) -> list[VerifierKey]:
    lines = _text(folder / layout.KEYS, 2**20).split("\n")
    try:
        keys = [parse_verifier(line) for line in lines[:-1]]
    except NoteWrong as error:
        raise Fault(str(error), file=layout.KEYS) from error
    if lines[-1] or not keys:
        raise Fault("not public keys, one a line", file=layout.KEYS)
    return keys


def _checkpoint(note: str, keys: Sequence[VerifierKey], file: str) -> Checkpoint:
    try:
        return open_checkpoint(note, keys)
    except NoteWrong as error:
        raise Fault(f"the checkpoint is not to be trusted: {error}", file=file) from error


def _check_signatures(note: str, keys: Sequence[VerifierKey]) -> None:
    """Refuse a signature that nobody can check: it may be one that was spoilt."""
    try:
        unknown = strangers(parse(note), keys)
    except NoteWrong as error:
        raise Fault(str(error), file=layout.CHECKPOINT) from error
    for item in unknown:
        raise Fault(
            f"signed by {item.name} with the unknown key {item.key_id.hex()}: give it with --key",
            file=layout.CHECKPOINT,
        )


def _landmarks(
    folder: Path,
    checkpoint: Checkpoint,
    known: Sequence[VerifierKey],
    trusted: Sequence[VerifierKey],
    since: Sequence[str],
) -> list[tuple[Checkpoint, str]]:
    """Return the checkpoints that the tree must pass through, by size, each with where it is."""
    landmarks = [(checkpoint, layout.CHECKPOINT)]
    landmarks += [(_checkpoint(note, trusted, "--since"), "--since") for note in since]
    history = folder / layout.CHECKPOINTS
    if history.is_dir():
        for path in sorted(history.iterdir()):
            name = f"{layout.CHECKPOINTS}/{path.name}"
            found = _checkpoint(_text(path, MAX_NOTE), known, name)
            if path.name != f"{found.size:020d}":
                raise Fault(f"this is the checkpoint of {found.size} events", file=name)
            landmarks.append((found, name))
    for found, name in landmarks:
        if found.origin != checkpoint.origin:
            raise Fault(
                f"{name} is of {found.origin}, and the export of {checkpoint.origin}: a restore "
                "that lost events makes it another log, and the event RestoreAccepted says which"
            )
        if found.size > checkpoint.size:
            raise Fault(
                f"{name} is of {found.size} events, and the export of {checkpoint.size}: "
                "the last ones are missing",
                checkpoint.size + 1,
                found.size,
            )
    return sorted(landmarks, key=lambda pair: pair[0].size)


class _Walk:
    """Goes through an export from the first event to the last."""

    def __init__(self, folder: Path, landmarks: list[tuple[Checkpoint, str]]) -> None:
        self._folder, self._landmarks = folder, landmarks
        self._edge = Edge()
        self._passed = 0
        self._has_payloads = (folder / layout.PAYLOADS).is_dir()
        self._has_blobs = (folder / layout.BLOBS).is_dir()
        self._right: OrderedDict[Digest, None] = OrderedDict()
        self.payloads = self.withheld = self.blobs = 0

    def bundle(self, index: int, width: int) -> None:
        """Verify the entries, the hashes and the payloads of one bundle."""
        first = index * WIDTH
        entries = self._entries(index, width)
        leaves = [leaf_hash(entry) for entry in entries]
        self._check_leaves(Tile(0, index, width), leaves, entries)
        headers = [self._header(first + number, entry) for number, entry in enumerate(entries, 1)]
        if self._has_payloads:
            self._check_payloads(index, headers)
        self._add(first, leaves)

    def _add(self, first: int, leaves: list[bytes]) -> None:
        """Extend the tree, looking at its root at each landmark on the way."""
        start = 0
        while self._landmarks and self._landmarks[0][0].size <= first + len(leaves):
            landmark, name = self._landmarks.pop(0)
            end = landmark.size - first
            self._extend(leaves[start:end])
            start = end
            if self._edge.root() != landmark.root:
                raise Fault(
                    f"what {name} was signed for was another log: events, and all that was "
                    "computed from them, were changed together",
                    self._passed + 1,
                    landmark.size,
                )
            self._passed = landmark.size
        self._extend(leaves[start:])

    def _extend(self, leaves: list[bytes]) -> None:
        for full in self._edge.add(leaves):
            if full.tile.level:
                self._check_tile(full.tile, split(full.hashes, WIDTH))

    def end(self) -> None:
        """Verify the partial tiles above the leaves."""
        for level, (tile, hashes) in enumerate(
            zip(edge_of(self._edge.size), self._edge.levels, strict=True)
        ):
            if level and tile is not None:
                self._check_tile(tile, hashes)

    def _entries(self, index: int, width: int) -> list[bytes]:
        path = layout.entries_file(self._folder, index, width)
        name = str(path.relative_to(self._folder))
        data = self._read(path, (MAX_ENTRY + 2) * WIDTH, index * WIDTH + 1)
        entries, rest = unpack(data)
        if rest or len(entries) != width:
            # Those that are whole may show more exactly where it begins.
            tile = self._tile(Tile(0, index, width))
            leaves = [leaf_hash(entry) for entry in entries]
            wrong = _first_difference(leaves, tile)
            if wrong < min(len(leaves), width):
                raise Fault(_what(leaves, tile, wrong), index * WIDTH + wrong + 1, file=name)
            what = "dropped, or cut off" if len(entries) < width else "inserted behind the last"
            raise Fault(what, index * WIDTH + min(len(entries), width) + 1, file=name)
        return entries

    def _check_leaves(self, tile: Tile, leaves: list[bytes], entries: list[bytes]) -> None:
        stored = self._tile(tile)
        wrong = _first_difference(leaves, stored)
        if wrong < len(leaves):
            what = _what(leaves, stored, wrong)
            header = _header_or_none(entries[wrong])
            if header is not None and header.position != tile.index * WIDTH + wrong + 1:
                what += f": here is what was position {header.position}"
            raise Fault(f"{what}, or its hash in {tile.path}", tile.index * WIDTH + wrong + 1)

    def _check_tile(self, tile: Tile, hashes: Sequence[bytes]) -> None:
        wrong = _first_difference(hashes, self._tile(tile))
        if wrong < len(hashes):
            span = WIDTH**tile.level
            first = (tile.index * WIDTH + wrong) * span
            raise Fault(
                "the hash over these events is altered", first + 1, first + span, file=tile.path
            )

    def _tile(self, tile: Tile) -> list[bytes]:
        first = tile.index * WIDTH ** (tile.level + 1) + 1
        data = self._read(self._folder / tile.path, WIDTH * HASH_BYTES, first)
        if len(data) != tile.width * HASH_BYTES:
            span = WIDTH**tile.level
            raise Fault(
                f"{len(data)} bytes instead of {tile.width * HASH_BYTES}",
                first + min(len(data) // HASH_BYTES, tile.width - 1) * span,
                file=tile.path,
            )
        return split(data, tile.width)

    def _header(self, position: int, entry: bytes) -> Header:
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

    def _check_payloads(self, index: int, headers: Sequence[Header]) -> None:
        path = layout.payloads_file(self._folder, index, len(headers))
        name = str(path.relative_to(self._folder))
        lines = self._read(path, _MAX_PAYLOADS, headers[0].position).split(b"\n")
        for header, line in zip(headers, lines, strict=False):
            if not line and header.payload_size:
                self.withheld += 1
            elif len(line) != header.payload_size or digest_of(line) != header.payload:
                raise Fault("the payload was altered", header.position, file=name)
            else:
                self.payloads += 1
                if self._has_blobs:
                    self._check_bodies(line, header.position)
        if len(lines) != len(headers) + 1 or lines[-1]:
            missing = min(len(lines) - 1, len(headers) - 1)
            raise Fault("a payload too many or too few", headers[missing].position, file=name)

    def _check_bodies(self, text: bytes, position: int) -> None:
        for digest in layout.named_in(text):
            if digest in self._right:
                self._right.move_to_end(digest)
                continue
            path = layout.body_file(self._folder, digest)
            name = str(path.relative_to(self._folder))
            try:
                body = path.read_bytes()
            except FileNotFoundError:
                continue  # no body of ours, or one that was erased
            if len(body) > _MAX_BODY or sha256(body).hexdigest() != digest[7:]:
                raise Fault("a body that this event names was altered", position, file=name)
            self.blobs += 1
            self._right[digest] = None
            if len(self._right) > _REMEMBER:
                self._right.popitem(last=False)
            if layout.is_list(body):
                self._check_bodies(body, position)

    def _read(self, path: Path, most: int, position: int) -> bytes:
        name = str(path.relative_to(self._folder))
        try:
            with path.open("rb") as file:
                data = file.read(most + 1)
        except FileNotFoundError:
            raise Fault("dropped: the file is missing", position, file=name) from None
        if len(data) > most:
            raise Fault(f"more than {most} bytes", position, file=name)
        return data


def _first_difference(ours: Sequence[bytes], theirs: Sequence[bytes]) -> int:
    for number, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return number
    return min(len(ours), len(theirs))


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


def _text(path: Path, most: int) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise Fault(f"more than {most} bytes", file=path.name)
        return data.decode()
    except UnicodeDecodeError as error:
        raise Fault("not UTF-8", file=path.name) from error
    except FileNotFoundError:
        raise Fault("missing: this is no whole export", file=path.name) from None
