"""Which events are about what: every event filed under each of its subjects.

Pure. A subject is a stream's name, `commit/<sha>`, or
`object/<project>/<cluster>/<group/Kind|namespace|name>`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from events.catalog import (
    CommitSeen,
    ConfigurationApplied,
    ConfigurationRefused,
    CorrectionApplied,
    CorrectionFailed,
    CorrectionPlanned,
    Declared,
    DesiredRendered,
    DriftDetected,
    Fact,
    NotificationDelivered,
    NotificationRefused,
    ObjectsObserved,
    ReconcileHeld,
    RefMoved,
    RenderFailed,
    RevisionResolved,
    TargetSynced,
    Withdrawn,
)
from events.event import Event, stream
from events.vocabulary import ObjectRef
from projections.fold import target_of


def commit_subject(commit: str) -> str:
    """Return the subject of a commit."""
    return f"commit/{commit}"


def object_subject(project: str, cluster: str, identity: str) -> str:
    """Return the subject of an object on a cluster."""
    return f"object/{project}/{cluster}/{identity}"


class TimelineView:
    """Positions by subject."""

    name = "timeline"
    version = 1
    types: frozenset[str] | None = None

    def subjects(self, event: Event, fact: Fact) -> Iterable[str]:
        """Name what an event is about, each once."""
        return dict.fromkeys(_subjects(event, fact))


def _subjects(event: Event, fact: Fact) -> Iterator[str]:
    yield event.stream
    kind, project, name = event.stream.split("/", 2)
    cluster = name
    if kind == "target":
        target = target_of(event.stream)
        yield target.app_stream
        yield target.cluster_stream
        cluster = target.cluster
    if isinstance(fact, NotificationDelivered | NotificationRefused):
        yield fact.about
    commit = _commit(fact)
    if commit:
        yield commit_subject(commit)
    if isinstance(fact, ObjectsObserved):
        for seen in fact.objects:
            application = seen.application.partition("/")[2]
            if application:
                yield stream("target", project, f"{application}@{cluster}")
    if kind in ("target", "cluster"):
        for ref in _objects(fact):
            yield object_subject(project, cluster, ref.identity)


def _commit(fact: Fact) -> str:
    match fact:
        case (
            CommitSeen()
            | RefMoved()
            | RevisionResolved()
            | DesiredRendered()
            | RenderFailed()
            | CorrectionPlanned()
            | TargetSynced()
            | Declared()
            | Withdrawn()
            | ConfigurationApplied()
            | ConfigurationRefused()
        ):
            return fact.commit
    return ""


def _objects(fact: Fact) -> Iterator[ObjectRef]:
    match fact:
        case ObjectsObserved():
            for seen in fact.objects:
                yield seen.ref
        case CorrectionPlanned():
            for action in fact.actions:
                yield action.ref
        case CorrectionApplied() | CorrectionFailed():
            for result in fact.results:
                yield result.ref
        case DriftDetected():
            for difference in fact.differences:
                yield difference.ref
        case ReconcileHeld():
            yield from fact.objects


TIMELINE = TimelineView()
