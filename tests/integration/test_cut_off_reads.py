"""A read that is cut off, at whatever point, leaves nothing behind on its connection."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import anyio
import asyncpg
import pytest

from events.connection import _Connection, _settle, make_pool
from projections.store import connected, transaction

pytestmark = pytest.mark.anyio


async def asked(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    # Another statement each time: one that is known already is not prepared.
    async with connected(pool) as connection:
        await connection.fetch(f"SELECT relname, '{uuid4()}' FROM pg_class LIMIT 1")


async def snapshot_taken(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    async with connected(pool) as connection, transaction(connection, snapshot=True):
        assert await connection.fetchval("SELECT 1") == 1


async def test_cut_off_between_preparing_a_statement_and_sending_it(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope = anyio.CancelScope()
    prepare = asyncpg.Connection._get_statement  # type: ignore[attr-defined]

    async def prepared(self: Any, *arguments: Any, **settings: Any) -> Any:
        statement = await prepare(self, *arguments, **settings)
        scope.cancel()
        await anyio.lowlevel.checkpoint()
        return statement

    pool = await make_pool(dsn, 1)
    try:
        with monkeypatch.context() as patched, scope:
            patched.setattr(asyncpg.Connection, "_get_statement", prepared)
            await asked(pool)
        assert scope.cancelled_caught
        await snapshot_taken(pool)
    finally:
        pool.terminate()


async def test_cut_off_after_any_number_of_turns(dsn: str) -> None:
    pool = await make_pool(dsn, 1)
    try:
        for turns in range(60):
            async with anyio.create_task_group() as group:
                group.start_soon(asked, pool)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            await snapshot_taken(pool)
    finally:
        pool.terminate()


async def test_one_that_is_terminated_while_it_is_settled_is_nobodys_error(dsn: str) -> None:
    connection = await asyncpg.connect(dsn, connection_class=_Connection)
    connection.is_cut_off = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_settle, connection)
        await anyio.lowlevel.checkpoint()  # its question is under way
        connection.terminate()
    assert connection.is_closed()
