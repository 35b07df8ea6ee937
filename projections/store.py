"""Where the views are kept in Postgres: documents, subjects and checkpoints, in one transaction.

A generation of a view is one fold of it from the log's first event on; one of them is live, and
readers see no other. A slot says how far a generation is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeAlias
from uuid import UUID

import anyio
import asyncpg
from asyncpg.pool import PoolConnectionProxy
from msgspec import Struct

from events.connection import translated
from events.event import EventId, Position
from events.log import LogError, LogUnavailable
from projections.batch import Changes, Parked, ParkedNames, Plan, Row, Scope, Stored
from projections.errors import ViewError, ViewsUnavailable
from projections.projection import INDEX_COLUMNS
from projections.queries import QUERIES

# Quoted: at run time these classes take no parameters.
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

TOLD_LIMIT = 100
"""How many parked documents of one generation of a view the log is told of."""
_CLEANUP = 5.0
"""Seconds that the end of a transaction or connection may take."""
_COPY_FROM = 200
"""Entries of a subject index from which COPY is quicker."""
_SLICED = ("drop_documents", "drop_subjects", "drop_snapshots", "drop_former_values")
"""What a generation has so much of that it goes a slice at a time."""
_PATIENCE = 3600.0
"""Seconds for a question about a whole view."""


class Slot(Struct, frozen=True):
    """One shard of a generation of a view: by which version of the projection, and how far.

    The generation is folded in `shards` parts; this is part `shard` of them, from 0. It is `wanted`
    unless whoever leads puts it aside.
    """

    view: str
    generation: int
    version: int
    live: bool
    position: Position
    epoch: int
    shard: int = 0
    shards: int = 1
    wanted: bool = True


Slots: TypeAlias = Mapping[str, Slot]
"""One slot a view."""


class Untold(Struct, frozen=True):
    """Something parked that the log does not say yet, and the id under which it shall."""

    parked: Parked
    event_id: EventId


class Store:
    """The tables of the views in one database.

    The pool is one of `events.connection.make_pool`: its time-outs keep a process that stalls
    inside a transaction from stopping its successor.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def session(self, shard: int | None = None) -> AsyncIterator[Session]:
        """Take a connection for as long as this lasts: for one shard, or for all together.

        Raises `ViewsUnavailable`.
        """
        async with connected(self._pool) as connection:
            with reachable():
                await connection.execute(QUERIES["by_index"])
            yield Session(connection, shard)


