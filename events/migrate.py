"""Bring a database's schema up to this release: SQL files, applied once each, in order.

A package keeps its migrations in `<package>/sql/migrations/NNNN_what.sql`. Each runs in a
transaction of its own, and what ran is recorded with a checksum. An advisory lock makes several
engines that start at once take turns.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from asyncpg import Connection
from asyncpg.pool import PoolConnectionProxy
from msgspec import Struct

AnyConnection = Connection | PoolConnectionProxy

_LOCK = 0x7472_7565_7570  # "trueup"
_NAME = re.compile(r"\d{4}_[a-z0-9_]+\.sql")
_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migration (
    package    text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (package, name)
)"""


class SchemaRefused(Exception):
    """A database whose schema this release cannot work with. `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Migration(Struct, frozen=True):
    """One step: a file of a package. `name` is the file's, without its ending."""

    package: str
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file's text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@cache
def migrations_of(package: str) -> Sequence[Migration]:
    """Return a package's migrations in order; raises ValueError for a file that is misnamed."""
    folder = files(package).joinpath("sql", "migrations")
    found = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".sql"):
            continue
        if not _NAME.fullmatch(file.name):
            raise ValueError(f"{package}: {file.name} should be named like 0001_what.sql")
        name = file.name.removesuffix(".sql")
        found.append(Migration(package, name, file.read_text("utf-8")))
    return tuple(found)


async def migrate(connection: AnyConnection, *packages: str) -> list[str]:
    """Apply what a database lacks of these packages' migrations; return `package/name` of each.

    Raises `SchemaRefused` for a database that a newer release has migrated (`schema-newer`), or
    whose migrations are not those of this release (`schema-differs`), and then changes nothing.
    """
    known = [step for package in packages or ("events",) for step in migrations_of(package)]
    # Waiting for another engine's migration may take long, and is right.
    await connection.execute("SET lock_timeout = 0")
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
    try:
        await connection.execute(_TABLE)
        due = await _due(connection, known)
        for step in due:
            async with connection.transaction():
                await connection.execute(step.sql)
                await connection.execute(
                    "INSERT INTO schema_migration (package, name, checksum) VALUES ($1, $2, $3)",
                    step.package,
                    step.name,
                    step.checksum,
                )
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)
            await connection.execute("RESET lock_timeout")
    return [f"{step.package}/{step.name}" for step in due]


async def _due(connection: AnyConnection, known: list[Migration]) -> list[Migration]:
    packages = {step.package for step in known}
    rows = await connection.fetch(
        "SELECT package, name, checksum FROM schema_migration "
        "WHERE package = ANY($1::text[]) ORDER BY package, name",
        list(packages),
    )
    applied = {(row["package"], row["name"]): row["checksum"] for row in rows}
    unknown = applied.keys() - {(step.package, step.name) for step in known}
    if unknown:
        package, name = max(unknown)
        raise SchemaRefused(
            "schema-newer",
            f"this database was migrated by a newer release of Trueup ({package}/{name} is not "
            "known to this one): run that release or a later one",
        )
    for step in known:
        checksum = applied.get((step.package, step.name))
        if checksum is not None and checksum != step.checksum:
            raise SchemaRefused(
                "schema-differs",
                f"migration {step.package}/{step.name} of this database is not the one that this "
                "release has: the database belongs to another build of Trueup",
            )
    return [step for step in known if (step.package, step.name) not in applied]
