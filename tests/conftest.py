"""Fixtures that every test may use: asyncio, and a Postgres with a database to itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from anyio.from_thread import start_blocking_portal

from engine.embedded.server import EmbeddedPostgres
from tests.databases import EMPTY, fresh_database, make_template


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a person ask for more than `make test` has time for."""
    group = parser.getgroup("trueup")
    group.addoption("--kills", type=int, default=3, help="kills in one rollout (test_kills.py)")
    group.addoption("--held-appends", type=int, default=2000, help="see test_held_transaction.py")
    group.addoption("--seed", type=int, default=20261123, help="seed of the moments of the kills")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the product does."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """One server for all tests of this process (each xdist worker has its own).

    It lives in a thread with a loop of its own, so that tests may come and go with theirs.
    """
    settings = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), settings)
    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(server):
        portal.call(make_template, server)
        yield server


@pytest.fixture
async def dsn(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """The DSN of a fresh database with every migration applied."""
    async with fresh_database(postgres) as dsn:
        yield dsn


@pytest.fixture
async def empty_dsn(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """The DSN of a fresh database with nothing in it."""
    async with fresh_database(postgres, EMPTY) as dsn:
        yield dsn
