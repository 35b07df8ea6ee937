"""Tiles: the tree's hashes and the log's entries in files of 256, as C2SP tlog-tiles lays them out.

Pure. A tile at level `l` holds the roots of complete subtrees of `256**l` leaves; only full tiles
have a parent above. An entry bundle holds the entries of the same 256 leaves, each behind its
length (16 bits, big-endian).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct

from events.merkle import HASH_BYTES, Node, complete_root, fold

WIDTH = 256
_HEIGHT = 8
MAX_ENTRY = 2**16 - 1
"""Bytes of one entry."""
MAX_LEVEL = 63
_PATH = re.compile(r"tile/([a-z0-9]+)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([0-9]{1,3}))?")


class TileWrong(Exception):
    """Bytes or a path that no tile has."""


class Tile(Struct, frozen=True, order=True):
    """The `index`-th tile of a level; `width` is how many hashes it has, 256 for a full one."""

    level: int
    index: int
    width: int = WIDTH

    @property
    def is_full(self) -> bool:
        """Whether it has all its hashes."""
        return self.width == WIDTH

    @property
    def path(self) -> str:
        """Where it lies: `tile/0/x001/234.p/56`."""
        return f"tile/{self.level}/{number_path(self.index, self.width)}"


def number_path(index: int, width: int = WIDTH) -> str:
    """Write a tile's index as the end of a path, with the width of a partial one."""
    digits = f"{index:d}"
    digits = digits.rjust(-(-len(digits) // 3) * 3, "0")
    parts = [digits[i : i + 3] for i in range(0, len(digits), 3)]
    path = "/".join(["x" + part for part in parts[:-1]] + parts[-1:])
    return path if width == WIDTH else f"{path}.p/{width}"


def bundle_path(index: int, width: int = WIDTH) -> str:
    """Return where a bundle of entries lies."""
    return f"tile/entries/{number_path(index, width)}"


def parse_path(path: str) -> tuple[str, int, int]:
    """Return what a path names: the word for its level, its index, its width.

    Raises `TileWrong` for a path that is not written as it must be.
    """
    match = _PATH.fullmatch(path)
    if match is None:
        raise TileWrong(f"{path[:100]!r} is not the path of a tile")
    word, digits, partial = match.groups()
    index = int(digits.replace("/", "").replace("x", ""))
    width = int(partial) if partial else WIDTH
    written = f"tile/{word}/{number_path(index, width)}"
    if written != path or not 1 <= width <= WIDTH or (partial and width == WIDTH):
        raise TileWrong(f"{path[:100]!r} is not the path of a tile")
    if word.isdigit() and (word != str(int(word)) or int(word) > MAX_LEVEL):
        raise TileWrong(f"{word} is not a level: 0 to {MAX_LEVEL}")
    return word, index, width


def tiles_of(size: int) -> Iterator[Tile]:
    """Name every tile of a tree, level by level, each level from left to right."""
    level, count = 0, size
    while count:
        full, partial = divmod(count, WIDTH)
        for index in range(full):
            yield Tile(level, index)
        if partial:
            yield Tile(level, full, partial)
        level, count = level + 1, full


def tile_with(node: Node, size: int) -> Tile:
    """Return the tile, of a tree of `size` leaves, whose hashes give a node's."""
    level = node.level // _HEIGHT
    index = node.number << node.level % _HEIGHT >> _HEIGHT
    return Tile(level, index, min(WIDTH, (size >> _HEIGHT * level) - index * WIDTH))


def node_in(node: Node, tile: Tile, data: bytes) -> bytes:
    """Compute a node's hash from the tile that `tile_with` names."""
    below = node.level % _HEIGHT
    first = (node.number << below) - tile.index * WIDTH
    hashes = split(data, tile.width)[first : first + (1 << below)]
    return complete_root(hashes)


def reader(tiles: dict[Tile, bytes], size: int) -> Callable[[Node], bytes]:
    """Return what gives the hash of a node out of tiles."""

    def hash_of(node: Node) -> bytes:
        tile = tile_with(node, size)
        return node_in(node, tile, tiles[tile])

    return hash_of


def tiles_for(plan: Iterable[Sequence[Node]], size: int) -> set[Tile]:
    """Return the tiles that a planned proof needs."""
    return {tile_with(node, size) for nodes in plan for node in nodes}


def split(data: bytes, width: int) -> list[bytes]:
    """Return a tile's hashes; raises `TileWrong` where there are not `width`."""
    if len(data) != width * HASH_BYTES:
        raise TileWrong(f"a tile of {len(data)} bytes; {width * HASH_BYTES} are right")
    return [data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES)]


def pack(entries: Iterable[bytes]) -> bytes:
    """Put entries into a bundle; raises ValueError for one that is too long."""
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > MAX_ENTRY:
            raise ValueError(f"an entry of {len(entry)} bytes; at most {MAX_ENTRY}")
        parts += (len(entry).to_bytes(2, "big"), entry)
    return b"".join(parts)


def unpack(data: bytes) -> tuple[list[bytes], bytes]:
    """Return a bundle's whole entries, and what is left over that is none (nothing, if it is)."""
    entries, at = [], 0
    while at + 2 <= len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if end > len(data):
            break
        entries.append(data[at + 2 : end])
        at = end
    return entries, data[at:]


class FullTile(Struct, frozen=True):
    """A tile that will never change. `root` is that of the complete subtree over its hashes."""

    tile: Tile
    root: bytes
    hashes: bytes


class Edge:
    """The right edge of a tree, as its partial tiles: what it takes to go on, 255 hashes a level.

    `levels` are the hashes of the partial tiles of a tree of `size` leaves, level by level.
    """

    def __init__(self, size: int = 0, hashes: Iterable[Sequence[bytes]] = ()) -> None:
        self.size = size
        self.levels = [list(level) for level in hashes]
        widths = [len(level) for level in self.levels]
        if widths != [tile.width if tile else 0 for tile in edge_of(size)]:
            raise ValueError(f"partial tiles of {widths} hashes are not those of {size} leaves")

    def add(self, leaves: Iterable[bytes]) -> list[FullTile]:
        """Add leaf hashes; return the tiles that are full now, children before their parents."""
        full: list[FullTile] = []
        for leaf in leaves:
            self.size += 1
            self._add(0, leaf, full)
        return full

    def add_tile(self, root: bytes) -> list[FullTile]:
        """Add a full tile of leaves by its root; return the tiles above that are full now.

        Raises ValueError where the tree does not end with a full one.
        """
        if self.size % WIDTH:
            raise ValueError(f"a full tile cannot follow {self.size} leaves")
        full: list[FullTile] = []
        self.size += WIDTH
        if not self.levels:
            self.levels.append([])
        self._add(1, root, full)
        return full

    def _add(self, level: int, node: bytes, full: list[FullTile]) -> None:
        if level == len(self.levels):
            self.levels.append([])
        hashes = self.levels[level]
        hashes.append(node)
        if len(hashes) == WIDTH:
            tile = Tile(level, (self.size >> _HEIGHT * (level + 1)) - 1)
            root = complete_root(hashes)
            full.append(FullTile(tile, root, b"".join(hashes)))
            hashes.clear()
            self._add(level + 1, root, full)

    def root(self) -> bytes:
        """Return the root of the tree as it is."""
        nodes = []
        for hashes in reversed(self.levels):
            start = 0
            while start < len(hashes):
                end = start + (1 << (len(hashes) - start).bit_length() - 1)
                nodes.append(complete_root(hashes[start:end]))
                start = end
        return fold(nodes)


def edge_of(size: int) -> list[Tile | None]:
    """Name the partial tile of each level of a tree, None where there is none."""
    edge: list[Tile | None] = []
    count = size
    while count:
        full, width = divmod(count, WIDTH)
        edge.append(Tile(len(edge), full, width) if width else None)
        count = full
    return edge
