"""What each cluster has of ours: one document an object, as last seen and as last applied.

Pure. An object is folded from what was observed (streams `cluster/…`) and from what corrections
came to (streams `target/…`); for one uid a lower resourceVersion never replaces a higher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from events.catalog import CorrectionApplied, CorrectionFailed, Fact, ObjectsObserved
from events.event import Event, stream
from events.vocabulary import (
    Difference,
    FieldRule,
    Health,
    ObjectRef,
    Observation,
    Outcome,
    Presence,
    Result,
    Verb,
)
from projections.fold import names, object_key, target_of
from projections.timeline import object_subject


class Applied(Struct, frozen=True, omit_defaults=True):
    """Our last successful apply: what was desired, what the server made of it.

    `digest` is the observation digest of the answer: while what is observed has the same, nothing
    that counts has changed since.
    """

    desired: str
    kept: str
    uid: str
    resource_version: str
    digest: str
    position: int
    at: int
    mutated: tuple[Difference, ...] = ()
    left: tuple[FieldRule, ...] = ()


class ObservedDocument(Struct, frozen=True, omit_defaults=True):
    """One object. `application` is `project/name`; `seen` the position of the last observation."""

    ref: ObjectRef
    application: str
    cluster: str
    presence: Presence
    uid: str = ""
    resource_version: str = ""
    digest: str = ""
    body: str | None = None
    health: Health = Health.UNKNOWN
    message: str = ""
    seen: int = 0
    seen_at: int = 0
    applied: Applied | None = None


class ObservedView:
    """Objects by `object_key`; indexed by target stream."""

    name = "observed"
    version = 1
    document = ObservedDocument
    types = names((ObjectsObserved, CorrectionApplied, CorrectionFailed))
    indexes: tuple[str, ...] = ("target",)
    # A cluster has many objects, and each few events: to read all of them as of a moment costs
    # half of this an object, and a snapshot 1 KB.
    snapshot_every = 8
    present_only: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._last: tuple[Fact | None, dict[str, list[Observation | Result]]] = (None, {})

    def keys(self, event: Event, fact: Fact) -> Iterable[str]:
        """Name the objects that were seen, or corrected."""
        if type(fact) is ObjectsObserved:
            cluster = event.stream
        elif type(fact) in _SAID:
            cluster = target_of(event.stream).cluster_stream
        else:
            return ()
        return [object_key(cluster, identity) for identity in self._parts(fact)]

    def apply(
        self, key: str, document: ObservedDocument | None, event: Event, fact: Fact
    ) -> ObservedDocument | None:
        """Fold what one event says of one object."""
        cluster_stream, _, identity = key.partition("|")
        cluster = cluster_stream.split("/", 2)[2]
        for part in self._parts(fact).get(identity, ()):
            if isinstance(part, Observation):
                document = _observe(document, part, cluster, event)
            else:
                document = _correct(document, part, _application(event), cluster, event)
        return document

    def _parts(self, fact: Fact) -> dict[str, list[Observation | Result]]:
        """Return what a fact says of each object, by identity.

        Kept for the last fact: one that is about 5,000 objects is asked about each of them.
        """
        if self._last[0] is not fact:
            parts: dict[str, list[Observation | Result]] = {}
            for part in _said(fact):
                parts.setdefault(part.ref.identity, []).append(part)
            self._last = (fact, parts)
        return self._last[1]

    def index(self, document: ObservedDocument) -> tuple[str | None, ...]:
        """The stream of the target that the object belongs to."""
        project, _, application = document.application.partition("/")
        return (stream("target", project, f"{application}@{document.cluster}"),)

    def subject(self, key: str) -> str | None:
        """The object."""
        cluster_stream, _, identity = key.partition("|")
        _, project, cluster = cluster_stream.split("/", 2)
        return object_subject(project, cluster, identity)


def _said(fact: Fact) -> Sequence[Observation | Result]:
    said = _SAID.get(type(fact))
    return said(fact) if said else ()


# By the exact type, as elsewhere in what is done for every event.
_SAID: dict[type[Fact], Callable[[Any], Sequence[Observation | Result]]] = {
    ObjectsObserved: lambda fact: fact.objects,
    CorrectionApplied: lambda fact: fact.results,
    CorrectionFailed: lambda fact: fact.results,
}


def _application(event: Event) -> str:
    target = target_of(event.stream)
    return f"{target.project}/{target.application}"


def _observe(
    document: ObservedDocument | None, seen: Observation, cluster: str, event: Event
) -> ObservedDocument | None:
    if document and seen.presence is not Presence.ABSENT and _is_older(seen, document):
        return document
    applied = document.applied if document else None
    if seen.presence is Presence.ABSENT and applied is None:
        return None
    if applied and seen.kept is not None:
        applied = replace(applied, kept=seen.kept, digest=seen.digest)
    return ObservedDocument(
        ref=seen.ref,
        application=seen.application or (document.application if document else ""),
        cluster=cluster,
        presence=seen.presence,
        uid=seen.uid,
        resource_version=seen.resource_version,
        digest=seen.digest,
        body=seen.body,
        health=seen.health,
        message=seen.message,
        seen=event.position,
        seen_at=event.recorded_at,
        applied=applied,
    )


def _is_older(seen: Observation, document: ObservedDocument) -> bool:
    if seen.uid != document.uid or document.presence is Presence.ABSENT:
        return False
    new, old = seen.resource_version, document.resource_version
    return new.isdigit() and old.isdigit() and int(new) < int(old)


def _correct(
    document: ObservedDocument | None,
    result: Result,
    application: str,
    cluster: str,
    event: Event,
) -> ObservedDocument | None:
    if not result.outcome.is_success:
        return document
    if result.verb is Verb.DELETE:
        if result.outcome is Outcome.GONE or result.observed is None:
            return None
        if document:
            document = replace(document, applied=None)
        return _observe(document, result.observed, cluster, event)
    if result.verb is Verb.REMOVE and result.observed and document and document.applied:
        # What we applied is as it was; only others' fields are gone from beside it.
        observed = replace(result.observed, application=application)
        applied = replace(document.applied, digest=observed.digest)
        return _observe(replace(document, applied=applied), observed, cluster, event)
    if result.observed is None or result.kept is None:
        return document
    observed = replace(result.observed, application=application)
    document = _observe(document, observed, cluster, event)
    if document is None:
        return None
    applied = Applied(
        desired=result.desired,
        kept=result.kept,
        uid=result.uid,
        resource_version=result.resource_version,
        digest=observed.digest,
        position=event.position,
        at=event.recorded_at,
        mutated=result.mutated,
        left=result.left,
    )
    return replace(document, applied=applied)


OBSERVED = ObservedView()
