"""A long history, written straight into the tables: a fleet, rolled out and observed for ever.

Every cluster has one target, and every object is seen to change again and again; the mix is nine
observations to one decision. What it says is consistent enough for every view to fold it and for
a target's situation to be read as of any position.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from benchmarks.frame import say
from engine.embedded.server import EmbeddedPostgres
from engine.objects.kept import Kept, freeze
from events.catalog import (
    ClusterConnected,
    CorrectionApplied,
    CorrectionPlanned,
    Declared,
    DesiredRendered,
    DriftDetected,
    DriftResolved,
    Fact,
    Facts,
    KindReadable,
    ObjectsObserved,
    RefMoved,
    RevisionResolved,
    TargetAssigned,
    TargetSynced,
)
from events.codec import encode, type_of
from events.connection import make_pool
from events.event import Position, blob
from events.postgres import PostgresLog, open_log
from events.vocabulary import (
    Action,
    Desired,
    Difference,
    DifferenceKind,
    Health,
    ObjectRef,
    Observation,
    Outcome,
    Presence,
    Result,
    Verb,
)
from projections.store import Pool

COMMIT = "5ca1ab1e" * 5
BEGAN = 1_700_000_000_000_000
"""When it begins, UTC microseconds; an event every millisecond."""
_BATCH = 50_000
_COLUMNS = (
    "position",
    "stream",
    "version",
    "event_id",
    "type",
    "schema",
    "recorded_at",
    "occurred_at",
    "actor",
    "causation",
    "correlation",
    "traceparent",
    "payload",
)
_DATA = {f"key-{number:02}": "x" * 40 for number in range(20)}


class Fleet(Struct, frozen=True):
    """How many clusters there are, and how many objects on each."""

    clusters: int
    objects: int

    def cluster(self, number: int) -> str:
        """Return a cluster's name."""
        return f"c{number:05}"

    def target(self, number: int) -> str:
        """Return the stream of the target on a cluster."""
        return f"target/default/shop@{self.cluster(number)}"

    def ref(self, number: int) -> ObjectRef:
        """Return the object of a number."""
        return ObjectRef("v1", "ConfigMap", "shop", f"settings-{number:04}")


def _live_body() -> dict[str, Any]:
    owned: dict[str, Any] = {"f:data": {f"f:{key}": {} for key in _DATA}}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "settings",
            "namespace": "shop",
            "managedFields": [
                {
                    "manager": "trueup",
                    "operation": "Apply",
                    "apiVersion": "v1",
                    "fieldsType": "FieldsV1",
                    "fieldsV1": owned,
                }
            ],
        },
        "data": _DATA,
    }


def _kept() -> Kept:
    kept = freeze(_live_body())
    if kept is None:
        raise AssertionError("the body has fields of ours")
    return kept


BODY = blob(msgspec.json.encode(_live_body()))
KEPT = blob(_kept().encode())


def facts(fleet: Fleet, events: int) -> Iterator[tuple[str, Fact]]:
    """Yield so many (stream, fact), in the order of the log."""
    return itertools.islice(itertools.chain(_beginning(fleet), _ever_after(fleet)), events)


def inventory(fleet: Fleet) -> bytes:
    """Return the list of objects that the one application renders to."""
    return msgspec.json.encode([Desired(fleet.ref(n), BODY.digest) for n in range(fleet.objects)])


def _beginning(fleet: Fleet) -> Iterator[tuple[str, Fact]]:
    desired = blob(inventory(fleet))
    yield "repo/default/shop", Declared("Repository", {"url": "file:///git/shop"})
    source = {"repository": "shop", "path": "deploy"}
    targets = {"selector": {"matchLabels": {"fleet": "all"}}, "namespace": "shop"}
    yield "app/default/shop", Declared("Application", {"source": source, "targets": targets})
    yield "repo/default/shop", RefMoved("refs/heads/main", COMMIT)
    rendered = DesiredRendered(COMMIT, 2, "sha256:" + "1" * 64, "plain", desired.digest, 0)
    yield "app/default/shop", msgspec.structs.replace(rendered, count=fleet.objects)
    yield "repo/default/shop", RevisionResolved(COMMIT, ("default/shop",))
    for number in range(fleet.clusters):
        cluster, name = fleet.cluster(number), f"cluster/default/{fleet.cluster(number)}"
        yield name, Declared("Cluster", {"kubeconfig": "/k"}, {"fleet": "all"})
        yield name, ClusterConnected("v1.37.0")
        yield name, KindReadable("v1", "ConfigMap", namespaced=True)
        yield fleet.target(number), TargetAssigned("shop", cluster, "shop")
        yield fleet.target(number), _planned(fleet, range(fleet.objects))
        yield fleet.target(number), _applied(fleet, 9, range(fleet.objects))
        yield fleet.target(number), TargetSynced(COMMIT, 4, desired.digest)


