"""Verifies an export: offline, in bounded memory, trusting only public keys.

The tree is computed anew from the entries, and every file of the export is held against it on the
way, in the order of positions: so the first fault that is met is the first there is. A file that
nothing vouches for is a fault too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from engine.audit import layout
from engine.audit.bodies import Digests
from engine.audit.bundle import Checked
from engine.audit.crew import Crew
from engine.audit.fault import Fault, first_difference
from engine.audit.files import read_text, read_tile, strays
from engine.audit.progress import Meter, Progress
from engine.ports import Clock
from events.catalog import CheckpointKeyAdded
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
from events.tiles import WIDTH, Edge, FullTile, Tile, edge_of, split

__all__ = ["Fault", "Verified", "verify"]


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
    processes: int = 1,
) -> Verified:
    """Verify an export; `pinned` are the keys to trust (none: those in it), `since` older notes.

    Blocks. With more than one process a large export is hashed by as many at once. Raises `Fault`
    for the first thing that is wrong, and OSError.
    """
    listed = _keys(folder)
    trusted = tuple(pinned) or tuple(listed)
    note = read_text(folder, layout.CHECKPOINT, MAX_NOTE)
    checkpoint = _checkpoint(note, trusted, layout.CHECKPOINT)
    _check_signatures(note, [*trusted, *listed])
    landmarks = _landmarks(folder, checkpoint, [*trusted, *listed], trusted, since)
    walk = _Walk(folder, landmarks)
    meter = Meter(checkpoint.size, report, clock)
    with Crew(folder, checkpoint.size, processes) as crew:
        for checked in crew.bundles():
            walk.add(checked)
            meter.at(walk.size)
    walk.end()
    _check_keys(walk, listed, pinned)
    for name in strays(folder, checkpoint.size, walk.bodies):
        raise Fault(
            "nothing in this export vouches for this file: it was added or renamed, or is left "
            "from an earlier export (`trueup audit export` clears that away)",
            file=name,
        )
    oldest = max((open_size(text) for text in since), default=0)
    return Verified(checkpoint, trusted, oldest, walk.payloads, walk.withheld, len(walk.bodies))


def open_size(note: str) -> int:
    """Return the size that a note, verified before, is of."""
    return int(note.split("\n")[1])


def _keys(folder: Path) -> list[VerifierKey]:
    lines = read_text(folder, layout.KEYS, 2**20).split("\n")
    try:
        keys = [parse_verifier(line) for line in lines[:-1]]
    except NoteWrong as error:
        raise Fault(str(error), file=layout.KEYS) from error
    if lines[-1] or not keys or len(set(lines)) != len(lines):
        raise Fault("not public keys, one a line, each once", file=layout.KEYS)
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
            found = _checkpoint(read_text(folder, name, MAX_NOTE), known, name)
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
        self.bodies = Digests()
        self.payloads = self.withheld = 0
        self.keys: dict[str, int] = {}
        """The keys that events enter, each with its position."""
        self.is_key_withheld = False

    @property
    def size(self) -> int:
        """How many events were gone through."""
        return self._edge.size

    def add(self, checked: Checked) -> None:
        """Take in the next bundle, looking at the tree's root at each landmark on the way."""
        self.payloads += checked.payloads
        self.withheld += checked.withheld
        self.bodies.add(checked.bodies)
        for position, payload in checked.keys:
            self._take_key(position, payload)
        first, leaves = self._edge.size, checked.leaves
        if checked.root is not None and self._landmarks[0][0].size >= first + WIDTH:
            self._check_tiles(self._edge.add_tile(checked.root))
            leaves = []
        start = 0
        while self._landmarks and self._landmarks[0][0].size <= first + len(checked.leaves):
            landmark, name = self._landmarks.pop(0)
            end = landmark.size - first
            self._check_tiles(self._edge.add(leaves[start:end]))
            start = end
            self._check_root(landmark, name)
        self._check_tiles(self._edge.add(leaves[start:]))

    def end(self) -> None:
        """Verify the partial tiles above the leaves."""
        for level, (tile, hashes) in enumerate(
            zip(edge_of(self._edge.size), self._edge.levels, strict=True)
        ):
            if level and tile is not None:
                self._check_tile(tile, hashes)

    def _take_key(self, position: int, payload: bytes | None) -> None:
        if payload is None:
            self.is_key_withheld = True
            return
        try:
            self.keys[msgspec.json.decode(payload, type=CheckpointKeyAdded).key] = position
        except msgspec.MsgspecError as error:
            raise Fault(f"the log enters what is no key: {error}", position) from error

    def _check_root(self, landmark: Checkpoint, name: str) -> None:
        if self._edge.root() != landmark.root:
            raise Fault(
                f"what {name} was signed for was another log: events, and all that was "
                "computed from them, were changed together",
                self._passed + 1,
                landmark.size,
            )
        self._passed = landmark.size

    def _check_tiles(self, tiles: list[FullTile]) -> None:
        for full in tiles:
            if full.tile.level:
                self._check_tile(full.tile, split(full.hashes, WIDTH))

    def _check_tile(self, tile: Tile, hashes: Sequence[bytes]) -> None:
        wrong = first_difference(hashes, read_tile(self._folder, tile))
        if wrong < len(hashes):
            span = WIDTH**tile.level
            first = (tile.index * WIDTH + wrong) * span
            raise Fault(
                "the hash over these events is altered", first + 1, first + span, file=tile.path
            )


def _check_keys(walk: _Walk, listed: Sequence[VerifierKey], pinned: Sequence[VerifierKey]) -> None:
    """Hold the listed keys against those that events enter, where their payloads are there."""
    if walk.is_key_withheld or not walk.keys:
        return
    there = {str(key) for key in listed}
    for key, position in walk.keys.items():
        if key not in there:
            raise Fault(
                f"the key {key}, which this event enters, is not listed",
                position,
                file=layout.KEYS,
            )
    for key in sorted(there - walk.keys.keys() - {str(key) for key in pinned}):
        raise Fault(
            f"no event enters the key {key}: it is forged, or newer than this export (then "
            "export again)",
            file=layout.KEYS,
        )
