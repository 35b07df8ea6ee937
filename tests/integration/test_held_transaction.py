"""A transaction that somebody holds open makes appends neither wait nor cost more, however many.

While it is open, Postgres may throw away no earlier state of a row. So what is counted is pages:
how many a look at the streams' heads takes, early and late. `--held-appends 100000` has 200,000.
"""

from __future__ import annotations

import anyio
import asyncpg
import pytest

from events.postgres import open_log
from tests.appending import new

pytestmark = pytest.mark.anyio
CALLERS = 8
STREAMS = 5


async def appended(dsn: str, number: int) -> None:
    """Append so many events, each by itself, and wait until the servers of it have told."""
    async with open_log(dsn) as log, anyio.create_task_group() as group:

        async def call(caller: int) -> None:
            for turn in range(number // CALLERS):
                await log.append([new(f"app/default/{(caller + turn) % STREAMS}")])

        for caller in range(CALLERS):
            group.start_soon(call, caller)
    with anyio.fail_after(30):
        while await asked(dsn, "SELECT count(*) FROM pg_stat_activity WHERE " + OURS):  # noqa: ASYNC110
            await anyio.sleep(0.05)


OURS = "application_name = 'trueup log' AND datname = current_database()"


async def asked(dsn: str, query: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval(query))
    finally:
        await connection.close()


async def pages(dsn: str) -> int:
    """Return how many pages of the streams' heads were looked at so far, in memory or not."""
    return await asked(
        dsn,
        "SELECT heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read "
        "FROM pg_statio_user_tables WHERE relname = 'stream_head'",
    )


async def writes(dsn: str) -> int:
    return await asked(
        dsn,
        "SELECT n_tup_ins + n_tup_upd FROM pg_stat_user_tables WHERE relname = 'stream_head'",
    )


async def test_appends_cost_the_same_however_long_a_transaction_is_open(
    dsn: str, request: pytest.FixtureRequest
) -> None:
    number = request.config.getoption("--held-appends")
    await appended(dsn, CALLERS)
    holder = await asyncpg.connect(dsn)
    try:
        async with holder.transaction(isolation="repeatable_read"):
            assert await holder.fetchval("SELECT count(*) FROM events") == CALLERS
            costs = []
            for _ in range(2):
                before = await pages(dsn), await writes(dsn)
                await appended(dsn, number)
                looked, wrote = await pages(dsn) - before[0], await writes(dsn) - before[1]
                assert wrote >= number // CALLERS
                costs.append(looked / wrote)
            assert await holder.fetchval("SELECT count(*) FROM events") == CALLERS
    finally:
        await holder.close()
    early, late = costs
    print(f"pages a write: {early:.2f} early, {late:.2f} late")
    assert late < early * 1.3
    assert await asked(dsn, "SELECT max(position) FROM events") == CALLERS + 2 * number
