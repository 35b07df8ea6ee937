"""How a decision is written: a small one by one statement, a large one by COPY.

Both take the log's lock, make sure that the log is as the decision took it to be, and write ids,
stream heads and events in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from events.batching import Decision
from events.event import Position
from events.limits import REMEMBERED
from events.migrate import AnyConnection
from events.queries import load

SQL = load("events", "log.sql")
LARGE = 100
"""Events from which on COPY is the quicker way, though it takes more round trips."""
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


async def _by_statement(
    connection: AnyConnection,
    base: Position,
    decision: Decision,
    oldest: int,
    fresh: Mapping[bytes, bytes],
) -> int | None:
    items = [row.prepared for row in decision.rows]
    news = [item.new for item in items]
    heads = decision.heads.values()
    recorded: int | None = await connection.fetchval(
        SQL["append"],
        base,
        oldest,
        REMEMBERED,
        list(fresh),
        list(fresh.values()),
        list(decision.heads),
        _numbers([head.base for head in heads]),
        _numbers([head.version for head in heads]),
        _numbers([head.position for head in heads]),
        [new.stream for new in news],
        _numbers([row.version for row in decision.rows]),
        [new.event_id for new in news],
        [item.type for item in items],
        _numbers([item.schema for item in items]),
        _numbers([new.occurred_at for new in news]),
        [new.actor for new in news],
        _numbers(["NULL" if new.causation is None else new.causation for new in news]),
        [new.correlation for new in news],
        [new.traceparent for new in news],
        [item.payload for item in items],
    )
    return recorded


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


def _numbers(values: Iterable[int | str]) -> str:
    """Write an array of numbers as Postgres reads it.

    The driver takes longer to encode a list of numbers than the server takes to read this.
    """
    return f"{{{','.join(map(str, values))}}}"
