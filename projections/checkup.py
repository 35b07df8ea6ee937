"""What a database says of itself: its settings, its schema, who holds it, how far its views are.

Reads and changes nothing; also where no engine runs, and in a database that is still empty.
"""

from __future__ import annotations

from collections.abc import Mapping

import anyio
from msgspec import Struct

from events.connection import connect
from events.migrate import AnyConnection, migrations_of
from events.proofs import SQL as PROOFS
from projections.errors import ViewsUnavailable
from projections.queries import QUERIES
from projections.store import reachable

TIMEOUT = 15.0
SETTINGS = ("fsync", "full_page_writes", "synchronous_commit", "max_connections")
PACKAGES = ("events", "projections")


class Schema(Struct, frozen=True):
    """Which migrations are there: those that are due, foreign ones, those that differ."""

    applied: int
    due: tuple[str, ...] = ()
    newer: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether it is exactly this release's."""
        return bool(self.applied) and not (self.due or self.newer or self.differing)


class HeldLease(Struct, frozen=True):
    """A lease, who holds it or held it last, and for how many seconds it is still good."""

    name: str
    owner: str
    epoch: int
    seconds: float


class ParkedIn(Struct, frozen=True):
    """How much of a view is parked, and the first of it."""

    view: str
    number: int
    first: str


class Checkup(Struct, frozen=True):
    """What was found. `now` is the server's clock in seconds since the epoch.

    `leases`, `lags` (events behind, by view) and `parked` are empty where the schema is not good.
    `unsigned` events are in no checkpoint, the first of them for `unsigned_seconds`.
    """

    version: tuple[int, int]
    settings: Mapping[str, str]
    connections: int
    now: float
    schema: Schema
    leases: tuple[HeldLease, ...] = ()
    lags: Mapping[str, int] = {}
    parked: tuple[ParkedIn, ...] = ()
    unsigned: int = 0
    unsigned_seconds: float = 0.0


async def examine(dsn: str) -> Checkup:
    """Look at a database. Raises `ViewError`; what takes too long is `ViewsUnavailable`."""
    try:
        with anyio.fail_after(TIMEOUT), reachable():
            connection = await connect(dsn)
            try:
                return await _examine(connection)
            finally:
                connection.terminate()
    except TimeoutError as error:
        raise ViewsUnavailable(f"the database did not answer within {TIMEOUT:g} s") from error


async def _examine(connection: AnyConnection) -> Checkup:
    version = connection.get_server_version()
    settings = await connection.fetch(QUERIES["server_settings"], list(SETTINGS))
    server = await connection.fetchrow(QUERIES["server_now"])
    assert server is not None
    schema = await _schema(connection)
    found = Checkup(
        version=(version.major, version.minor),
        settings={row["name"]: row["setting"] for row in settings},
        connections=server["connections"],
        now=server["now"],
        schema=schema,
    )
    if not schema.is_good:
        return found
    leases = await connection.fetch(QUERIES["leases"])
    lags = await connection.fetch(QUERIES["lags"])
    parked = await connection.fetch(QUERIES["parked_by_view"])
    unsigned = await connection.fetchrow(PROOFS["unsigned"])
    assert unsigned is not None
    return Checkup(
        found.version,
        found.settings,
        found.connections,
        found.now,
        schema,
        tuple(HeldLease(*row) for row in leases),
        {row["view"]: row["lag"] for row in lags},
        tuple(ParkedIn(*row) for row in parked),
        *unsigned,
    )


async def _schema(connection: AnyConnection) -> Schema:
    known = {
        f"{step.package}/{step.name}": step.checksum
        for package in PACKAGES
        for step in migrations_of(package)
    }
    if not await connection.fetchval(QUERIES["is_migrated"]):
        return Schema(0, due=tuple(sorted(known)))
    rows = await connection.fetch(QUERIES["applied_migrations"])
    applied = {f"{row['package']}/{row['name']}": row["checksum"] for row in rows}
    return Schema(
        len(applied),
        due=tuple(sorted(set(known) - set(applied))),
        newer=tuple(sorted(set(applied) - set(known))),
        differing=tuple(
            sorted(name for name in applied if name in known and applied[name] != known[name])
        ),
    )
