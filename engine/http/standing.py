"""How targets stand, read for many at a time: one query a view, not one a target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from msgspec import Struct

from engine.decide.assignment import selected
from engine.decide.situation import Situation, in_force
from engine.decide.state import SyncState, TargetStatus, status
from events.event import stream
from events.vocabulary import Health
from projections.clusters import CLUSTERS, ClusterDocument
from projections.corrections import CORRECTIONS, CorrectionDocument
from projections.declared import DECLARED, DeclaredDocument
from projections.desired import DESIRED, DesiredDocument
from projections.drift import DRIFT, DriftDocument
from projections.fold import TargetId
from projections.projection import Found, Reader
from projections.sources import SOURCES, SourceDocument
from projections.targets import TARGETS, TargetDocument
from projections.views import read_all

D = TypeVar("D", bound=Struct)


async def standings(
    reader: Reader, targets: Sequence[TargetDocument], now: int
) -> list[TargetStatus]:
    """Return the status of each of these targets, in their order."""
    ids = [TargetId(doc.project, doc.application, doc.cluster) for doc in targets]
    apps = await reader.get_many(DECLARED, {target.app_stream for target in ids})
    repositories = {key: _repository(found.document) for key, found in apps.items()}
    sources = await reader.get_many(SOURCES, {name for name in repositories.values() if name})
    desired = await reader.get_many(DESIRED, {target.app_stream for target in ids})
    clusters = await reader.get_many(CLUSTERS, {target.cluster_stream for target in ids})
    corrections = await reader.get_many(CORRECTIONS, {target.stream for target in ids})
    drift = await reader.get_many(DRIFT, {target.stream for target in ids})

    def one(document: TargetDocument, target: TargetId) -> TargetStatus:
        app = apps.get(target.app_stream)
        source = sources.get(repositories.get(target.app_stream, ""))
        return status(
            Situation(
                target=document,
                application=app.document if app else None,
                source=_or(source, SourceDocument()),
                desired=in_force(
                    _or(desired.get(target.app_stream), DesiredDocument()), document.pin
                ),
                cluster=_or(clusters.get(target.cluster_stream), ClusterDocument()),
                corrections=_or(corrections.get(target.stream), CorrectionDocument()),
                drift=_or(drift.get(target.stream), DriftDocument()),
                inventory=(),
                observed={},
                bodies={},
                seen=reader.position,
                now=now,
            )
        )

    return [one(document, target) for document, target in zip(targets, ids, strict=True)]


async def of_application(
    reader: Reader, application: DeclaredDocument, now: int
) -> list[TargetStatus]:
    """Return the status of each target that an application has, or is about to have.

    A selected cluster that it was not assigned to yet counts as pending: who waits for an
    application waits for all of it.
    """
    app_stream = stream("app", application.project, application.name)
    found = await read_all(reader, TARGETS, where={"application": app_stream})
    assigned = [item.document for item in found if item.document.assigned]
    there = {document.cluster for document in assigned}
    prefix = f"cluster/{application.project}/"
    clusters = await read_all(reader, DECLARED, prefix=prefix, where={"kind": "Cluster"})
    coming = [
        _coming(application, cluster, reader.position)
        for cluster in selected(application, [item.document for item in clusters])
        if cluster not in there
    ]
    standing = await standings(reader, assigned, now)
    return sorted([*standing, *coming], key=lambda item: item.cluster)


def worst(states: Iterable[SyncState]) -> SyncState | None:
    """Return the state that most needs to be known of several."""
    found = set(states)
    return next((state for state in _WORST_FIRST if state in found), None)


_WORST_FIRST = (
    SyncState.FAILED,
    SyncState.HELD,
    SyncState.OUT_OF_SYNC,
    SyncState.PENDING,
    SyncState.SUSPENDED,
    SyncState.SYNCED,
    SyncState.UNASSIGNED,
)


def _coming(application: DeclaredDocument, cluster: str, seen: int) -> TargetStatus:
    return TargetStatus(
        project=application.project,
        target=f"{application.name}@{cluster}",
        application=application.name,
        cluster=cluster,
        sync=SyncState.PENDING,
        reason="the cluster is selected, and not assigned yet",
        code="assigning",
        revision="",
        desired_revision="",
        health=Health.UNKNOWN,
        health_message="",
        differences=0,
        objects=0,
        position=0,
        seen=seen,
    )


def _repository(application: DeclaredDocument) -> str:
    if application.withdrawn:
        return ""
    return stream("repo", application.project, application.spec["source"]["repository"])


def _or(found: Found[D] | None, otherwise: D) -> D:
    return found.document if found else otherwise
