"""The signer: follows the committed log, extends its Merkle tree, signs and publishes checkpoints.

It knows nothing of who appends and slows nobody: it reads what was committed, a few hundred events
at a time, and lags where they come faster. Its key is not in the database. A checkpoint is kept
outside of the database first and published after, so whoever was shown one can hold us to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import anyio
import asyncpg
from anyio.lowlevel import checkpoint as let_others_run
from msgspec import Struct

from events.connection import translated
from events.event import Position
from events.log import EventLog, LogCorrupt, LogError, LogUnavailable
from events.merkle import leaf_hash
from events.note import Checkpoint, NoteWrong, SignerKey, VerifierKey, open_checkpoint, parse, sign
from events.proofs import SQL, Proofs
from events.tiles import WIDTH, Edge, FullTile

_TILES = 32
"""Full tiles in one transaction."""
_HOUR = 3_600_000_000
_LONGEST_PAUSE = 15.0
"""Seconds between tries while what is signed, or where heads are kept, cannot be reached."""
_log = logging.getLogger(__name__)


class HeadStore(Protocol):
    """A place outside of the database that keeps the newest checkpoint."""

    @property
    def name(self) -> str:
        """Where it is, for messages."""
        ...

    async def get(self) -> str | None:
        """Return what was put last; None where nothing was. Raises `HeadUnavailable`."""
        ...

    async def put(self, note: str) -> None:
        """Keep a checkpoint in the place of the last one, durably. Raises `HeadUnavailable`."""
        ...


class HeadUnavailable(LogUnavailable):
    """A place that keeps heads cannot be read or written now."""

    code = "head-unavailable"


class HeadRefused(LogError):
    """The database does not extend the last head that is known of its log."""

    code = "head-refused"


class Known(Struct, frozen=True):
    """A head that was kept: by whom, its note, and what it says."""

    store: str
    note: str
    checkpoint: Checkpoint


class Signer:
    """Signs for one log, under `origin`, with all of `keys`; `heads` keep what it signed.

    `interval` is in seconds, between looks; a log that has not grown is not signed again. `check`
    raises where another may sign by now; it is asked before anything leaves our hands.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        log: EventLog,
        origin: str,
        keys: Sequence[SignerKey],
        heads: Sequence[HeadStore],
        interval: float = 1.0,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        if not keys or any(key.name != origin for key in keys):
            raise ValueError("a signer needs keys, in the name of the log's origin")
        self._pool, self._log, self._proofs = pool, log, Proofs(pool, log)
        self._origin, self._keys, self._heads = origin, keys, heads
        self._interval, self.check = interval, check
        self._edge: Edge | None = None
        self._signed, self._note = 0, ""

    async def run(self) -> None:
        """Sign whenever the log has grown, until cancelled.

        What cannot be reached is waited for: nothing is published meanwhile, and nobody who appends
        is held up. Raises `LogCorrupt` where the log is not whole, and what `check` raises.
        """
        pause = self._interval
        while True:
            try:
                await self.step()
                pause = self._interval
            except LogUnavailable as error:
                self._edge = None
                _log.warning("nothing is signed: %s; trying again in %g s", error, pause)
                await anyio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            await anyio.sleep(self._interval)

    async def finish(self) -> None:
        """Sign what is there at the end, where it can be: the next start does it otherwise."""
        try:
            await self.step()
        except LogError as error:
            _log.warning("the last events are not signed yet: %s", error)

    async def step(self) -> str | None:
        """Sign what has been committed by now; return the note, None where nothing is new.

        Raises `LogCorrupt`, and `LogUnavailable` where the log or a head's place cannot be reached.
        """
        head = await self._log.head()
        if head < self._signed:
            raise LogCorrupt(
                f"the log ends at position {head}, and {self._signed} were signed: an older copy "
                "of the database was put in place; restore the newest one"
            )
        if head in (self._signed, 0):
            return None
        await self._is_ours()
        edge = await self._grow(head)
        checkpoint = Checkpoint(self._origin, head, edge.root())
        note = sign(checkpoint.text, self._keys)
        for store in self._heads:
            self.check()
            await store.put(note)
        self.check()
        await self._publish(head, note)
        self._signed, self._note = head, note
        return note

    async def _is_ours(self) -> None:
        """Raise `LogCorrupt` where what was published last has gone, as after a failover.

        A copy that lacks it may have grown on past it, and would be signed as if it were this log.
        """
        published = await self._proofs.published()
        size, note = (published.size, published.note) if published else (0, "")
        if size < self._signed or (size == self._signed and note != self._note):
            raise LogCorrupt(
                f"the checkpoint of {self._signed} events is not in the database any more: another "
                "copy of it was put in place; restore the newest one"
            )

    async def _grow(self, head: Position) -> Edge:
        """Take the tree up to `head`, and store its full tiles on the way."""
        if self._edge is None:
            self._edge = await self._proofs.edge(await self._proofs.full_tiles() * WIDTH)
        edge, self._edge = self._edge, None  # not ours again unless all of it is stored
        full: list[FullTile] = []
        while edge.size < head:
            until = min(head, edge.size - edge.size % WIDTH + WIDTH)
            entries = await self._proofs.entries_in(edge.size, until)
            full += edge.add(map(leaf_hash, entries))
            if len(full) >= _TILES:
                await self._store(full)
                full.clear()
            await let_others_run()
        if full:
            await self._store(full)
        self._edge = edge
        return edge

    async def _store(self, full: Sequence[FullTile]) -> None:
        rows = [(item.tile.level, item.tile.index, item.root, item.hashes) for item in full]
        with translated():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.executemany(SQL["put_tile"], rows)

    async def _publish(self, size: int, note: str) -> None:
        with translated():
            async with self._pool.acquire() as connection, connection.transaction():
                hour = await connection.fetchval(SQL["recorded"], size) // _HOUR
                await connection.execute(SQL["put_checkpoint"], size, hour, self._origin, note)
                await connection.execute(SQL["thin_checkpoints"], size, hour)


