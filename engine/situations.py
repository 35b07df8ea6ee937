"""Reads a target's situation from the views and the blobs, all at one position."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from engine.bounded import MIB, Bounded
from engine.decide.situation import (
    Dependency,
    Situation,
    asks_for_every_body,
    in_force,
    suspects,
    unrecorded,
)
from engine.decide.state import SyncState, status
from events.event import Digest
from events.log import BodyErased, EventLog, LogCorrupt
from events.vocabulary import Desired, Health
from projections.clusters import CLUSTERS
from projections.corrections import CORRECTIONS
from projections.declared import DECLARED, DeclaredDocument
from projections.desired import DESIRED
from projections.drift import DRIFT
from projections.fold import TargetId
from projections.observed import OBSERVED, ObservedDocument
from projections.projection import Found, Projection, Reader
from projections.sources import SOURCES, SourceDocument
from projections.targets import TARGETS
from projections.views import PresentReader, read_all, read_among

D = TypeVar("D", bound=Struct)
_INVENTORY_BYTES = 4 * MIB
_inventory = msgspec.json.Decoder(tuple[Desired, ...])


class Inventories:
    """Inventories by digest, the latest ones kept in memory: a render's is read at every look."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._kept: Bounded[str, bytes] = Bounded(_INVENTORY_BYTES)

    @property
    def weight(self) -> int:
        """What is kept, in bytes."""
        return self._kept.weight

    async def of(self, digest: str) -> tuple[Desired, ...]:
        """Read the list of objects that a render came to; () for no digest.

        Raises `LogCorrupt` where the log names it and does not have it.
        """
        if not digest:
            return ()
        body = self._kept.get(digest)
        if body is None:
            body = (await self._read([digest]))[digest]
        return _inventory.decode(body)

    async def load(self, digests: Iterable[str]) -> None:
        """Have these at hand, as far as there is room for them. Raises as above."""
        await self._read({digest for digest in digests if digest and digest not in self._kept})

    async def _read(self, digests: Collection[str]) -> Mapping[str, bytes]:
        bodies = await read_bodies(self._log, digests) if digests else {}
        for digest, body in bodies.items():
            self._kept.put(digest, body, len(body))
        return bodies


async def read_summary(reader: Reader, target: TargetId, now: int) -> Situation | None:
    """Read what is known of a target without its objects; None where there is no such target."""
    return (await read_summaries(reader, [target], now)).get(target)


async def read_summaries(
    reader: Reader, targets: Sequence[TargetId], now: int
) -> dict[TargetId, Situation]:
    """Read what is known of some targets without their objects; those that are not are left out."""
    found = await reader.get_each(
        [
            (view, key)
            for target in targets
            for view, key in (
                (TARGETS, target.stream),
                (DECLARED, target.app_stream),
                (DESIRED, target.app_stream),
                (CLUSTERS, target.cluster_stream),
                (CORRECTIONS, target.stream),
                (DRIFT, target.stream),
            )
        ]
    )
    declared = {target: _application(found, target) for target in targets}
    followed = {
        target: f"repo/{target.project}/{application.spec['source']['repository']}"
        for target, application in declared.items()
        if application and not application.withdrawn
    }
    sources = await reader.get_many(SOURCES, followed.values()) if followed else {}
    summaries: dict[TargetId, Situation] = {}
    for target in targets:
        known = found.get((TARGETS.name, target.stream))
        if known is None:
            continue
        source = sources.get(followed.get(target, ""))
        summaries[target] = Situation(
            target=known.document,
            application=declared[target],
            source=source.document if source else SourceDocument(),
            desired=in_force(_of(found, DESIRED, target.app_stream), known.document.pin),
            cluster=_of(found, CLUSTERS, target.cluster_stream),
            corrections=_of(found, CORRECTIONS, target.stream),
            drift=_of(found, DRIFT, target.stream),
            inventory=(),
            observed={},
            bodies={},
            seen=reader.position,
            now=now,
        )
    return summaries


async def read_situation(
    reader: Reader,
    log: EventLog,
    target: TargetId,
    now: int,
    *,
    every_body: bool = False,
    inventories: Inventories | None = None,
) -> Situation | None:
    """Read all that a decision about a target needs; None where there is no such target.

    `every_body` reads the kept form and the live body of every object, not only of those that
    may have drifted; who looks often keeps `inventories`. An object's bodies that were redacted
    are left out. Raises `LogCorrupt` where the log names a body that it does not have,
    `BodyErased` where that is the list of the desired objects.
    """
    summary = await read_summary(reader, target, now)
    if summary is None:
        return None
    observed = await read_objects(reader, target)
    every = asks_for_every_body(summary)
    asked = observed.values() if every_body else suspects(observed, every=every)
    return msgspec.structs.replace(
        summary,
        inventory=await (inventories or Inventories(log)).of(summary.desired.objects),
        observed=observed,
        bodies=await read_kept_bodies(log, {*_named(asked), *unrecorded(observed)}),
        dependencies=(await _dependencies(reader, {target: summary}, now))[target],
    )


