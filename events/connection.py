"""Connections to Postgres, and what its errors mean to a log. Here asyncpg's errors are named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from events.log import LogError, LogUnavailable
from events.migrate import AnyConnection

LOCK_TIMEOUT = 10_000
"""Milliseconds to wait for a lock that somebody else holds."""
STATEMENT_TIMEOUT = 60.0
"""Seconds for one statement."""
HEARING = 0.05
"""Seconds before a second try: where one connection broke, the idle ones have too, and the pool
hears of it in this time."""
_STALE = ("TU001", "23505")
"""What our own SQL raises where the log is not as the caller thought (see the migrations), and a
unique index: an id that was used, a position that is taken."""
_UNAVAILABLE_CLASSES = ("08", "25", "28", "3D", "40", "53", "55", "57", "58")
"""SQLSTATE classes of what may be otherwise later: connection, a read-only or restarting server,
credentials, a database that is not there, deadlock, resources, locks, an operator, its disk."""

_DISK_FULL = "53100"


class ConnectionLost(LogUnavailable):
    """The connection broke; what was under way may have happened or not."""


class Stale(LogError):
    """The log is not as the caller thought: look again."""


def _noting(ask: Any) -> Any:
    """Have a question note on its connection that it failed, or was cut off."""

    @wraps(ask)
    async def asked(self: Any, *arguments: Any, **settings: Any) -> Any:
        try:
            return await ask(self, *arguments, **settings)
        except BaseException:
            self.is_cut_off = True
            raise

    return asked


class _Connection(asyncpg.Connection):
    """One that knows whether a question was cut off, by a cancellation or a time-out.

    asyncpg sends a statement to be prepared, and what ends the message together with the values.
    Cut off in between, the server has begun a transaction and taken a snapshot, and the driver
    takes the connection for idle: whoever is next to ask for an isolation level is refused (25001).
    """

    __slots__ = ("is_cut_off",)

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.is_cut_off = False

    execute = _noting(asyncpg.Connection.execute)
    executemany = _noting(asyncpg.Connection.executemany)
    fetch = _noting(asyncpg.Connection.fetch)
    fetchrow = _noting(asyncpg.Connection.fetchrow)
    fetchval = _noting(asyncpg.Connection.fetchval)
    copy_records_to_table = _noting(asyncpg.Connection.copy_records_to_table)


async def _settle(connection: Any) -> None:
    """Have a connection ready for the next; nothing here changes a session that a reset would mend.

    Where something was cut off, a whole statement ends what the server may be in the middle of.
    """
    if connection.is_cut_off:
        try:
            await connection.execute("SELECT 1")
        except asyncpg.ConnectionDoesNotExistError:
            # The pool was ended meanwhile: there is nothing to settle, and nobody awaits us.
            connection.terminate()
            return
        connection.is_cut_off = False


async def make_pool(dsn: str, size: int, name: str = "trueup") -> asyncpg.Pool[asyncpg.Record]:
    """Open a pool of at most `size` connections; raises `LogError`."""
    with translated():
        return await asyncpg.create_pool(
            dsn,
            min_size=0,
            max_size=size,
            command_timeout=STATEMENT_TIMEOUT,
            connection_class=_Connection,
            reset=_settle,
            server_settings={
                "application_name": name,
                "lock_timeout": str(LOCK_TIMEOUT),
                # Whoever stops in the middle of an append must not stop everybody.
                "idle_in_transaction_session_timeout": str(LOCK_TIMEOUT // 2),
            },
        )


async def connect(dsn: str) -> AnyConnection:
    """Open one connection, without time-outs, for migrations; raises `LogError`."""
    with translated():
        return await asyncpg.connect(dsn, server_settings={"application_name": "trueup"})


async def discard(
    pool: asyncpg.Pool[asyncpg.Record], connection: PoolConnectionProxy[asyncpg.Record]
) -> None:
    """Close a connection, whatever state it is in, and give its place back to the pool."""
    try:
        connection.terminate()
    except asyncpg.InterfaceError:
        return  # it broke, and the pool took its place back by itself
    await pool.release(connection)


@contextmanager
def translated() -> Iterator[None]:
    """Turn the database's errors into the log's: `LogUnavailable` for what may be otherwise later.

    Messages carry no values: what a statement was given may not be for everybody's eyes.
    """
    try:
        yield
    except asyncpg.PostgresError as error:
        raise _meaning(error) from error
    except asyncpg.DataError as error:
        raise LogError(f"the database driver refused a value: {error}") from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        # The internal one comes of a statement that meets the server's goodbye.
        said = str(error) or type(error).__name__
        raise ConnectionLost(f"the database cannot be reached: {said}") from error


def _meaning(error: asyncpg.PostgresError) -> LogError:
    state = error.sqlstate or ""
    if state in _STALE:
        return Stale(error.args[0])
    said = f"{error.args[0]} (SQLSTATE {state})"
    # 08: connection; 57P01 to 57P03: shut down, crashed, starting up.
    if state.startswith(("08", "57P")) or isinstance(error, asyncpg.PostgresConnectionError):
        return ConnectionLost(f"the database cannot be reached: {said}")
    if state == _DISK_FULL:
        return LogUnavailable(
            f"the database's disk is full: {said}; make room, and it goes on by itself"
        )
    if state.startswith(_UNAVAILABLE_CLASSES):
        return LogUnavailable(f"the database does not serve now: {said}")
    return LogError(f"the database refused: {said}")