class Session:
    """The store over one connection. Every method may raise `ViewsUnavailable`.

    `shard` is the part of every view that is kept here, None for all of it: then the shards of a
    generation move together.
    """

    def __init__(self, connection: Connection, shard: int | None = None) -> None:
        self._connection, self.shard = connection, shard

    def of_shard(self, shard: int) -> Session:
        """Return a session for one shard over the same connection, in the same transaction."""
        return Session(self._connection, shard)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """All or nothing, for what happens inside."""
        async with transaction(self._connection):
            yield

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[None]:
        """Read as of one moment, for what happens inside."""
        async with transaction(self._connection, snapshot=True):
            with reachable():
                await self._connection.execute(QUERIES["by_any_means"])
            yield

    async def slots(self, views: Iterable[str]) -> list[Slot]:
        """Return every generation of some views, by view, generation and shard."""
        rows = await self._fetch(QUERIES["slots"], list(views), self.shard)
        return [Slot(*row) for row in rows]

    async def prepare(self, views: Iterable[str]) -> list[Slot]:
        """Return every generation of some views in every shard, to decide which there shall be.

        Call it in a transaction: nobody else decides, and nobody moves them, until it ends.
        """
        await self._fetch(QUERIES["prepare_lock"])
        rows = await self._fetch(QUERIES["slots"], list(views), None)
        return [Slot(*row) for row in rows]

    async def claim(self, slots: Collection[Slot], epoch: int) -> None:
        """Let only `epoch` move these slots from now on."""
        await self._execute(QUERIES["claim"], *_columns(slots), _shards(slots), epoch)

    async def begin_generation(
        self, view: str, generation: int, version: int, epoch: int, shards: int = 1
    ) -> Slot:
        """Make an empty generation; it is not live. Raises asyncpg's error where it exists."""
        await self._execute(QUERIES["begin_generation"], view, generation, shards, version, epoch)
        return Slot(view, generation, version, False, Position(0), epoch, self.shard or 0, shards)

    async def want(self, views: Iterable[str], slots: Collection[Slot]) -> None:
        """Say which generations of some views are to be kept: those of these slots alone."""
        await self._execute(QUERIES["want"], list(views), *_columns(slots))

    async def set_live(self, slots: Collection[Slot], live: bool) -> None:
        """Say of these slots whether they are live, each kept by the epoch that it says.

        Call it in a transaction, and first for those that retire: at no moment may a view have two
        live generations.
        """
        epochs = [slot.epoch for slot in slots]
        await self._execute(QUERIES["set_live"], *_columns(slots), _shards(slots), epochs, live)

    async def load(
        self,
        slots: Slots,
        plan: Plan,
        unread: Collection[tuple[str, str]],
        *,
        any_parked: bool,
    ) -> tuple[dict[tuple[str, str], Stored], ParkedNames]:
        """Return those of a plan's documents that are `unread`, and what of its names is parked."""
        stored: dict[tuple[str, str], Stored] = {}
        parked: ParkedNames = frozenset()
        if unread:
            # In the order of the index: neighbours are found in the page that is at hand.
            rows = await self._fetch(QUERIES["load_documents"], *_keyed(slots, sorted(unread)))
            stored = {(row[0], row[1]): Stored(Position(row[2]), row[3], row[4]) for row in rows}
        if any_parked:
            names = sorted(plan.names())
            rows = await self._fetch(
                QUERIES["load_parked"],
                [view for view, _, _ in names],
                [slots[view].generation for view, _, _ in names],
                [scope for _, scope, _ in names],
                [name for _, _, name in names],
                min(slot.position for slot in slots.values()),
            )
            parked = {(row[0], Scope(row[1]), row[2]) for row in rows}
        return stored, parked

    async def save(
        self, slots: Slots, to: Position, changes: Changes, event_ids: Sequence[EventId]
    ) -> bool:
        """Store what a batch changed and move the slots to `to`, all at once.

        `event_ids` has one for each parked. Returns False, and writes nothing, where some slot is
        no longer as given.
        """
        # All that takes long is made ready before: a transaction that idles is ended by the server.
        documents = _document_columns(slots, changes.rows)
        filed = [
            (view, slots[view].generation, subject, position)
            for view, subject, position in sorted(changes.filed)
        ]
        try:
            async with self.transaction():
                await self._advance(slots, to)
                if changes.rows:
                    await self._execute(QUERIES["save_documents"], *documents)
                if changes.gone:
                    await self._execute(QUERIES["delete_documents"], *_keyed(slots, changes.gone))
                await self._save_past(slots, changes)
                await self._file(filed)
                if changes.parked:
                    await self._park(slots, changes.parked, event_ids)
        except _Moved:
            return False
        return True

    async def any_parked(self, slots: Collection[Slot]) -> bool:
        """Whether anything is parked in these slots."""
        (row,) = await self._fetch(QUERIES["has_parked"], *_generations(slots))
        return bool(row[0])

    async def parked(self, slots: Collection[Slot], limit: int) -> list[Parked]:
        """Return what is parked in these slots, by view and position."""
        rows = await self._fetch(QUERIES["parked"], *_generations(slots), limit)
        return [_parked(row[0], row[1], row[2], row[3], row[4]) for row in rows]

    async def untold(self, slots: Collection[Slot]) -> list[Untold]:
        """Return some of what is parked in these slots and the log does not say yet."""
        rows = await self._fetch(QUERIES["untold"], *_generations(slots))
        return [
            Untold(_parked(row[0], row[2], row[3], row[4], row[5]), EventId(str(row[6])))
            for row in rows
        ]

    async def told(self, event_ids: Iterable[EventId]) -> None:
        """Note that the log says this now."""
        await self._execute(QUERIES["told"], [UUID(event_id) for event_id in event_ids])

    async def renew(self, event_id: EventId, new: EventId) -> None:
        """Let the log say under another id what it was not told under the first."""
        await self._execute(QUERIES["renew_untold"], UUID(event_id), UUID(new))

    async def drop(self, slot: Slot) -> None:
        """Remove a generation, a slice at a time. Raises ValueError for the live one."""
        place = (slot.view, slot.generation)
        await self._execute(QUERIES["retire"], *place)
        if any(o.live for o in await self.slots([slot.view]) if o.generation == slot.generation):
            raise ValueError(f"generation {slot.generation} of the view {slot.view} is live")
        await self._execute(QUERIES["drop_parked"], *place)
        for query in _SLICED:
            while await self._execute(QUERIES[query], *place):
                pass
        await self._execute(QUERIES["drop_generation"], *place)

    async def _advance(self, slots: Slots, to: Position) -> None:
        some = list(slots.values())
        first = some[0]
        if any((slot.position, slot.epoch) != (first.position, first.epoch) for slot in some):
            raise ValueError("slots that move together must be at one position, of one epoch")
        views, generations = _columns(some)
        live = [slot.live for slot in some]
        rows = await self._fetch(
            QUERIES["advance"],
            views,
            generations,
            live,
            self.shard,
            first.epoch,
            first.position,
            to,
        )
        if len(rows) != len(some) * (first.shards if self.shard is None else 1):
            raise _Moved

    async def _save_past(self, slots: Slots, changes: Changes) -> None:
        taken = changes.snapshots
        if taken:
            await self._execute(
                QUERIES["save_snapshots"],
                *_keyed(slots, [(each.view, each.key) for each in taken]),
                [each.position for each in taken],
                [each.document for each in taken],
            )
        # In the order of the index, as all who write them do.
        former = sorted(changes.formerly)
        if former:
            await self._execute(
                QUERIES["save_former_values"],
                [view for view, _, _, _ in former],
                [slots[view].generation for view, _, _, _ in former],
                [column for _, column, _, _ in former],
                [value for _, _, value, _ in former],
                [key for _, _, _, key in former],
            )

    async def _file(self, filed: Sequence[tuple[str, int, str, Position]]) -> None:
        # In the order of the index, so that its pages are gone through once.
        if len(filed) > _COPY_FROM:
            # Nothing of it can be there yet: entries are written with the checkpoint or not at all.
            with reachable():
                await self._connection.copy_records_to_table("view_subject", records=filed)
        elif filed:
            await self._execute(
                QUERIES["file_subjects"],
                *([entry[column] for entry in filed] for column in range(4)),
            )

    async def _park(
        self, slots: Slots, parked: Sequence[Parked], event_ids: Sequence[EventId]
    ) -> None:
        await self._execute(
            QUERIES["park"],
            [each.view for each in parked],
            [slots[each.view].generation for each in parked],
            [each.scope for each in parked],
            [each.name for each in parked],
            [each.position for each in parked],
            [each.message for each in parked],
            [UUID(event_id) for event_id in event_ids],
            TOLD_LIMIT,
        )

    async def fetch(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run a named query and return its rows."""
        return await self._fetch(QUERIES[name], *arguments)

    async def scan(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run a named query that may take long and return its rows."""
        with reachable():
            return await self._connection.fetch(QUERIES[name], *arguments, timeout=_PATIENCE)

    async def _fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        with reachable():
            return await self._connection.fetch(query, *arguments)

    async def _execute(self, query: str, *arguments: Any) -> int:
        """Run a command and return how many rows it touched."""
        with reachable():
            status = await self._connection.execute(query, *arguments)
        return int(status.rpartition(" ")[2])


class _Moved(Exception):
    """Some slot is no longer where it was thought to be."""


@contextmanager
def reachable() -> Iterator[None]:
    """Turn the database's errors into the views': `ViewsUnavailable` for what may pass."""
    try:
        with translated():
            yield
    except LogUnavailable as error:
        raise ViewsUnavailable(str(error)) from error
    except asyncpg.InternalClientError as error:
        # What asyncpg makes of a connection that is cut just when it is used.
        raise ViewsUnavailable(f"the connection to the database broke: {error}") from error
    except LogError as error:
        raise ViewError(f"the views cannot be kept: {error}") from error


@asynccontextmanager
async def connected(pool: Pool) -> AsyncIterator[Connection]:
    """Take a connection from the pool. Raises `ViewsUnavailable`; what the body raises passes."""
    with reachable():
        connection = await pool.acquire()
    try:
        yield connection
    except ViewsUnavailable:
        with suppress(asyncpg.InterfaceError):  # the pool may have dropped it already
            connection.terminate()  # who knows what state it is in
        raise
    finally:
        with anyio.CancelScope(shield=True), reachable():
            await pool.release(connection, timeout=_CLEANUP)


@asynccontextmanager
async def transaction(connection: Connection, *, snapshot: bool = False) -> AsyncIterator[None]:
    """Open a transaction; with `snapshot` it reads only, as of one moment.

    Raises `ViewsUnavailable`; what the body raises rolls back, and passes.
    """
    with reachable():
        # The connection may have broken since it was taken, which is said here already.
        block = connection.transaction(
            isolation="repeatable_read" if snapshot else None, readonly=snapshot
        )
        await block.start()
    try:
        yield
    except BaseException:
        # Cancelled too: a connection goes back to the pool without a transaction, or not at all.
        with anyio.move_on_after(_CLEANUP, shield=True), suppress(ViewsUnavailable), reachable():
            await block.rollback()
        raise
    with reachable():
        await block.commit()


def _document_columns(slots: Slots, changed: Collection[Row]) -> list[list[Any]]:
    """Return the columns of documents, in the order of the index, as all who write them do."""
    rows = sorted(changed, key=lambda row: (row.view, row.key))
    return [
        [row.view for row in rows],
        [slots[row.view].generation for row in rows],
        [row.key for row in rows],
        [row.position for row in rows],
        [row.document for row in rows],
        [row.tail for row in rows],
        *([row.index[column] for row in rows] for column in range(INDEX_COLUMNS)),
    ]


def _columns(slots: Collection[Slot]) -> tuple[list[str], list[int]]:
    return [slot.view for slot in slots], [slot.generation for slot in slots]


def _generations(slots: Collection[Slot]) -> tuple[list[str], list[int]]:
    """Name each generation once: what is parked is parked in all shards."""
    places = dict.fromkeys((slot.view, slot.generation) for slot in slots)
    return [view for view, _ in places], [generation for _, generation in places]


def _shards(slots: Collection[Slot]) -> list[int]:
    return [slot.shard for slot in slots]


def _keyed(
    slots: Slots, keys: Collection[tuple[str, str]]
) -> tuple[list[str], list[int], list[str]]:
    return (
        [view for view, _ in keys],
        [slots[view].generation for view, _ in keys],
        [key for _, key in keys],
    )


def _parked(view: str, scope: str, name: str, position: int, message: str) -> Parked:
    return Parked(view, Scope(scope), name, Position(position), message)