def _ever_after(fleet: Fleet) -> Iterator[tuple[str, Fact]]:
    for turn in itertools.count():
        number = turn % fleet.clusters
        cluster = f"cluster/default/{fleet.cluster(number)}"
        index = (turn // fleet.clusters) % fleet.objects
        for step in range(9):
            seen = _seen(fleet, (index + step * 7) % fleet.objects, turn * 9 + step)
            yield cluster, ObjectsObserved((seen,), "watch")
        case = f"default/shop@{fleet.cluster(number)}#{turn // fleet.clusters + 1}"
        phase = (turn // fleet.clusters) % 4
        if phase == 0:
            changed = DifferenceKind.CHANGED
            drift = Difference(changed, fleet.ref(index), ".data.key-01", "x", "y", "kubectl")
            yield fleet.target(number), DriftDetected(case, (drift,))
        elif phase == 1:
            yield fleet.target(number), _planned(fleet, [index])
        elif phase == 2:
            yield fleet.target(number), _applied(fleet, turn, [index])
        else:
            yield fleet.target(number), DriftResolved(case, "corrected")


def _planned(fleet: Fleet, indexes: Iterable[int]) -> Fact:
    actions = tuple(
        Action(Verb.APPLY, fleet.ref(index), "drift", BODY.digest, force=True) for index in indexes
    )
    return CorrectionPlanned(COMMIT, Facts(1), actions, "drift")


def _applied(fleet: Fleet, turn: int, indexes: Iterable[int]) -> Fact:
    results = tuple(
        Result(
            verb=Verb.APPLY,
            ref=fleet.ref(index),
            outcome=Outcome.CHANGED,
            desired=BODY.digest,
            uid=f"uid-{index}",
            resource_version=str(turn),
            kept=KEPT.digest,
            observed=_seen(fleet, index, 0, turn),
        )
        for index in indexes
    )
    return CorrectionApplied(1, results)


def _seen(fleet: Fleet, index: int, state: int, version: int | None = None) -> Observation:
    return Observation(
        ref=fleet.ref(index),
        presence=Presence.PRESENT,
        uid=f"uid-{index}",
        resource_version=str(state if version is None else version),
        digest=f"sha256:{state % 5:064x}",
        body=BODY.digest,
        application="default/shop",
        health=Health.HEALTHY,
    )


class Loaded(Struct, frozen=True):
    """A log with a long history, and a pool of connections to its database."""

    log: PostgresLog
    pool: Pool
    dsn: str
    fleet: Fleet
    events: int


@asynccontextmanager
async def loaded(folder: Path, fleet: Fleet, events: int) -> AsyncIterator[Loaded]:
    """Start a Postgres in a folder and write a history of so many events into it."""
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(EmbeddedPostgres(folder))
        log = await stack.enter_async_context(
            open_log(postgres.dsn, packages=("events", "projections"))
        )
        pool = await make_pool(postgres.dsn, 8)
        stack.callback(pool.terminate)
        await log.put([BODY, KEPT, blob(inventory(fleet))])
        await _write(pool, fleet, events)
        yield Loaded(log, pool, postgres.dsn, fleet, events)


async def _write(pool: Pool, fleet: Fleet, events: int) -> None:
    versions: dict[str, int] = {}
    heads: dict[str, int] = {}
    numbered = enumerate(facts(fleet, events), start=1)
    async with pool.acquire() as connection:
        await connection.execute("SELECT add_event_partitions($1, 10000000)", events + 1_000_000)
        while rows := [_row(n, on, fact, versions, heads) for n, (on, fact) in _batch(numbered)]:
            await connection.copy_records_to_table(
                "events", records=rows, columns=_COLUMNS, timeout=600
            )
            if rows[-1][0] % (10 * _BATCH) == 0:
                say(f"  {rows[-1][0]} events written")
        await connection.copy_records_to_table(
            "stream_head",
            records=[(stream, version, heads[stream]) for stream, version in versions.items()],
        )
        await connection.execute("ANALYZE")


def _batch(
    numbered: Iterator[tuple[int, tuple[str, Fact]]],
) -> Iterator[tuple[int, tuple[str, Fact]]]:
    """Return the next so many."""
    return itertools.islice(numbered, _BATCH)


def _row(
    position: int, stream: str, fact: Fact, versions: dict[str, int], heads: dict[str, int]
) -> tuple[Any, ...]:
    version = versions[stream] = versions.get(stream, 0) + 1
    heads[stream] = position
    name, schema = type_of(fact)
    at = BEGAN + position * 1000
    return (
        position,
        stream,
        version,
        # A UUIDv7 of the event's own time, unique by its position.
        uuid.UUID(int=((at // 1000) << 80) | (7 << 76) | (2 << 62) | position),
        name,
        schema,
        at,
        at,
        "engine:bench",
        None,
        "",
        "",
        encode(fact),
    )


def instants(events: int, number: int) -> list[Position]:
    """Return positions spread over a history, neither its beginning nor its end."""
    return [Position(events * (2 * step + 1) // (2 * number)) for step in range(number)]
