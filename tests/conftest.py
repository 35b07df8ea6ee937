"""Fixtures that every test may use: asyncio, and a Postgres with a database to itself."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from anyio.from_thread import start_blocking_portal

from engine.embedded import EmbeddedPostgres

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the product does."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """One server for all tests of this process (each xdist worker has its own).

    It lives in a thread with a loop of its own, so that tests may come and go with theirs.
    """
    settings = {"fsync": "off", "full_page_writes": "off", "max_connections": "100"}
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), settings)
    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(server):
        yield server


@asynccontextmanager
async def _database(server: EmbeddedPostgres, template: str) -> AsyncIterator[str]:
    name = f"test_{next(_numbers)}"
    admin = await asyncpg.connect(server.dsn)
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield server.dsn.replace("@/trueup?", f"@/{name}?")
        finally:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture
async def empty_dsn(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """The DSN of a fresh database with nothing in it."""
    async with _database(postgres, "template1") as dsn:
        yield dsn


@pytest.fixture
async def dsn(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """The DSN of a fresh database with every migration applied."""
    async with _database(postgres, "template1") as dsn:
        yield dsn
