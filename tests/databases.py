"""A fresh database for one test, copied from a migrated template."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

import asyncpg

from engine.embedded.server import EmbeddedPostgres
from events.postgres import prepare_database

MIGRATED, EMPTY = "migrated", "template1"
PACKAGES = tuple(
    package
    for package in ("events", "projections")
    if files(package).joinpath("sql", "migrations").is_dir()
)
_numbers = itertools.count(1)


def dsn_of(server: EmbeddedPostgres, database: str) -> str:
    return server.dsn.replace("@/trueup?", f"@/{database}?")


async def make_template(server: EmbeddedPostgres) -> None:
    admin = await asyncpg.connect(server.dsn)
    try:
        await admin.execute(f"CREATE DATABASE {MIGRATED} TEMPLATE {EMPTY}")
        await prepare_database(dsn_of(server, MIGRATED), PACKAGES)
    finally:
        await admin.close()


@asynccontextmanager
async def fresh_database(server: EmbeddedPostgres, template: str = MIGRATED) -> AsyncIterator[str]:
    """Yield the DSN of a database of its own, dropped afterwards whoever is still connected."""
    name = f"test_{next(_numbers)}"
    admin = await asyncpg.connect(server.dsn)
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            if template == MIGRATED:
                # Every log has an id of its own, and a copy would share it.
                await _execute(dsn_of(server, name), "UPDATE log_head SET log_id = DEFAULT")
            yield dsn_of(server, name)
        finally:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
