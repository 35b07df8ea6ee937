"""What proofs are made of, read from Postgres: tiles, entries, payloads, checkpoints.

Only full tiles are stored. A partial one is worked out when it is asked for: at level 0 from the
events, above from the roots of the full tiles below.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import asyncpg
from msgspec import Struct

from events import blobs as bodies
from events.catalog import CheckpointKeyAdded, RestoreAccepted
from events.codec import fact_of
from events.connection import translated
from events.entry import entry_of_columns
from events.event import Digest, Position
from events.log import EventLog, LogCorrupt
from events.merkle import HASH_BYTES, leaf_hash
from events.migrate import AnyConnection
from events.note import VerifierKey, parse_verifier
from events.queries import load
from events.tiles import WIDTH, Edge, Tile, edge_of, pack, split

SQL = load("events", "proofs.sql")
T = TypeVar("T")
_HISTORY = 1000


class Published(Struct, frozen=True):
    """A checkpoint as it was published: a signed note of a log of `size` leaves."""

    size: int
    origin: str
    note: str


class ProofSource(Protocol):
    """Where tiles, entries and checkpoints come from: a database, or a server.

    What is asked for must lie within the size of a checkpoint that was read before; `LogCorrupt`
    is raised where it cannot be had.
    """

    async def checkpoint(self) -> str | None:
        """Return the newest checkpoint's note; None before the first."""
        ...

    async def checkpoints(self) -> Sequence[str]:
        """Return the notes of earlier checkpoints too, one an hour, in the order of their sizes."""
        ...

    async def keys(self) -> Sequence[VerifierKey]:
        """Return the public keys that checkpoints were ever signed with."""
        ...

    async def tile(self, tile: Tile) -> bytes:
        """Return a tile's hashes."""
        ...

    async def entries(self, index: int, width: int) -> bytes:
        """Return the bundle of the `index`-th 256 entries, or of the first `width` of them."""
        ...

    async def payloads(self, index: int, width: int) -> Sequence[bytes]:
        """Return the payloads of the same events."""
        ...

    async def body(self, digest: Digest) -> bytes | None:
        """Return the body under a digest; None where there is none (or it was erased)."""
        ...


class Proofs:
    """A `ProofSource` on a database."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], log: EventLog) -> None:
        self._pool, self._log = pool, log

    async def published(self) -> Published | None:
        """Return the newest checkpoint; None before the first."""
        row = await self._ask(lambda connection: connection.fetchrow(SQL["checkpoint"]))
        return Published(*row) if row else None

    async def unsigned(self) -> tuple[int, float]:
        """Return how many events no checkpoint covers, and how long the first of them has waited.

        The time is in seconds, 0 where there is none.
        """
        row = await self._ask(lambda connection: connection.fetchrow(SQL["unsigned"]))
        assert row is not None
        return int(row["events"]), float(row["seconds"])

    async def checkpoint(self) -> str | None:
        """Return the newest checkpoint's note; None before the first."""
        found = await self.published()
        return found.note if found else None

    async def checkpoints(self) -> Sequence[str]:
        """Return the notes of earlier checkpoints too, one an hour, in the order of their sizes."""
        rows = await self._fetch("checkpoints", 0, 2**31)
        return [row["note"] for row in rows]

    async def keys(self) -> Sequence[VerifierKey]:
        """Return the public keys that checkpoints were ever signed with, as the log has them."""
        return await recorded_keys(self._log)

    async def tile(self, tile: Tile) -> bytes:
        """Return a tile's hashes; raises `LogCorrupt` where what it follows from is not whole."""
        found = await self._value("tile", tile.level, tile.index)
        if found is not None:
            return bytes(found[: tile.width * HASH_BYTES])
        if tile.level == 0:
            entries = await self.entries_in(tile.index * WIDTH, tile.index * WIDTH + tile.width)
            return b"".join(map(leaf_hash, entries))
        first = tile.index * WIDTH
        rows = await self._fetch("roots", tile.level - 1, first, first + tile.width)
        if [row["number"] for row in rows] != list(range(first, first + tile.width)):
            raise LogCorrupt(f"{tile.path} cannot be made: tiles below it are missing")
        return b"".join(row["root"] for row in rows)

    async def entries(self, index: int, width: int) -> bytes:
        """Return the bundle of the `index`-th 256 entries, or of the first `width` of them."""
        return pack(await self.entries_in(index * WIDTH, index * WIDTH + width))

    async def payloads(self, index: int, width: int) -> Sequence[bytes]:
        """Return the payloads of the same events."""
        rows = await self._fetch("payloads", index * WIDTH, index * WIDTH + width)
        _check_dense([row[0] for row in rows], index * WIDTH, index * WIDTH + width)
        return [row[1] for row in rows]

    async def body(self, digest: Digest) -> bytes | None:
        """Return the body under a digest; None where there is none (or it was erased)."""
        found = await self._ask(lambda connection: bodies.get(connection, [digest]))
        return found.get(digest)

    async def entries_in(self, after: int, until: int) -> list[bytes]:
        """Return the entries of positions `after + 1` to `until`; raises `LogCorrupt`."""
        rows = await self._fetch("headers", after, until)
        _check_dense([row[0] for row in rows], after, until)
        return [entry_of_columns(row) for row in rows]

    async def edge(self, size: int) -> Edge:
        """Return the right edge of the tree of `size` leaves: a few reads, however large it is.

        Raises `LogCorrupt` where the events or the tiles are not whole there.
        """
        hashes = [
            split(await self.tile(tile), tile.width) if tile else [] for tile in edge_of(size)
        ]
        return Edge(size, hashes)

    async def full_tiles(self) -> int:
        """Return how many full tiles level 0 has."""
        return int(await self._value("full", 0) or 0)

    async def _fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        return await self._ask(lambda connection: connection.fetch(SQL[query], *arguments))

    async def _value(self, query: str, *arguments: Any) -> Any:
        return await self._ask(lambda connection: connection.fetchval(SQL[query], *arguments))

    async def _ask(self, question: Callable[[AnyConnection], Awaitable[T]]) -> T:
        with translated():
            async with self._pool.acquire() as connection:
                return await question(connection)


async def recorded_keys(log: EventLog) -> list[VerifierKey]:
    """Return the public keys that the log itself names, in the order of their adding."""
    keys: dict[VerifierKey, None] = {}
    after = Position(0)
    while page := await log.read(after, _HISTORY, types=[CheckpointKeyAdded.__name__]):
        for event in page:
            fact = fact_of(event)
            if isinstance(fact, CheckpointKeyAdded):
                keys[parse_verifier(fact.key)] = None
        after = page[-1].position
    return list(keys)


async def origin_of(log: EventLog) -> str:
    """Return the name that the log's checkpoints go by.

    After a restore that lost events the same positions hold others, so what is signed from then on
    is another log's: its name goes on with the id of the event that accepted the restore.
    """
    origin = f"trueup.dev/log/{log.log_id}"
    after = Position(0)
    while page := await log.read(after, _HISTORY, types=[RestoreAccepted.__name__]):
        origin = f"trueup.dev/log/{log.log_id}/restored/{page[-1].event_id}"
        after = page[-1].position
    return origin


def _check_dense(positions: Sequence[int], after: int, until: int) -> None:
    if len(positions) == until - after:
        return
    there = set(positions)
    missing = next(place for place in range(after + 1, until + 1) if place not in there)
    raise LogCorrupt(
        f"position {missing} is missing from the log: events were removed from the database; "
        "restore it from a backup"
    )
