"""Which events are about what: every event filed under each of its subjects.

Pure. A subject is a stream's name, `commit/<sha>`,
`object/<project>/<cluster>/<group/Kind|namespace|name>`, or `actor/default/<pseudonym>`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

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
    says: Any = fact
    if type(fact) in _NOTICES:
        yield says.about
    if type(fact) in _OF_PEOPLE:
        for actor in actors_of(event, fact):
            yield actor_subject(actor)
    if type(fact) in _OF_COMMIT and says.commit:
        yield commit_subject(says.commit)
    if type(fact) is ObjectsObserved:
        for seen in fact.objects:
            application = seen.application.partition("/")[2]
            if application:
                yield stream("target", project, f"{application}@{cluster}")
    if kind in ("target", "cluster"):
        refs = _REFS.get(type(fact))
        for ref in refs(fact) if refs else ():
            yield object_subject(project, cluster, ref.identity)


# By the exact type: to ask of each whether a fact is an instance of it costs more than the fold.
_OF_COMMIT = frozenset(
    {
        CommitSeen,
        RefMoved,
        RevisionResolved,
        DesiredRendered,
        RenderFailed,
        CorrectionPlanned,
        TargetSynced,
        Declared,
        Withdrawn,
        ConfigurationApplied,
        ConfigurationRefused,
    }
)
_REFS: dict[type[Fact], Callable[[Any], Iterable[ObjectRef]]] = {
    ObjectsObserved: lambda fact: [seen.ref for seen in fact.objects],
    CorrectionPlanned: lambda fact: [action.ref for action in fact.actions],
    CorrectionApplied: lambda fact: [result.ref for result in fact.results],
    CorrectionFailed: lambda fact: [result.ref for result in fact.results],
    DriftDetected: lambda fact: [difference.ref for difference in fact.differences],
    ReconcileHeld: lambda fact: fact.objects,
}
_NOTICES = frozenset({NotificationDelivered, NotificationRefused})
_OF_PEOPLE = frozenset({CommitSeen, ActorForgotten})


TIMELINE = TimelineView()
