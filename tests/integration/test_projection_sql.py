"""The SQL of the views: all of it is valid, and the hot questions go by index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from projections.errors import ViewsUnavailable
from projections.queries import QUERIES
from projections.store import transaction
from tests.keeping import pool_of

pytestmark = pytest.mark.anyio
ROWS = 30_000


async def test_every_query_prepares(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    failed = {}
    try:
        for name, query in QUERIES.items():
            try:
                await connection.prepare(query)
            except asyncpg.PostgresError as error:
                failed[name] = str(error)
        assert failed == {}
    finally:
        await connection.close()


FILL = f"""
    INSERT INTO view_document (view, generation, key, position, document, i0, i1, i2)
    SELECT view, 1, 'key/' || lpad(n::text, 6, '0'), n, 'x', 'v' || n % 3, 'w' || n % 500,
        CASE WHEN n % 1000 = 0 THEN 'rare' END
    FROM generate_series(1, {ROWS}) AS n, unnest(ARRAY['one', 'two']) AS view;
    -- In another view the rare value is the common one, which misleads the statistics.
    INSERT INTO view_document (view, generation, key, position, document, i0, i1, i2)
    SELECT 'three', 1, 'key/' || n, n, 'x', 'v0', 'w0', 'rare'
    FROM generate_series(1, {ROWS}) AS n;
    INSERT INTO view_subject (view, generation, subject, position)
    SELECT 'about', 1, 's' || n % 200, n FROM generate_series(1, {ROWS}) AS n;
    INSERT INTO view_snapshot (view, generation, key, position, document)
    SELECT 'one', 1, 'key/' || lpad((n / 10)::text, 6, '0'), n,
        CASE WHEN n % 1000 > 0 THEN 'x'::bytea END
    FROM generate_series(1, {ROWS}) AS n;
    INSERT INTO view_formerly (view, generation, indexed, value, key)
    SELECT 'one', 1, 0, 'v' || n % 300, 'key/' || n FROM generate_series(1, {ROWS}) AS n;
    INSERT INTO view_checkpoint (view, generation, projection_version, live, position, epoch)
    SELECT view, 1, 1, true, {ROWS}, 1 FROM unnest(ARRAY['one', 'two', 'three', 'about']) AS view;
