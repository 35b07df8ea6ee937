"""Reads a target's situation from the views and the blobs, all at one position."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from engine.decide.situation import (
    Situation,
    asks_for_every_body,
    in_force,
    suspects,
    unrecorded,
)
from events.event import Digest
from events.log import BodyErased, EventLog, LogCorrupt
from events.vocabulary import Desired
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
from projections.views import read_all

D = TypeVar("D", bound=Struct)
_INVENTORY_BYTES = 8 * 1024 * 1024
_inventory = msgspec.json.Decoder(tuple[Desired, ...])


class Inventories:
    """Inventories by digest, the latest ones kept in memory: a render's is read at every look."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    async def of(self, digest: str) -> tuple[Desired, ...]:
        """Read the list of objects that a render came to; () for no digest.

        Raises `LogCorrupt` where the log names it and does not have it.
        """
        if not digest:
            return ()
        if digest not in self._kept:
            self._keep(digest, (await read_bodies(self._log, {digest}))[digest])
        self._kept.move_to_end(digest)
        return _inventory.decode(self._kept[digest])

    def _keep(self, digest: str, body: bytes) -> None:
        self._size += len(body) - len(self._kept.get(digest, b""))
        self._kept[digest] = body
        while self._size > _INVENTORY_BYTES and len(self._kept) > 1:
            self._size -= len(self._kept.popitem(last=False)[1])


async def read_summary(reader: Reader, target: TargetId, now: int) -> Situation | None:
    """Read what is known of a target without its objects; None where there is no such target."""
    found = await reader.get_each(
        (
            (TARGETS, target.stream),
            (DECLARED, target.app_stream),
            (DESIRED, target.app_stream),
            (CLUSTERS, target.cluster_stream),
            (CORRECTIONS, target.stream),
            (DRIFT, target.stream),
        )
    )
    known = found.get((TARGETS.name, target.stream))
    if known is None:
        return None
    declared = found.get((DECLARED.name, target.app_stream))
    application: DeclaredDocument | None = declared.document if declared else None
    source = SourceDocument()
    if application and not application.withdrawn:
        name = application.spec["source"]["repository"]
        followed = await reader.get(SOURCES, f"repo/{target.project}/{name}")
        source = followed.document if followed else source
    return Situation(
        target=known.document,
        application=application,
        source=source,
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
    )


async def read_objects(reader: Reader, target: TargetId) -> dict[str, ObservedDocument]:
    """Read every object of a target, by identity."""
    found = await read_all(reader, OBSERVED, where={"target": target.stream})
    return {item.document.ref.identity: item.document for item in found}


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


def _named(observed: Iterable[ObservedDocument]) -> Iterable[str]:
    for document in observed:
        if document.applied:
            yield document.applied.kept
        if document.body:
            yield document.body


def _of(found: Mapping[tuple[str, str], Found[Any]], view: Projection[D], key: str) -> D:
    """Return one of the documents that were read, an empty one where there is none."""
    there = found.get((view.name, key))
    return there.document if there else view.document()
