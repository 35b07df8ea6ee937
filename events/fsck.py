"""Whether a log is whole: every event, every body and every proof against what it must be.

It reads all of it once and writes nothing. Memory grows with the number of streams and of bodies
that events name (about 150 bytes each), not with the number of events.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

import asyncpg
from msgspec import Struct

from events.catalog import ActorForgotten, BodyRedacted, DesiredRendered
from events.codec import CodecError, UnknownFact, fact_of
from events.connection import translated
from events.entry import event_leaf
from events.event import Actor, Event, EventId, Micros, Position, StreamName, Version
from events.log import EventLog
from events.naming import listed, named, redacted_in
from events.note import Checkpoint, NoteWrong, VerifierKey, open_checkpoint
from events.proofs import recorded_keys
from events.queries import load
from events.tiles import Edge, FullTile, split

SQL = load("events", "fsck.sql")
_EVENTS = 2000
_BODIES = 200
_HEADS = 2000
_LISTED = 100
RESTORE = "restore the database from a backup that is whole; `trueup audit verify` tells of exports"
REBUILD_HEADS = "the side table is wrong, not the events: restore it, or ask for help"


class Finding(Struct, frozen=True):
    """Something that is not as it must be: where, what, and how to mend it."""

    code: str
    where: str
    what: str
    remedy: str


class Tally(Struct):
    """What was gone through."""

    events: int = 0
    streams: int = 0
    bodies: int = 0
    erased: int = 0
    unknown: int = 0
    """Events of a later release, carried and not read."""
    tiles: int = 0
    checkpoints: int = 0


class Told(Protocol):
    """Hears how many events are done."""

    def __call__(self, done: int, /) -> None:
        """Take note."""
        ...


class LogCheck:
    """Goes through one log; `tally` has what it went through when `findings` has ended."""

    def __init__(
        self, pool: asyncpg.Pool[asyncpg.Record], log: EventLog, told: Told = lambda _: None
    ) -> None:
        self._pool, self._log, self._told = pool, log, told
        self._last: dict[str, tuple[int, int]] = {}
        self._named: set[bytes] = set()
        self._lists: set[bytes] = set()
        self._redacted: set[bytes] = set()
        self._forgotten: set[str] = set()
        self._edge: Edge | None = Edge()
        self._recorded_at = 0
        self.tally = Tally()

    async def findings(self) -> AsyncIterator[Finding]:
        """Yield what is wrong, in the order in which it is found; raises `LogError`."""
        keys = await recorded_keys(self._log)
        checkpoints = {row[0]: row[1] for row in await self._fetch("checkpoints")}
        after = 0
        while rows := await self._fetch("page", after, _EVENTS):
            for row in rows:
                event = _event(row)
                for finding in self._event(event, after):
                    yield finding
                after = event.position
                async for finding in self._proofs(event, checkpoints, keys):
                    yield finding
            self._told(after)
        for size in checkpoints:
            if size > after:
                yield Finding(
                    "checkpoint-ahead",
                    f"checkpoint of {size} events",
                    f"the log ends at position {after}: events were lost",
                    RESTORE,
                )
        async for finding in self._side_tables():
            yield finding
        async for finding in self._bodies():
            yield finding
        self.tally.streams = len(self._last)

    # Events.

    def _event(self, event: Event, after: int) -> Iterator[Finding]:
        self.tally.events += 1
        where = f"position {event.position}"
        if event.position != after + 1:
            missing = f"positions {after + 1} to {event.position - 1}"
            yield Finding("hole", missing, "there are no events", RESTORE)
            self._edge = None
        known = self._last.get(event.stream, (0, 0))[0]
        if event.version != known + 1:
            what = f"{event.stream} goes from version {known} to {event.version}"
            yield Finding("version", where, what, RESTORE)
        self._last[event.stream] = (event.version, event.position)
        if event.recorded_at < self._recorded_at:
            what = "it was recorded before the event that it follows"
            yield Finding("time", where, what, RESTORE)
        self._recorded_at = max(self._recorded_at, event.recorded_at)
        if event.causation is not None and not 0 < event.causation < event.position:
            what = f"its cause is position {event.causation}, which does not come before it"
            yield Finding("causation", where, what, RESTORE)
        try:
            fact = fact_of(event)
        except CodecError as error:
            yield Finding("payload", where, str(error), RESTORE)
            return
        if isinstance(fact, UnknownFact):
            self.tally.unknown += 1
        if isinstance(fact, ActorForgotten):
            self._forgotten.add(fact.actor)
        if isinstance(fact, BodyRedacted):
            self._redacted.add(_raw(redacted_in(event.stream)))
        if isinstance(fact, DesiredRendered):
            self._lists.add(_raw(fact.objects))
        self._named.update(map(_raw, named(fact)))

    # Proofs.

    async def _proofs(
        self, event: Event, checkpoints: dict[int, str], keys: list[VerifierKey]
    ) -> AsyncIterator[Finding]:
        edge = self._edge
        if edge is None:
            return
        for full in edge.add([event_leaf(event)]):
            async for finding in self._tile(full, max(checkpoints, default=0)):
                yield finding
        note = checkpoints.get(event.position)
        if note is not None:
            self.tally.checkpoints += 1
            for finding in _checked(note, event.position, edge.root(), keys):
                yield finding

    async def _tile(self, full: FullTile, signed: int) -> AsyncIterator[Finding]:
        tile = full.tile
        rows = await self._fetch("tiles", tile.level, tile.index)
        if not rows:
            # What is not signed yet has none: the signer is behind, and goes on by itself.
            last = (tile.index + 1) * tile.width ** (tile.level + 1)
            if last <= signed:
                what = f"it is missing, though {signed} events are signed"
                yield Finding("tile-missing", tile.path, what, RESTORE)
            return
        self.tally.tiles += 1
        ours, theirs = split(full.hashes, tile.width), split(bytes(rows[0][2]), tile.width)
        for place, (mine, stored) in enumerate(zip(ours, theirs, strict=True)):
            if mine == stored:
                continue
            if tile.level:
                what = "the tile is not what follows from the tiles below it"
            else:
                position = tile.index * tile.width + place + 1
                what = f"the event at position {position} is not the one that was signed"
            yield Finding("tile", tile.path, what, RESTORE)
            return

    # Side tables.

    async def _side_tables(self) -> AsyncIterator[Finding]:
        after, there = "", set()
        while rows := await self._fetch("heads", after, _HEADS):
            for stream, version, position in rows:
                there.add(stream)
                last = self._last.get(stream)
                if last != (version, position):
                    has = f"version {last[0]} at {last[1]}" if last else "no events"
                    what = f"stream_head has version {version} at {position}, the log {has}"
                    yield Finding("stream-head", stream, what, REBUILD_HEADS)
            after = rows[-1][0]
        for stream in sorted(self._last.keys() - there):
            yield Finding("stream-head", stream, "stream_head does not have it", REBUILD_HEADS)
        for event_id, position in await self._fetch("wrong_ids", _LISTED):
            what = f"it is remembered for position {position}, which has another id"
            yield Finding("event-id", event_id, what, REBUILD_HEADS)
        forgotten = sorted(self._forgotten)
        # Where nobody is forgotten, the database may be older than the table.
        for (actor,) in await self._fetch("kept_keys", forgotten) if forgotten else ():
            what = "it is forgotten, and there is a key that opens its name"
            yield Finding("forgotten-key", actor, what, "start the engine: it destroys the key")

    # Bodies.

    async def _bodies(self) -> AsyncIterator[Finding]:
        after = b""
        while rows := await self._fetch("bodies", after, _BODIES):
            for digest, size, body in rows:
                name = f"sha256:{digest.hex()}"
                self.tally.bodies += 1
                if body is None:
                    self.tally.erased += 1
                    if digest not in self._redacted:
                        what = "it is erased, and no event says that it was redacted"
                        yield Finding("body-erased", name, what, RESTORE)
                    continue
                if digest in self._lists:
                    self._named.update(map(_raw, listed(body)))
                if hashlib.sha256(body).digest() != digest:
                    yield Finding("body", name, "it is not the body of this digest", RESTORE)
                elif len(body) != size:
                    what = f"it has {len(body)} bytes, and the table says {size}"
                    yield Finding("body", name, what, RESTORE)
            after = rows[-1][0]
        wanted = sorted(self._named)
        for start in range(0, len(wanted), _HEADS):
            for (digest,) in await self._fetch("absent", wanted[start : start + _HEADS]):
                what = "the log names it, and no body is kept under it"
                yield Finding("body-missing", f"sha256:{digest.hex()}", what, RESTORE)

    async def _fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        with translated():
            async with self._pool.acquire() as connection:
                return await connection.fetch(SQL[query], *arguments)


def _raw(digest: str) -> bytes:
    return bytes.fromhex(digest.removeprefix("sha256:"))


def _checked(note: str, size: int, root: bytes, keys: list[VerifierKey]) -> Iterator[Finding]:
    where = f"checkpoint of {size} events"
    try:
        checkpoint: Checkpoint = open_checkpoint(note, keys)
    except NoteWrong as error:
        yield Finding("checkpoint", where, f"it is not signed by the log's keys: {error}", RESTORE)
        return
    if (checkpoint.size, checkpoint.root) != (size, root):
        what = "the events up to there are not those that were signed"
        yield Finding("checkpoint", where, what, RESTORE)


def _event(row: asyncpg.Record) -> Event:
    return Event(
        position=Position(row[0]),
        stream=StreamName(row[1]),
        version=Version(row[2]),
        event_id=EventId(row[3]),
        type=row[4],
        schema=row[5],
        recorded_at=Micros(row[6]),
        occurred_at=Micros(row[7]),
        actor=Actor(row[8]),
        causation=None if row[9] is None else Position(row[9]),
        correlation=row[10],
        traceparent=row[11],
        payload=row[12],
    )
