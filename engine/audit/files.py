"""Reads the files of an export: never more than one may hold, and never what is no file."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator
from pathlib import Path

from engine.audit import layout
from engine.audit.fault import Fault
from events.event import Digest
from events.merkle import HASH_BYTES
from events.tiles import WIDTH, Tile, TileWrong, parse_path, split


def read(folder: Path, name: str, most: int, position: int = 0) -> bytes:
    """Return a file's bytes; raises `Fault` where it is missing, too long or no file."""
    try:
        with (folder / name).open("rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        raise Fault("dropped: the file is missing", position, file=name) from None
    except (IsADirectoryError, NotADirectoryError):
        raise Fault("there is a folder where a file belongs", position, file=name) from None
    if len(data) > most:
        raise Fault(f"more than {most} bytes", position, file=name)
    return data


def read_text(folder: Path, name: str, most: int) -> str:
    """Return a file's text; raises `Fault`."""
    try:
        return read(folder, name, most).decode()
    except UnicodeDecodeError as error:
        raise Fault("not UTF-8", file=name) from error


def read_tile(folder: Path, tile: Tile) -> list[bytes]:
    """Return a tile's hashes; raises `Fault`."""
    first = tile.index * WIDTH ** (tile.level + 1) + 1
    data = read(folder, tile.path, WIDTH * HASH_BYTES, first)
    if len(data) != tile.width * HASH_BYTES:
        span = WIDTH**tile.level
        raise Fault(
            f"{len(data)} bytes instead of {tile.width * HASH_BYTES}",
            first + min(len(data) // HASH_BYTES, tile.width - 1) * span,
            file=tile.path,
        )
    return split(data, tile.width)


def strays(folder: Path, size: int, bodies: Container[Digest]) -> Iterator[str]:
    """Name every file that nothing vouches for in an export of `size` events.

    `bodies` are those that events name. Files beside the checkpoint are not looked at: their names
    and signatures are.
    """
    for path in files_in(folder):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (
            name in (layout.CHECKPOINT, layout.KEYS)
            or name.startswith(f"{layout.CHECKPOINTS}/")
            or _is_body(name, bodies)
            or belongs(name, size)
        ):
            yield name


def belongs(name: str, size: int) -> bool:
    """Whether a log of `size` events has a tile, or a bundle, of this name."""
    first, _, rest = name.partition("/")
    try:
        word, index, width = parse_path(
            f"tile/entries/{rest}" if first == layout.PAYLOADS else name
        )
    except TileWrong:
        return False
    if word != "entries" and not word.isdigit():
        return False
    count = size if word == "entries" else size // WIDTH ** int(word)
    return width == min(WIDTH, count - index * WIDTH)


def _is_body(name: str, bodies: Container[Digest]) -> bool:
    last = name.rpartition("/")[2]
    digest = Digest(f"sha256:{last}")
    is_hash = re.fullmatch("[0-9a-f]{64}", last) is not None
    return is_hash and name == layout.body_name(digest) and digest in bodies


def files_in(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder, and every link."""
    for parent, folders, files in os.walk(folder):
        # What is a link is listed with the folders, and is not gone into.
        links = [each for each in folders if (Path(parent) / each).is_symlink()]
        for name in sorted([*files, *links]):
            yield Path(parent) / name
        folders.sort()
