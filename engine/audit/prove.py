"""The proof of one event, in a file that stands for itself (C2SP tlog-proof)."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Sequence

from msgspec import Struct

from events.entry import EntryWrong, Header, parse_entry
from events.event import Position
from events.merkle import ProofWrong, carry_out, inclusion_plan, leaf_hash, verify_inclusion
from events.note import Checkpoint, NoteWrong, VerifierKey, open_checkpoint
from events.proofs import ProofSource
from events.tiles import WIDTH, reader, tiles_for, unpack

_FIRST = "c2sp.org/tlog-proof@v1"


class NoProof(Exception):
    """A proof cannot be had, or is none; the message says why."""


class Proof(Struct, frozen=True):
    """An event's header, where it stands, and the hashes that lead to a checkpoint's root."""

    header: Header
    entry: bytes
    hashes: tuple[bytes, ...]
    checkpoint: Checkpoint
    note: str

    @property
    def text(self) -> str:
        """The proof as a file: its `extra` is the event's canonical header."""
        lines = [
            _FIRST,
            f"extra {b64encode(self.entry).decode()}",
            f"index {self.header.position - 1}",
            *(b64encode(item).decode() for item in self.hashes),
        ]
        return "".join(f"{line}\n" for line in lines) + "\n" + self.note


async def prove(source: ProofSource, position: Position) -> Proof:
    """Fetch what proves an event, and make sure that it does; raises `NoProof`."""
    note = await source.checkpoint()
    if note is None:
        raise NoProof("nothing of this log was signed yet")
    try:
        checkpoint = open_checkpoint(note, await source.keys())
    except NoteWrong as error:
        raise NoProof(f"the newest checkpoint is not to be trusted: {error}") from error
    index, size = position - 1, checkpoint.size
    if not 0 <= index < size:
        raise NoProof(
            f"there is no position {position} among the {size} events that are signed by now"
        )
    plan = inclusion_plan(index, size)
    tiles = {tile: await source.tile(tile) for tile in tiles_for(plan, size)}
    hashes = carry_out(plan, reader(tiles, size))
    bundle = index // WIDTH
    entries, _ = unpack(await source.entries(bundle, min(WIDTH, size - bundle * WIDTH)))
    entry = entries[index % WIDTH]
    return _checked(entry, index, hashes, checkpoint, note)


def read_proof(text: str, keys: Sequence[VerifierKey]) -> Proof:
    """Read a proof's file and verify it; raises `NoProof`."""
    above, blank, note = text.partition("\n\n")
    lines = above.split("\n")
    if not blank or lines[0] != _FIRST or len(lines) < 3:
        raise NoProof(f"not a proof: the first line of one is {_FIRST}")
    extra = re.fullmatch(r"extra (\S+)", lines[1])
    index = re.fullmatch(r"index (0|[1-9][0-9]{0,18})", lines[2])
    if extra is None or index is None:
        raise NoProof("not a proof of an event: it has no extra (the event's header) or no index")
    try:
        entry, *hashes = [b64decode(item, validate=True) for item in (extra[1], *lines[3:])]
        checkpoint = open_checkpoint(note, keys)
    except ValueError as error:
        raise NoProof(f"not a proof: {error}") from error
    except NoteWrong as error:
        raise NoProof(f"the proof's checkpoint is not to be trusted: {error}") from error
    return _checked(entry, int(index[1]), tuple(hashes), checkpoint, note)


def _checked(
    entry: bytes, index: int, hashes: tuple[bytes, ...], checkpoint: Checkpoint, note: str
) -> Proof:
    try:
        verify_inclusion(leaf_hash(entry), index, checkpoint.size, hashes, checkpoint.root)
        header = parse_entry(entry)
    except (ProofWrong, EntryWrong) as error:
        raise NoProof(f"the event is not proven: {error}") from error
    if header.position != index + 1:
        raise NoProof(f"the event at index {index} says that it is position {header.position}")
    return Proof(header, entry, hashes, checkpoint, note)
