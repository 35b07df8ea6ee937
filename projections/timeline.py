"""Which events are about what: every event filed under each of its subjects.

Pure. A subject is a stream's name, `commit/<sha>`,
`object/<project>/<cluster>/<group/Kind|namespace|name>`, or `actor/default/<pseudonym>`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from events.catalog import (
    ActorForgotten,
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
from events.event import Event, StreamName, stream
from events.vocabulary import ObjectRef
from projections.fold import target_of


def commit_subject(commit: str) -> str:
    """Return the subject of a commit."""
    return f"commit/{commit}"


def object_subject(project: str, cluster: str, identity: str) -> str:
    """Return the subject of an object on a cluster."""
    return f"object/{project}/{cluster}/{identity}"


def actor_subject(actor: str) -> StreamName:
    """Return the subject of a person: also the stream in which it is forgotten."""
    return stream("actor", "default", actor)


def actors_of(event: Event, fact: Fact) -> list[str]:
    """Name the people that an event is about, each once, by their pseudonyms."""
    match fact:
        case CommitSeen():
            committer = fact.committer.actor if fact.committer else ""
            people = dict.fromkeys((event.actor, committer))
            return [actor for actor in people if actor.startswith("git:")]
        case ActorForgotten():
            return [fact.actor]
    return []


class TimelineView:
    """Positions by subject."""

    name = "timeline"
    version = 2
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
    for actor in actors_of(event, fact):
        yield actor_subject(actor)
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