async def known_head(heads: Sequence[HeadStore], keys: Collection[bytes]) -> Known | None:
    """Return the largest head that was kept; None where no place has one.

    `keys` are the raw public keys that may have signed it, under whichever origin it names.

    A place that cannot be reached is passed over where another has a head. Raises
    `HeadUnavailable` where that leaves none, and `HeadRefused` for one that is not ours.
    """
    found: list[Known] = []
    failed: HeadUnavailable | None = None
    for store in heads:
        try:
            note = await store.get()
        except HeadUnavailable as error:
            _log.warning("the last head cannot be read: %s", error)
            failed = error
            continue
        if note is None:
            continue
        try:
            origin = parse(note).text.partition("\n")[0]
            ours = [VerifierKey(origin, raw) for raw in keys]
            found.append(Known(store.name, note, open_checkpoint(note, ours)))
        except NoteWrong as error:
            raise HeadRefused(
                f"the head in {store.name} is not signed by a key of ours ({error}): put the "
                "signing key that belongs to it in place, or, if it is another log's, use another "
                "place for this one"
            ) from error
    if not found and failed is not None:
        raise failed
    return max(found, key=lambda known: known.checkpoint.size, default=None)


async def check_head(proofs: Proofs, log: EventLog, origin: str, known: Known) -> None:
    """Make sure that a log extends a head of it that was kept; raises `HeadRefused`."""
    head, checkpoint = await log.head(), known.checkpoint
    if checkpoint.origin != origin:
        problem = f"it is of {checkpoint.origin}, and this log is {origin}"
    elif head < checkpoint.size:
        problem = f"it has {checkpoint.size} events, and the database {head}"
    else:
        try:
            root = (await proofs.edge(checkpoint.size)).root()
        except LogCorrupt as error:
            problem = str(error)
        else:
            if root == checkpoint.root:
                return
            problem = f"of its {checkpoint.size} events some are others in the database"
    raise HeadRefused(
        f"the database does not extend the last signed head, in {known.store}: {problem}. An older "
        "or another database was put in place: restore the newest one. If events are lost for good "
        "and this one is to go on, say so for the record: trueup audit accept-restore --reason …"
    )