async def _dependencies(
    reader: Reader, summaries: Mapping[TargetId, Situation], now: int
) -> dict[TargetId, tuple[Dependency, ...]]:
    """Say how the applications stand, on the same cluster, that these targets' depend on."""
    wanted = {
        target: [
            TargetId(target.project, name, target.cluster)
            for name in (summary.spec.depends_on if summary.spec else ())
        ]
        for target, summary in summaries.items()
    }
    others = list(dict.fromkeys(other for some in wanted.values() for other in some))
    known = await read_summaries(reader, others, now) if others else {}
    return {
        target: tuple(_dependency(other, known.get(other)) for other in some)
        for target, some in wanted.items()
    }


def _dependency(other: TargetId, known: Situation | None) -> Dependency:
    if known is None or not known.target.assigned:
        return Dependency(other.application, other.stream, False, "it does not go there")
    standing = status(known)
    is_well = standing.health in (Health.HEALTHY, Health.SUSPENDED)
    is_met = standing.sync is SyncState.SYNCED and is_well
    told = f"it is {standing.sync}, {standing.health}"
    return Dependency(other.application, other.stream, is_met, told)


def lacks_bodies(situation: Situation) -> bool:
    """Whether bodies that a decision goes by are not there, because they were redacted."""
    every = asks_for_every_body(situation)
    asked = suspects(situation.observed, every=every)
    return any(digest not in situation.bodies for digest in _named(asked))


async def read_situations(
    reader: PresentReader,
    log: EventLog,
    targets: Sequence[TargetId],
    now: int,
    inventories: Inventories,
) -> dict[TargetId, Situation]:
    """Read all that decisions about some targets need, at once; raises as for one."""
    summaries = await read_summaries(reader, targets, now)
    names = {str(target.stream): target for target in summaries}
    found = await read_among(reader, OBSERVED, "target", names)
    observed = {names[name]: _by_identity(objects) for name, objects in found.items()}
    wanted = {
        target: {
            *_named(suspects(objects, every=asks_for_every_body(summaries[target]))),
            *unrecorded(objects),
        }
        for target, objects in observed.items()
    }
    bodies = await read_kept_bodies(log, {digest for some in wanted.values() for digest in some})
    await inventories.load(summary.desired.objects for summary in summaries.values())
    dependencies = await _dependencies(reader, summaries, now)
    return {
        target: msgspec.structs.replace(
            summary,
            inventory=await inventories.of(summary.desired.objects),
            observed=observed[target],
            bodies={digest: bodies[digest] for digest in wanted[target] if digest in bodies},
            dependencies=dependencies[target],
        )
        for target, summary in summaries.items()
    }


async def read_objects(reader: Reader, target: TargetId) -> dict[str, ObservedDocument]:
    """Read every object of a target, by identity."""
    return _by_identity(await read_all(reader, OBSERVED, where={"target": target.stream}))


async def read_bodies(log: EventLog, digests: Iterable[str]) -> Mapping[str, bytes]:
    """Read bodies that the log names.

    Raises `BodyErased` where one was redacted, `LogCorrupt` where one is missing.
    """
    wanted = {Digest(digest) for digest in digests}
    bodies = await read_kept_bodies(log, wanted)
    if len(bodies) < len(wanted):
        raise BodyErased(min(wanted - bodies.keys()))
    return bodies


async def read_kept_bodies(log: EventLog, digests: Iterable[str]) -> Mapping[str, bytes]:
    """Read bodies that the log names, but for those that were redacted.

    Raises `LogCorrupt` where one is missing.
    """
    wanted = {Digest(digest) for digest in digests}
    bodies = await log.blobs(wanted) if wanted else {}
    missing = wanted - bodies.keys()
    if missing:
        missing -= await log.erased(missing)
    if missing:
        raise LogCorrupt(
            f"the log names {len(missing)} bodies that it does not have, {min(missing)} first"
        )
    return {str(digest): body for digest, body in bodies.items()}


def _by_identity(found: Iterable[Found[ObservedDocument]]) -> dict[str, ObservedDocument]:
    return {item.document.ref.identity: item.document for item in found}


def _named(observed: Iterable[ObservedDocument]) -> Iterable[str]:
    for document in observed:
        if document.applied:
            yield document.applied.kept
        if document.body:
            yield document.body


def _application(
    found: Mapping[tuple[str, str], Found[Any]], target: TargetId
) -> DeclaredDocument | None:
    declared = found.get((DECLARED.name, target.app_stream))
    return declared.document if declared else None


def _of(found: Mapping[tuple[str, str], Found[Any]], view: Projection[D], key: str) -> D:
    """Return one of the documents that were read, an empty one where there is none."""
    there = found.get((view.name, key))
    return there.document if there else view.document()
