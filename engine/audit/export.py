"""Writes an export: the log with its proofs, for whoever verifies it elsewhere."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import anyio.to_thread
from msgspec import Struct

from engine.audit import layout
from engine.audit.bodies import needed_by, redactions
from engine.audit.files import belongs, files_in
from engine.audit.progress import Meter, Progress
from engine.http.local import write_private
from engine.ports import Clock
from events.entry import parse_entry
from events.event import Digest
from events.naming import listed
from events.note import Checkpoint, NoteWrong, parse, parse_checkpoint
from events.proofs import ProofSource
from events.tiles import tiles_of, unpack

Bodies = Literal["none", "payloads", "all"]
_REMEMBER = 200_000
_LISTED = 20
_LEFT = re.compile(r"(?:tile|payloads)/.+\.p/[0-9]+|(?:.+/)?\.[^/]+\.new")


class ExportRefused(Exception):
    """An export cannot be made as it was asked for; the message says why and what to do."""


class Exported(Struct, frozen=True):
    """What an export came to: counts, and the bodies that events name and the log has not.

    `missing` are at most a few of the latter, each with a position that names it.
    """

    checkpoint: Checkpoint
    payloads: int
    blobs: int
    missing: tuple[tuple[Digest, int], ...] = ()


async def export(
    source: ProofSource,
    folder: Path,
    bodies: Bodies,
    report: Callable[[Progress], None],
    clock: Clock,
) -> Exported:
    """Write what the newest checkpoint covers into a folder.

    The folder must be new, empty, or an earlier export of the same log: then only what is new is
    fetched. The checkpoint is written last, so an export that broke off has none. Raises
    `ExportRefused`, and what the source raises.
    """
    note = await source.checkpoint()
    if note is None:
        raise ExportRefused("nothing of this log was signed yet: run the engine once")
    keys = await source.keys()
    checkpoint = _open(note)
    await anyio.to_thread.run_sync(_prepare, folder, checkpoint.origin, bodies)
    writer = _Writer(source, folder, bodies)
    meter = Meter(checkpoint.size, report, clock)
    for index, width in layout.bundles_of(checkpoint.size):
        await writer.bundle(index, width)
        meter.at(index * 256 + width)
    for tile in tiles_of(checkpoint.size):
        path = folder / tile.path
        if not (tile.is_full and path.exists()):
            await _write(path, await source.tile(tile))
    for earlier in await source.checkpoints():
        found = _open(earlier)
        if found.origin == checkpoint.origin and found.size < checkpoint.size:
            name = f"{found.size:020d}"
            await _write(folder / layout.CHECKPOINTS / name, earlier.encode())
    await _write(folder / layout.KEYS, "".join(f"{key}\n" for key in keys).encode())
    await anyio.to_thread.run_sync(_clear, folder, checkpoint.size)
    missing = await anyio.to_thread.run_sync(writer.missing, checkpoint.size)
    await anyio.to_thread.run_sync(write_private, folder / layout.CHECKPOINT, note.encode())
    return Exported(checkpoint, writer.payloads, writer.blobs, missing)


class _Writer:
    """Writes bundle by bundle, and each body once."""

    def __init__(self, source: ProofSource, folder: Path, bodies: Bodies) -> None:
        self._source, self._folder, self._bodies = source, folder, bodies
        self._seen: OrderedDict[Digest, None] = OrderedDict()
        self._missing: dict[Digest, int] = {}
        self.payloads = self.blobs = 0

    def missing(self, size: int) -> tuple[tuple[Digest, int], ...]:
        """Return the bodies that were not there, though no event says that they were redacted."""
        excused = redactions(self._folder, size) if self._missing else ()
        return tuple(item for item in self._missing.items() if item[0] not in excused)[:_LISTED]

    async def bundle(self, index: int, width: int) -> None:
        """Write a bundle's entries, and as asked for payloads and bodies."""
        entries = layout.entries_file(self._folder, index, width)
        if not (width == 256 and entries.exists()):
            await _write(entries, await self._source.entries(index, width))
        if self._bodies == "none":
            return
        path = self._folder / layout.payloads_name(index, width)
        if width == 256 and path.exists() and self._bodies == "payloads":
            return
        payloads = await self._source.payloads(index, width)
        if self._bodies == "all":
            for number, payload in enumerate(payloads):
                named = layout.named_in(payload)
                absent = await self._write_bodies(named, index * 256 + number + 1)
                if absent:
                    header = parse_entry(unpack(entries.read_bytes())[0][number])
                    self._miss(absent & needed_by(header, payload), header.position)
        await _write(path, b"".join(payload + b"\n" for payload in payloads))
        self.payloads += width

    def _miss(self, digests: Iterable[Digest], position: int) -> None:
        for digest in digests:
            if len(self._missing) < _REMEMBER:
                self._missing.setdefault(digest, position)

    async def _write_bodies(self, digests: Iterable[Digest], position: int) -> set[Digest]:
        """Write bodies that are not there yet; return the digests under which there is none."""
        absent = set()
        for digest in digests:
            if digest in self._seen:
                self._seen.move_to_end(digest)
                continue
            self._seen[digest] = None
            if len(self._seen) > _REMEMBER:
                self._seen.popitem(last=False)
            path = self._folder / layout.body_name(digest)
            if path.exists():
                continue
            body = await self._source.body(digest)
            if body is None:
                absent.add(digest)
                continue
            await _write(path, body)
            self.blobs += 1
            if layout.is_list(body):
                missing = await self._write_bodies(layout.named_in(body), position)
                self._miss(missing.intersection(listed(body)), position)
        return absent


def _open(note: str) -> Checkpoint:
    """Read what a source says. Whether it is signed is for whoever verifies the export."""
    try:
        return parse_checkpoint(parse(note).text)
    except NoteWrong as error:
        raise ExportRefused(f"what was answered is no checkpoint: {error}") from error


def _prepare(folder: Path, origin: str, bodies: Bodies) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for part, least in ((layout.BLOBS, "all"), (layout.PAYLOADS, "payloads")):
        if (folder / part).exists() and bodies not in ("all", least):
            raise ExportRefused(
                f"{folder} has {part}, and would lack those of later events: go on with "
                f"--bodies {least}, or name another folder"
            )
    there = folder / layout.CHECKPOINT
    if there.exists():
        earlier = _open(there.read_text("utf-8"))
        if earlier.origin != origin:
            raise ExportRefused(
                f"{folder} has an export of {earlier.origin}, and this is {origin}: name another"
            )
        there.unlink()  # until all is there again
    elif any(folder.iterdir()) and not (folder / "tile").exists():
        raise ExportRefused(f"{folder} is not empty, and not an export: name another folder")


def _clear(folder: Path, size: int) -> None:
    """Take away what an earlier export of fewer events left, and what one that broke off did."""
    for path in files_in(folder):
        name = path.relative_to(folder).as_posix()
        if _LEFT.fullmatch(name) and not belongs(name, size):
            path.unlink()


async def _write(path: Path, data: bytes) -> None:
    await anyio.to_thread.run_sync(_put, path, data)


def _put(path: Path, data: bytes) -> None:
    """Put a file in place whole: one that broke off must not be taken for written."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_bytes(data)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
    beside.replace(path)
