"""Writes an export: the log with its proofs, for whoever verifies it elsewhere."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import anyio.to_thread
from msgspec import Struct

from engine.audit import layout
from engine.audit.progress import Meter, Progress
from engine.http.local import write_private
from engine.ports import Clock
from events.event import Digest
from events.note import Checkpoint, NoteWrong, parse, parse_checkpoint
from events.proofs import ProofSource
from events.tiles import tiles_of

Bodies = Literal["none", "payloads", "all"]
_REMEMBER = 200_000


class ExportRefused(Exception):
    """An export cannot be made as it was asked for; the message says why and what to do."""


class Exported(Struct, frozen=True):
    """What an export came to; `payloads` and `blobs` are counts."""

    checkpoint: Checkpoint
    payloads: int
    blobs: int


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
    await anyio.to_thread.run_sync(_prepare, folder, checkpoint.origin)
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
    await anyio.to_thread.run_sync(write_private, folder / layout.CHECKPOINT, note.encode())
    return Exported(checkpoint, writer.payloads, writer.blobs)


class _Writer:
    """Writes bundle by bundle, and each body once."""

    def __init__(self, source: ProofSource, folder: Path, bodies: Bodies) -> None:
        self._source, self._folder, self._bodies = source, folder, bodies
        self._seen: OrderedDict[Digest, None] = OrderedDict()
        self.payloads = self.blobs = 0

    async def bundle(self, index: int, width: int) -> None:
        entries = layout.entries_file(self._folder, index, width)
        if not (width == 256 and entries.exists()):
            await _write(entries, await self._source.entries(index, width))
        if self._bodies == "none":
            return
        path = layout.payloads_file(self._folder, index, width)
        if width == 256 and path.exists() and self._bodies == "payloads":
            return
        payloads = await self._source.payloads(index, width)
        if self._bodies == "all":
            for payload in payloads:
                await self._write_bodies(payload)
        await _write(path, b"".join(payload + b"\n" for payload in payloads))
        self.payloads += width

    async def _write_bodies(self, text: bytes) -> None:
        for digest in layout.named_in(text):
            if digest in self._seen:
                self._seen.move_to_end(digest)
                continue
            self._seen[digest] = None
            if len(self._seen) > _REMEMBER:
                self._seen.popitem(last=False)
            path = layout.body_file(self._folder, digest)
            if path.exists():
                continue
            # What has no body is none of ours: an image's digest, or a body that was erased.
            body = await self._source.body(digest)
            if body is not None:
                await _write(path, body)
                self.blobs += 1
                if layout.is_list(body):
                    await self._write_bodies(body)


def _open(note: str) -> Checkpoint:
    """Read what a source says. Whether it is signed is for whoever verifies the export."""
    try:
        return parse_checkpoint(parse(note).text)
    except NoteWrong as error:
        raise ExportRefused(f"what was answered is no checkpoint: {error}") from error


def _prepare(folder: Path, origin: str) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
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
