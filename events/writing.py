"""How a decision is written: a small one by one statement, a large one by COPY.

Both take the log's lock, make sure that the log is as the decision took it to be, and write ids,
stream heads and events in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from events.batching import Decision
from events.event import Position, StreamName, Version
from events.limits import REMEMBERED
from events.migrate import AnyConnection
from events.queries import load

SQL = load("events", "log.sql")
LARGE = 100
"""Events from which on COPY is the quicker way, though it takes more round trips."""
_BEFORE_TEXT = "\x1f"
_COLUMNS = (
    "position",
    "stream",
    "version",
    "event_id",
    "type",
    "schema",
    "recorded_at",
    "occurred_at",
    "actor",
    "causation",
    "correlation",
    "traceparent",
    "payload",
)


class Placed(Struct, frozen=True):
    """Where a batch came to lie: behind `base`, its streams before it at `versions`."""

    recorded: int
    base: Position
    versions: Mapping[StreamName, Version]


async def write(
    connection: AnyConnection,
    base: Position,
    decision: Decision,
    *,
    oldest: int,
    fresh: Mapping[bytes, bytes],
) -> int | None:
    """Write a decision; return when it was recorded, None where the log is not at `base`.

    `oldest` is the time, in milliseconds, of the oldest of its ids, and `fresh` has bodies to keep
    by their digests. Raises what the database says; `Stale` stands for ids or versions that are
    not as was thought.
    """
    if len(decision.rows) < LARGE:
        return await _by_statement(connection, base, decision, oldest, fresh)
    if connection.is_in_transaction():
        return await _by_copy(connection, base, decision, oldest, fresh)
    async with connection.transaction():
        return await _by_copy(connection, base, decision, oldest, fresh)


async def write_behind(
    connection: AnyConnection,
    hint: Position,
    room: Position,
    decision: Decision,
    needed: Mapping[StreamName, Version | None],
    *,
    oldest: int,
    fresh: Mapping[bytes, bytes],
) -> Placed | None:
    """Write a small decision behind whatever is there; None where that cannot be.

    The decision was made as if the log ended at 0 and each stream were at the version that is
    needed, at 0 where any will do. `hint` is a position that is there, `room` the first that may
    have no partition. Raises as `write`.
    """
    heads = decision.heads.values()
    owners = {stream: number for number, stream in enumerate(decision.heads, 1)}
    rows = decision.rows
    bases = [needed[stream] for stream in decision.heads]
    (row,) = await connection.fetch(
        SQL["append_behind"],
        hint,
        room,
        oldest,
        REMEMBERED,
        list(fresh),
        list(fresh.values()),
        _texts(decision.heads),
        _numbers(["NULL" if base is None else base for base in bases]),
        _numbers([head.version - head.base for head in heads]),
        _numbers([head.position for head in heads]),
        _numbers([owners[row.prepared.new.stream] for row in rows]),
        _numbers([row.version - (needed[row.prepared.new.stream] or 0) for row in rows]),
        *_columns(decision),
    )
    if row[0] is None:
        return None
    return Placed(row[0], Position(row[1]), dict(zip(decision.heads, row[2], strict=True)))


async def _by_statement(
    connection: AnyConnection,
    base: Position,
    decision: Decision,
    oldest: int,
    fresh: Mapping[bytes, bytes],
) -> int | None:
    heads = decision.heads.values()
    recorded: int | None = await connection.fetchval(
        SQL["append"],
        base,
        oldest,
        REMEMBERED,
        list(fresh),
        list(fresh.values()),
        _texts(decision.heads),
        _numbers([head.base for head in heads]),
        _numbers([head.version for head in heads]),
        _numbers([head.position for head in heads]),
        _texts([row.prepared.new.stream for row in decision.rows]),
        _numbers([row.version for row in decision.rows]),
        *_columns(decision),
    )
    return recorded


def _columns(decision: Decision) -> tuple[object, ...]:
    """Return what both statements take of the events behind their streams and versions."""
    items = [row.prepared for row in decision.rows]
    news = [item.new for item in items]
    return (
        [new.event_id for new in news],
        _texts([item.type for item in items]),
        _numbers([item.schema for item in items]),
        _numbers([new.occurred_at for new in news]),
        _texts([new.actor for new in news]),
        _numbers(["NULL" if new.causation is None else new.causation for new in news]),
        _texts([new.correlation for new in news]),
        _texts([new.traceparent for new in news]),
        [item.payload for item in items],
    )


async def _by_copy(
    connection: AnyConnection,
    base: Position,
    decision: Decision,
    oldest: int,
    fresh: Mapping[bytes, bytes],
) -> int | None:
    heads = decision.heads.values()
    recorded: int | None = await connection.fetchval(
        SQL["reserve"],
        base,
        oldest,
        REMEMBERED,
        list(fresh),
        list(fresh.values()),
        list(decision.heads),
        _numbers([head.base for head in heads]),
        _numbers([head.version for head in heads]),
        _numbers([head.position for head in heads]),
    )
    if recorded is None:
        return None
    ids, events = [], []
    for row in decision.rows:
        item, position = row.prepared, row.position
        new = item.new
        ids.append((new.event_id, position))
        events.append(
            (
                position,
                new.stream,
                row.version,
                new.event_id,
                item.type,
                item.schema,
                recorded,
                new.occurred_at,
                new.actor,
                new.causation,
                new.correlation,
                new.traceparent,
                item.payload,
            )
        )
    # The ids first: one that is there already ends it before the large part is sent.
    await connection.copy_records_to_table("event_id", records=ids, columns=("id", "position"))
    await connection.copy_records_to_table("events", records=events, columns=_COLUMNS)
    return recorded


def _texts(values: Iterable[str]) -> str:
    """Write texts as one, for log.sql to cut up: none of them has a control character.

    As with numbers, the driver takes longer to encode a list.
    """
    return _BEFORE_TEXT.join(["", *values])


def _numbers(values: Iterable[int | str]) -> str:
    """Write an array of numbers as Postgres reads it.

    The driver takes longer to encode a list of numbers than the server takes to read this.
    """
    return f"{{{','.join(map(str, values))}}}"
