"""Which targets an event is about, so that they are looked at again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from msgspec import Struct

from events.catalog import (
    CorrectionAbandoned,
    CorrectionApplied,
    CorrectionFailed,
    CorrectionPlanned,
    DriftDetected,
    DriftResolved,
    HealthChanged,
    HealthTimedOut,
    HoldLifted,
    HookEnded,
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
from projections.views import PresentReader, read_all, read_among
from projections.waiting import WAITING

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
        HealthTimedOut,
        HookEnded,
        HealthChanged,
    )
)
"""What a reconciler writes about its own target: it goes on by itself, and needs no telling."""
_MOVED_ON = frozenset(fact.__name__ for fact in (TargetSynced, HealthChanged))
"""What a target tells of itself that others may wait for."""
_WITHOUT_NEWS = frozenset({"ObservationGap", "ObservationConfirmed", "CommitSeen", "RefMoved"})


class Woken(Struct, frozen=True):
    """A target that an event may change something for; `asked` where a person asked for it."""

    target: TargetId
    event: Event
    asked: bool = False


async def targets_of(reader: PresentReader, events: Iterable[Event]) -> AsyncIterator[Woken]:
    """Yield each target that some event may change something for, with that event."""
    whole: dict[tuple[str, str], Event] = {}
    moved: dict[str, Event] = {}
    for event in events:
        kind = event.stream.partition("/")[0]
        if event.type in _MOVED_ON:
            moved[event.stream] = event
        if event.type in _OWN or event.type in _WITHOUT_NEWS:
            continue
        if kind == "target":
            asked = event.type == SyncRequested.__name__
            yield Woken(target_of(event.stream), event, asked)
        elif event.type == ObjectsObserved.__name__:
            for target in _seen(event):
                yield Woken(target, event)
        elif kind == "app":
            whole["application", event.stream] = event
        elif kind == "cluster":
            whole["cluster", event.stream] = event
        elif event.type in (SourceChecked.__name__, RevisionResolved.__name__):
            whole["request", "open"] = event
            if event.type == RevisionResolved.__name__:
                project = event.stream.split("/", 2)[1]
                for one in await read_all(reader, WAITING, prefix=f"target/{project}/"):
                    yield Woken(target_of(one.key), event)
    for index in sorted({index for index, _ in whole}):
        values = sorted(value for of, value in whole if of == index)
        for value, found in (await read_among(reader, TARGETS, index, values)).items():
            for item in found:
                yield Woken(target_of(item.key), whole[index, value])
    for stream, waiting in (await read_among(reader, WAITING, "on", sorted(moved))).items():
        for other in waiting:
            yield Woken(target_of(other.key), moved[stream])


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
