"""Events as rows of a timeline: what happened, to what, by whom, because of what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from engine.tell import given_reason, said
from events import catalog as c
from events.catalog import Fact
from events.codec import CodecError, UnknownFact, fact_of
from events.event import Event
from events.vocabulary import Difference, ObjectRef

MAX_LINES = 12
_TONES: dict[type[Fact], str] = {
    c.SourceFailed: "bad",
    c.RenderFailed: "bad",
    c.ConfigurationRefused: "bad",
    c.ClusterLost: "bad",
    c.KindUnreadable: "bad",
    c.CorrectionFailed: "bad",
    c.ProjectionParked: "bad",
    c.DriftDetected: "warn",
    c.ReconcileHeld: "warn",
    c.HealthTimedOut: "bad",
    c.CorrectionAbandoned: "warn",
    c.ObservationGap: "warn",
    c.Suspended: "warn",
    c.TargetSynced: "good",
    c.DriftResolved: "good",
    c.CorrectionApplied: "good",
    c.SourceRecovered: "good",
    c.SyncRequested: "person",
    c.Resumed: "person",
    c.Declared: "person",
    c.Withdrawn: "person",
}


class Line(Struct, frozen=True):
    """One thing that an event names: an object, and what of it."""

    ref: ObjectRef
    words: str
    difference: Difference | None = None


class Row(Struct, frozen=True):
    """One event of a timeline. `lines` has what it is about, `more` how much that leaves out.

    `cluster` is where the objects in `lines` are.
    """

    event: Event
    words: str
    reason: str
    tone: str
    lines: tuple[Line, ...] = ()
    more: int = 0
    cluster: str = ""
    who: str = ""
    """What the actor is called, where more than the pseudonym is known."""

    @property
    def project(self) -> str:
        """The project of the event's stream."""
        return self.event.stream.split("/", 2)[1]


def rows(events: Iterable[Event], names: Mapping[str, str] = MappingProxyType({})) -> list[Row]:
    """Return events as rows, in their order; `names` has what some actors are called."""
    return [replace(row(event), who=names.get(event.actor, "")) for event in events]


def row(event: Event) -> Row:
    """Return an event as a row; one that this release cannot read is told by its type."""
    try:
        fact = fact_of(event)
    except CodecError as error:
        return Row(event, f"{event.type}, which cannot be read: {error}", "", "bad")
    if isinstance(fact, UnknownFact):
        return Row(event, f"{event.type}, of a later release", "", "")
    lines, omitted = _lines(fact)
    kind, _, name = event.stream.split("/", 2)
    cluster = name.rpartition("@")[2] if kind == "target" else name if kind == "cluster" else ""
    return Row(
        event,
        said(fact),
        given_reason(fact),
        _tone(fact),
        tuple(lines[:MAX_LINES]) if cluster else (),
        max(0, len(lines) - MAX_LINES) + omitted if cluster else 0,
        cluster,
    )


def payload(event: Event) -> str:
    """Return an event's payload as indented JSON."""
    return msgspec.json.format(event.payload, indent=2).decode("utf-8", "replace")


def _tone(fact: Fact) -> str:
    if isinstance(fact, c.HealthChanged):
        return {"healthy": "good", "degraded": "bad", "missing": "bad"}.get(fact.health, "")
    if isinstance(fact, c.HookEnded):
        return "good" if fact.succeeded else "bad"
    return _TONES.get(type(fact), "")


def _lines(fact: Fact) -> tuple[Sequence[Line], int]:
    match fact:
        case c.DriftDetected():
            found = [Line(item.ref, item.kind, item) for item in fact.differences]
            return found, fact.omitted
        case c.CorrectionPlanned():
            return [Line(item.ref, f"{item.verb}: {item.reason}") for item in fact.actions], 0
        case c.CorrectionApplied() | c.CorrectionFailed():
            return [Line(item.ref, _result(item)) for item in fact.results], 0
        case c.HookEnded():
            return [Line(fact.ref, fact.message)], 0
        case c.ReconcileHeld():
            return [Line(ref, "") for ref in fact.objects], 0
        case c.ObjectsObserved():
            seen = [Line(item.ref, f"{item.presence}, {item.health}") for item in fact.objects]
            return seen, 0
    return [], 0


def _result(result: Any) -> str:
    managers = f" (managed by {', '.join(result.managers)})" if result.managers else ""
    return f"{result.outcome}{': ' + result.message if result.message else ''}{managers}"
