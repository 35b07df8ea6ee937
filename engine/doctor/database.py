"""The database: reachable, durable, migrated, on the same clock; who holds the lease; the views."""

from __future__ import annotations

from collections.abc import Iterator

from engine.doctor.check import Check, fail, ok, warn
from engine.ports import Clock
from events.postgres import OLDEST_SERVER
from projections.checkup import Checkup, Schema, examine
from projections.errors import ViewError

BEHIND = 10_000
"""Events that a view may be behind before it is worth a look."""
SPARE = 10
"""Connections that should be left."""
UNSIGNED = 60.0
"""Seconds that an event may wait for a checkpoint that covers it."""
_DURABLE = frozenset({"on", "local", "remote_write", "remote_apply"})


async def database(dsn: str, clock: Clock) -> list[Check]:
    """Look at a database. What cannot be had is a finding; nothing is raised."""
    before = clock.now()
    try:
        found = await examine(dsn)
    except ViewError as error:
        remedy = "see that Postgres runs, and that --database-url is right"
        return [fail("database", "reachable", str(error), remedy, "log-unavailable")]
    ours = (before + clock.now()) / 2 / 1_000_000
    return [*judge(found), skew("database", found.now - ours)]


def judge(found: Checkup) -> Iterator[Check]:
    """Say what a database's own words come to."""
    said = "Postgres {}.{}".format(*found.version)
    yield ok("database", "reachable", f"{said} answers")
    if found.version[0] < OLDEST_SERVER:
        remedy = f"use Postgres {OLDEST_SERVER} or newer"
        yield fail("database", "version", f"{said} is too old", remedy)
    yield from _durability(found)
    yield _schema(found.schema)
    if found.schema.is_good:
        yield from _leases(found)
        yield from _views(found)
        yield _signing(found)


def skew(whose: str, seconds: float) -> Check:
    """Judge how far somebody's clock is from ours; positive where it is ahead."""
    said = f"the clock of {whose} differs from ours by {abs(seconds):.1f} s"
    remedy = "synchronise both with NTP"
    if abs(seconds) > 60:
        return fail("clock", whose, said, remedy)
    if abs(seconds) > 3:
        return warn("clock", whose, said, remedy)
    return ok("clock", whose, said)


def _durability(found: Checkup) -> Iterator[Check]:
    for name in ("fsync", "full_page_writes"):
        if found.settings.get(name) == "on":
            yield ok("database", name, "on")
        else:
            message = f"{name} is off: a crash of the machine can destroy the log"
            yield fail("database", name, message, f"set {name} = on, and reload Postgres")
    sync = found.settings.get("synchronous_commit", "")
    if sync in _DURABLE:
        yield ok("database", "synchronous_commit", sync)
    else:
        message = "synchronous_commit is off: a crash can lose what was said to be written"
        remedy = "set synchronous_commit = on for this database"
        yield fail("database", "synchronous_commit", message, remedy)
    most = int(found.settings.get("max_connections", "0"))
    said = f"{found.connections} of {most} connections are used"
    if most - found.connections < SPARE:
        yield warn("database", "connections", said, "raise max_connections")
    else:
        yield ok("database", "connections", said)


def _schema(schema: Schema) -> Check:
    if schema.newer:
        message = f"it was migrated by a newer release: {schema.newer[-1]}"
        return fail("database", "schema", message, "run that release", "schema-newer")
    if schema.differing:
        message = f"{schema.differing[0]} is not the migration of this release"
        return fail("database", "schema", message, "run the release that made it", "schema-differs")
    if schema.due:
        message = f"{len(schema.due)} migrations are due, the first is {schema.due[0]}"
        return warn("database", "schema", message, "start the engine: it migrates first")
    return ok("database", "schema", f"all {schema.applied} migrations are applied")


def _leases(found: Checkup) -> Iterator[Check]:
    for lease in found.leases:
        whose = f"{lease.owner} (epoch {lease.epoch})"
        if lease.seconds > 0:
            yield ok("lease", lease.name, f"held by {whose}")
        else:
            message = f"nobody holds it; the last was {whose}"
            yield warn("lease", lease.name, message, "start an engine with `trueup run`")
    if not found.leases:
        yield warn("lease", "engine", "nobody ever held it", "start an engine with `trueup run`")


def _signing(found: Checkup) -> Check:
    if found.unsigned_seconds <= UNSIGNED:
        return ok("proofs", "signed", f"{found.unsigned} events wait for the next checkpoint")
    message = (
        f"{found.unsigned} events are not signed, the first since {found.unsigned_seconds:.0f} s"
    )
    remedy = (
        "see that the engine (or, with `signing = external`, `trueup signer`) runs, and that it "
        "reaches every place that keeps heads: its log says which it does not"
    )
    return warn("proofs", "signed", message, remedy, "head-unavailable")


def _views(found: Checkup) -> Iterator[Check]:
    behind = [f"{view} by {lag}" for view, lag in found.lags.items() if lag > BEHIND]
    if behind:
        message = f"behind the log: {', '.join(behind[:5])} events"
        remedy = "look at the database's load; progress is in the server's log"
        yield warn("views", "lag", message, remedy, "behind")
    else:
        most = max(found.lags.values(), default=0)
        yield ok("views", "lag", f"{len(found.lags)} views, at most {most} events behind")
    if found.parked:
        parked = [f"{each.number} in {each.view} (such as {each.first})" for each in found.parked]
        remedy = "report it; with a release that mends it, `trueup rebuild VIEW` folds them again"
        yield fail("views", "parked", f"streams are parked: {', '.join(parked)}", remedy)
    else:
        yield ok("views", "parked", "nothing is parked")
