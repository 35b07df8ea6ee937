"""Reads a target's situation from the views and the blobs, all at one position."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec
from msgspec import Struct

from engine.decide.situation import Situation, suspects, unrecorded
from events.event import Digest
from events.log import EventLog, LogCorrupt
from events.vocabulary import Desired
from projections.clusters import CLUSTERS, ClusterDocument
from projections.corrections import CORRECTIONS, CorrectionDocument
from projections.declared import DECLARED
from projections.desired import DESIRED, DesiredDocument
from projections.drift import DRIFT, DriftDocument
from projections.fold import TargetId
from projections.observed import OBSERVED, ObservedDocument
from projections.projection import Projection, Reader
from projections.sources import SOURCES, SourceDocument
from projections.targets import TARGETS
from projections.views import read_all

D = TypeVar("D", bound=Struct)
_inventory = msgspec.json.Decoder(tuple[Desired, ...])


async def read_summary(reader: Reader, target: TargetId, now: int) -> Situation | None:
    """Read what is known of a target without its objects; None where there is no such target."""
    found = await reader.get(TARGETS, target.stream)
    if found is None:
        return None
    application = await reader.get(DECLARED, target.app_stream)
    repository = ""
    if application and not application.document.withdrawn:
        name = application.document.spec["source"]["repository"]
        repository = f"repo/{target.project}/{name}"
    return Situation(
        target=found.document,
        application=application.document if application else None,
        source=await _get(reader, SOURCES, repository, SourceDocument()),
        desired=await _get(reader, DESIRED, target.app_stream, DesiredDocument()),
        cluster=await _get(reader, CLUSTERS, target.cluster_stream, ClusterDocument()),
        corrections=await _get(reader, CORRECTIONS, target.stream, CorrectionDocument()),
        drift=await _get(reader, DRIFT, target.stream, DriftDocument()),
        inventory=(),
        observed={},
        bodies={},
        seen=reader.position,
        now=now,
    )


async def read_situation(
    reader: Reader, log: EventLog, target: TargetId, now: int, *, every_body: bool = False
) -> Situation | None:
    """Read all that a decision about a target needs; None where there is no such target.

    `every_body` reads the kept form and the live body of every object, not only of those that
    may have drifted. Raises `LogCorrupt` where the log names a body that it does not have.
    """
    summary = await read_summary(reader, target, now)
    if summary is None:
        return None
    observed = await read_objects(reader, target)
    asked = observed.values() if every_body else suspects(observed)
    return msgspec.structs.replace(
        summary,
        inventory=await read_inventory(log, summary.desired.objects),
        observed=observed,
        bodies=await read_bodies(log, {*_named(asked), *unrecorded(observed)}),
    )


async def read_objects(reader: Reader, target: TargetId) -> dict[str, ObservedDocument]:
    """Read every object of a target, by identity."""
    found = await read_all(reader, OBSERVED, where={"target": target.stream})
    return {item.document.ref.identity: item.document for item in found}


async def read_inventory(log: EventLog, digest: str) -> tuple[Desired, ...]:
    """Read the list of objects that a render came to; () for no digest."""
    if not digest:
        return ()
    bodies = await read_bodies(log, {digest})
    return _inventory.decode(bodies[digest])


async def read_bodies(log: EventLog, digests: Iterable[str]) -> Mapping[str, bytes]:
    """Read bodies that the log names; raises `LogCorrupt` where one is missing."""
    wanted = {Digest(digest) for digest in digests}
    bodies = await log.blobs(wanted) if wanted else {}
    missing = wanted - bodies.keys()
    if missing:
        raise LogCorrupt(
            f"the log names {len(missing)} bodies that it does not have, {min(missing)} first"
        )
    return {str(digest): body for digest, body in bodies.items()}


def _named(observed: Iterable[ObservedDocument]) -> Iterable[str]:
    for document in observed:
        if document.applied:
            yield document.applied.kept
        if document.body:
            yield document.body


async def _get(reader: Reader, view: Projection[D], key: str, otherwise: D) -> D:
    found = await reader.get(view, key) if key else None
    return found.document if found else otherwise
