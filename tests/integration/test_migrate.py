"""Migrations run once each, in order, by whoever comes first, and never backwards."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import asyncpg
import pytest

from events import migrate as module
from events.log import LogError, LogUnavailable
from events.migrate import Migration, SchemaRefused, migrate, migrations_of
from events.postgres import open_log
from tests.appending import new
from tests.databases import PACKAGES

pytestmark = pytest.mark.anyio
ONE = Migration("thing", "0001_one", "CREATE TABLE one (n int); INSERT INTO one VALUES (1)")
TWO = Migration("thing", "0002_two", "INSERT INTO one VALUES (2)")


async def run(dsn: str, *packages: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return await migrate(connection, *packages)
    finally:
        await connection.close()


async def column(dsn: str, query: str) -> list[object]:
    connection = await asyncpg.connect(dsn)
    try:
        return [row[0] for row in await connection.fetch(query)]
    finally:
        await connection.close()


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> list[Migration]:
    """The migrations that this release has of the package `thing`."""
    steps: list[Migration] = []
    real = migrations_of

    def of(package: str) -> Sequence[Migration]:
        return steps if package == "thing" else real(package)

    monkeypatch.setattr(module, "migrations_of", of)
    return steps


async def test_every_package_is_brought_up_to_date_once(empty_dsn: str) -> None:
    first = await run(empty_dsn, *PACKAGES)
    assert first[0] == "events/0001_log"
    assert await run(empty_dsn, *PACKAGES) == []
    assert len(await column(empty_dsn, "SELECT log_id FROM log_head")) == 1


async def test_engines_that_start_at_once_take_turns(
    empty_dsn: str, release: list[Migration]
) -> None:
    release += [ONE, TWO]
    done: list[list[str]] = []

    async def start() -> None:
        done.append(await run(empty_dsn, "events", "thing"))

    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(start)
    assert sorted(map(len, done))[:-1] == [0] * 5
    assert await column(empty_dsn, "SELECT n FROM one ORDER BY n") == [1, 2]


async def test_logs_opened_at_once_on_an_empty_database_are_one_log(empty_dsn: str) -> None:
    ids: list[str] = []

    async def engine() -> None:
        async with open_log(empty_dsn, connections=4) as log:
            await log.append([new()])
            ids.append(log.log_id)

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(engine)
    assert len(set(ids)) == 1
    assert await column(empty_dsn, "SELECT position FROM events ORDER BY 1") == [1, 2, 3, 4, 5]


async def test_a_step_that_fails_leaves_nothing_and_can_be_mended(
    empty_dsn: str, release: list[Migration]
) -> None:
    release += [ONE, Migration("thing", "0002_two", "CREATE TABLE two (n int); SELECT nonsense")]
    with pytest.raises(asyncpg.UndefinedColumnError):
        await run(empty_dsn, "thing")
    assert await column(empty_dsn, "SELECT name FROM schema_migration") == ["0001_one"]
    assert await column(empty_dsn, "SELECT to_regclass('two')") == [None]
    release[1] = TWO
    assert await run(empty_dsn, "thing") == ["thing/0002_two"]


async def test_a_database_from_a_newer_release_is_refused_untouched(
    empty_dsn: str, release: list[Migration]
) -> None:
    release += [ONE, TWO]
    await run(empty_dsn, "thing")
    del release[1]
    with pytest.raises(SchemaRefused, match="newer release") as caught:
        await run(empty_dsn, "events", "thing")
    assert caught.value.code == "schema-newer"
    assert await column(empty_dsn, "SELECT to_regclass('events')") == [None]
    with pytest.raises(SchemaRefused):
        async with open_log(empty_dsn, packages=("thing",)):
            pass


async def test_a_database_of_another_build_is_refused(
    empty_dsn: str, release: list[Migration]
) -> None:
    release.append(ONE)
    await run(empty_dsn, "thing")
    release[0] = Migration("thing", "0001_one", "CREATE TABLE another (n int)")
    with pytest.raises(SchemaRefused, match="another build") as caught:
        await run(empty_dsn, "thing")
    assert caught.value.code == "schema-differs"


def test_migrations_are_numbered_without_a_gap() -> None:
    for package in PACKAGES:
        numbers = [int(step.name[:4]) for step in migrations_of(package)]
        assert numbers == list(range(1, len(numbers) + 1))


async def test_a_database_that_cannot_be_reached_or_used_is_said(empty_dsn: str) -> None:
    with pytest.raises(LogUnavailable, match="cannot be reached"):
        async with open_log("postgresql://user@127.0.0.1:1/none"):
            pass
    with pytest.raises(LogUnavailable, match="does not exist"):
        async with open_log(empty_dsn.replace("/test_", "/no_test_")):
            pass
    with pytest.raises(LogError, match="DSN"):
        async with open_log("mysql://user:secret@host/none") as log:
            await log.head()


async def test_a_database_in_another_encoding_is_refused(empty_dsn: str) -> None:
    connection = await asyncpg.connect(empty_dsn)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(
        f"CREATE DATABASE {name}_latin TEMPLATE template0 ENCODING 'LATIN1' "
        "LOCALE_PROVIDER libc LOCALE 'C'"
    )
    try:
        with pytest.raises(LogError, match="LATIN1"):
            async with open_log(empty_dsn.replace(f"/{name}?", f"/{name}_latin?")):
                pass
    finally:
        await connection.execute(f"DROP DATABASE {name}_latin WITH (FORCE)")
        await connection.close()
