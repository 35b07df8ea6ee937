"""Which clusters an application goes to. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from engine.resources.model import ApplicationSpec
from events.catalog import Fact, TargetAssigned, TargetUnassigned
from projections.declared import DeclaredDocument
from projections.fold import TargetId
from projections.targets import TargetDocument


class Assignment(Struct, frozen=True):
    """A change of one target's assignment: the fact to append to its stream."""

    target: TargetId
    fact: Fact


def selected(application: DeclaredDocument, clusters: Iterable[DeclaredDocument]) -> list[str]:
    """Name the declared clusters of the same project that an application's targets select."""
    if application.withdrawn:
        return []
    targets = application_spec(application).targets
    wanted = targets.selector.match_labels.items() if targets.selector else None
    return sorted(
        cluster.name
        for cluster in clusters
        if not cluster.withdrawn
        and cluster.project == application.project
        and (
            cluster.name in targets.clusters
            or (wanted is not None and wanted <= cluster.labels.items())
        )
    )


def assignments(
    application: DeclaredDocument,
    clusters: Iterable[DeclaredDocument],
    known: Iterable[TargetDocument],
) -> list[Assignment]:
    """Compare what an application selects with the targets that it has; return the changes."""
    now = {target.cluster: target for target in known}
    wanted = selected(application, clusters)
    project, name = application.project, application.name
    changes = []
    if wanted:
        namespace = application_spec(application).targets.namespace
        for cluster in wanted:
            target = now.get(cluster)
            if target is None or not target.assigned or target.namespace != namespace:
                fact = TargetAssigned(name, cluster, namespace)
                changes.append(Assignment(TargetId(project, name, cluster), fact))
    for cluster, target in sorted(now.items()):
        if cluster in wanted:
            continue
        cascade = application.withdrawn and application.cascade
        if target.assigned or (cascade and not target.cascade):
            reason = "application withdrawn" if application.withdrawn else "cluster not selected"
            ended = TargetUnassigned(reason, cascade)
            changes.append(Assignment(TargetId(project, name, cluster), ended))
    return changes


def application_spec(document: DeclaredDocument) -> ApplicationSpec:
    """Read an application's specification."""
    return msgspec.convert(document.spec, ApplicationSpec)
