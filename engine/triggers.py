"""Which targets an event is about, so that they are looked at again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from events.catalog import (
    CorrectionAbandoned,
    CorrectionApplied,
    CorrectionFailed,
    CorrectionPlanned,
    DriftDetected,
    DriftResolved,
    HealthChanged,
    HoldLifted,
    ObjectsObserved,
    ReconcileHeld,
    RevisionResolved,
    SourceChecked,
    SyncRequested,
    TargetSynced,
)
from events.codec import fact_of
from events.event import Event
from projections.fold import TargetId, target_of
from projections.projection import Reader
from projections.targets import TARGETS
from projections.views import read_all

_OWN = frozenset(
    fact.__name__
    for fact in (
        CorrectionPlanned,
        CorrectionApplied,
        CorrectionFailed,
        CorrectionAbandoned,
        DriftDetected,
        DriftResolved,
        TargetSynced,
        ReconcileHeld,
        HoldLifted,
        HealthChanged,
    )
)
"""What a reconciler writes about its own target: it goes on by itself, and needs no telling."""
_WITHOUT_NEWS = frozenset({"ObservationGap", "ObservationConfirmed", "CommitSeen", "RefMoved"})


async def targets_of(
    reader: Reader, events: Iterable[Event]
) -> AsyncIterator[tuple[TargetId, bool]]:
    """Yield each target that some event may change something for; True where a person asked."""
    whole: set[tuple[str, str]] = set()
    for event in events:
        kind = event.stream.partition("/")[0]
        if event.type in _OWN or event.type in _WITHOUT_NEWS:
            continue
        if kind == "target":
            yield target_of(event.stream), event.type == SyncRequested.__name__
        elif event.type == ObjectsObserved.__name__:
            for target in _seen(event):
                yield target, False
        elif kind == "app":
            whole.add(("application", event.stream))
        elif kind == "cluster":
            whole.add(("cluster", event.stream))
        elif event.type in (SourceChecked.__name__, RevisionResolved.__name__):
            whole.add(("request", "open"))
    for index, value in sorted(whole):
        async for target in all_targets(reader, index, value):
            yield target, False


def _seen(event: Event) -> set[TargetId]:
    fact = fact_of(event)
    _, project, cluster = event.stream.split("/", 2)
    found = set()
    if isinstance(fact, ObjectsObserved):
        for seen in fact.objects:
            application = seen.application.partition("/")[2]
            if application:
                found.add(TargetId(project, application, cluster))
    return found


async def all_targets(reader: Reader, index: str = "", value: str = "") -> AsyncIterator[TargetId]:
    """Yield every target, or those with this value of an index of the view."""
    where = {index: value} if index else None
    for found in await read_all(reader, TARGETS, where=where):
        yield target_of(found.key)