"""
KEY = "key/015000"
HOT: dict[str, tuple[str, list[Any]]] = {
    # Name of the query: the index that it must use, and its arguments.
    "get": ("view_document_pkey", ["one", 1, [KEY, "key/000001"]]),
    "page": ("view_document_pkey", ["one", 1, "key/", "key0", KEY, 500]),
    "page_by_first": (
        "view_document_i0",
        ["one", 1, "v1", "key/", "key0", KEY, 500, None, None],
    ),
    "page_by_second": ("view_document_i1", ["one", 1, "w7", "", "\U0010ffff", "", 500, None, None]),
    "page_by_third": (
        "view_document_i2",
        ["one", 1, "rare", "", "\U0010ffff", "", 500, None, None],
    ),
    "among_by_second": ("view_document_i1", ["one", 1, ["w7", "w8"], "\U0010ffff", 500]),
    "among_by_third": ("view_document_i2", ["one", 1, ["rare", "none"], "\U0010ffff", 500]),
    "count_by_third": ("view_document_i2", ["one", 1, "rare", "", "\U0010ffff", None, None]),
    "tally_by_second": (
        "view_document_i1",
        ["one", 1, "w7", "", "\U0010ffff", 1, 3, None, None],
    ),
    "subjects": ("view_subject_pkey", ["about", 1, "s7", 100, 20_000, 50]),
    "subjects_newest_first": ("view_subject_pkey", ["about", 1, "s7", 100, 20_000, 50]),
    "snapshots": ("view_snapshot_pkey", ["one", 1, ["key/000100", "key/001000"], 9000]),
    "formerly": ("view_formerly_pkey", ["one", 1, 0, "v7", "", "\U0010ffff", "", 500]),
    "once_gone": ("view_snapshot_gone", ["one", 1, "", "\U0010ffff", "", 500]),
    "filed": ("view_subject_pkey", ["about", 1, ["s7", "s8"], [100, 200], 20_000]),
    "load_documents": ("view_document_pkey", [["one", "two"], [1, 1], [KEY, KEY]]),
    "delete_documents": ("view_document_pkey", [["one", "two"], [1, 1], [KEY, KEY]]),
}


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
async def test_hot_queries_go_by_index_and_read_little_more_than_they_return(
    dsn: str, plans: str
) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(FILL)
        await connection.execute("ANALYZE")
        await connection.execute(f"SET plan_cache_mode = {plans}")
        for name, (index, arguments) in HOT.items():
            statement = await connection.prepare(
                f"EXPLAIN (ANALYZE, BUFFERS, TIMING off, FORMAT json) {QUERIES[name]}"
            )
            plan = json.loads(await statement.fetchval(*arguments))[0]["Plan"]
            nodes = list(walk(plan))
            scans = [node for node in nodes if "Scan" in node["Node Type"]]
            used = {node.get("Index Name") for node in scans} - {None}
            assert used == {index}, (name, used)
            assert not [node for node in scans if node["Node Type"] == "Seq Scan"], name
            # Read, and thrown away: what a scan of the wrong index would do by the thousands.
            removed = sum(node.get("Rows Removed by Filter", 0) for node in nodes)
            assert removed == 0, (name, removed)
            assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 600, name
    finally:
        await connection.close()


async def test_a_value_that_became_rare_since_the_statistics_were_taken_goes_by_its_index(
    dsn: str,
) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("ALTER TABLE view_document SET (autovacuum_enabled = off)")
        await connection.execute(
            "INSERT INTO view_document (view, generation, key, position, document, i0) "
            "SELECT 'one', 1, 'key/' || n, n, 'x', 'open' FROM generate_series(1, $1::integer) n",
            ROWS,
        )
        await connection.execute("ANALYZE view_document")
        await connection.execute("UPDATE view_document SET i0 = 'done' WHERE position > 10")
        statement = await connection.prepare(
            f"EXPLAIN (ANALYZE, FORMAT json) {QUERIES['page_by_first']}"
        )
        arguments = ["one", 1, "open", "", "\U0010ffff", "", 500, None, None]
        plan = json.loads(await statement.fetchval(*arguments))[0]["Plan"]
        scans = [node for node in walk(plan) if "Scan" in node["Node Type"]]
        assert [node.get("Index Name") for node in scans] == ["view_document_i0"]
        assert sum(node.get("Rows Removed by Filter", 0) for node in scans) == 0
    finally:
        await connection.close()


def walk(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from walk(child)


async def test_moving_a_checkpoint_does_not_touch_its_indexes(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(FILL)
        arguments = [["one", "two"], [1, 1], [True, True], 0, 1]
        for position in range(ROWS, ROWS + 20):
            moved = await connection.fetch(QUERIES["advance"], *arguments, position, position + 1)
            assert len(moved) == 2
        await connection.execute("SELECT pg_stat_force_next_flush()")
        row = await connection.fetchrow(
            "SELECT n_tup_upd AS updates, n_tup_hot_upd AS hot FROM pg_stat_user_tables "
            "WHERE relname = 'view_checkpoint'"
        )
        assert row is not None
        assert row["updates"] == 40
        assert row["hot"] == 40
    finally:
        await connection.close()


async def test_a_connection_that_broke_before_its_transaction_is_the_database_away(
    dsn: str,
) -> None:
    async with pool_of(dsn) as pool:
        connection = await pool.acquire()
        connection.terminate()
        with pytest.raises(ViewsUnavailable):
            async with transaction(connection):
                pytest.fail("there is no transaction")
