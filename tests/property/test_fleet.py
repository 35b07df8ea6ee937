"""The fleet's short words of each target say the same as the whole situation does."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from engine.decide.fleet import app_state, sync_of
from engine.decide.situation import Situation
from engine.decide.state import status
from events import catalog as c
from events.catalog import Fact
from events.codec import encode
from events.event import Actor, Event, EventId, Micros, Position, StreamName, Version
from events.vocabulary import Difference, DifferenceKind, Health, ObjectRef
from projections.clusters import ClusterDocument
from projections.corrections import CORRECTIONS, CorrectionDocument
from projections.declared import DECLARED
from projections.desired import DESIRED, DesiredDocument
from projections.drift import DRIFT, DriftDocument
from projections.fleet import FLEET, word_of
from projections.projection import Projection
from projections.sources import SOURCES, SourceDocument
from projections.targets import TARGETS

TARGET, APP, REPO = "target/default/shop@dev", "app/default/shop", "repo/default/shop"
SPEC = {"source": {"repository": "shop", "path": "x"}, "targets": {"clusters": ["dev"]}}
SHAS = st.sampled_from(["a" * 40, "b" * 40])
PLACES = st.integers(1, 12)
DIFFERENCE = Difference(DifferenceKind.MISSING, ObjectRef("v1", "Service", "d", "web"))

OF_TARGET: list[st.SearchStrategy[Fact]] = [
    st.just(c.TargetAssigned("shop", "dev", "default")),
    st.just(c.TargetUnassigned("gone")),
    st.just(c.SyncRequested("now")),
    st.just(c.Suspended("freeze")),
    st.just(c.Resumed("thaw")),
    st.just(c.DriftDetected("case", (DIFFERENCE,))),
    st.just(c.DriftResolved("case", "corrected")),
    st.builds(c.CorrectionPlanned, SHAS, st.just(c.Facts(1)), st.just(()), st.just("git")),
    st.builds(c.CorrectionApplied, PLACES, st.just(())),
    st.builds(c.CorrectionFailed, PLACES, st.just(()), st.just("x"), st.just("y"), st.just(1)),
    st.builds(c.CorrectionAbandoned, PLACES, st.just("restart")),
    st.builds(c.TargetSynced, SHAS, PLACES, st.just("")),
    st.builds(c.ReconcileHeld, st.sampled_from(["protected", "prune-off", "window"]), st.just("")),
    st.just(c.HoldLifted("window")),
    st.builds(c.HealthChanged, st.sampled_from(Health)),
]
OF_APP: list[st.SearchStrategy[Fact]] = [
    st.just(c.Declared("Application", SPEC)),
    st.just(c.Withdrawn("Application")),
    st.just(c.Suspended("freeze")),
    st.just(c.Resumed("thaw")),
    st.builds(c.DesiredRendered, SHAS, PLACES, st.just(""), st.just("p"), st.just(""), st.just(0)),
    st.builds(c.RenderFailed, SHAS, PLACES, st.just(""), st.just("bad"), st.just("it is")),
]
OF_REPO: list[st.SearchStrategy[Fact]] = [
    st.builds(c.RefMoved, st.just("refs/heads/main"), SHAS),
    st.builds(c.RevisionResolved, SHAS),
    st.just(c.SourceFailed("x", "y")),
    st.just(c.SourceRecovered()),
]
HISTORY = st.lists(
    st.one_of(
        st.tuples(st.just(TARGET), st.one_of(OF_TARGET)),
        st.tuples(st.just(APP), st.one_of(OF_APP)),
        st.tuples(st.just(REPO), st.one_of(OF_REPO)),
    ),
    max_size=14,
)
BEGINNING: list[tuple[str, Fact]] = [
    (APP, c.Declared("Application", SPEC)),
    (REPO, c.RefMoved("refs/heads/main", "a" * 40)),
    (REPO, c.RevisionResolved("a" * 40)),
    (APP, c.DesiredRendered("a" * 40, 1, "", "p", "", 0)),
    (TARGET, c.TargetAssigned("shop", "dev", "default")),
    (TARGET, c.TargetSynced("a" * 40, 4, "")),
]


@given(st.sampled_from([[], BEGINNING]), HISTORY)
def test_the_fleet_says_what_the_situation_says(
    begun: list[tuple[str, Fact]], more: list[tuple[str, Fact]]
) -> None:
    events = [
        _event(place, stream, fact) for place, (stream, fact) in enumerate([*begun, *more], 1)
    ]
    target = _fold(TARGETS, TARGET, events)
    if target is None:
        return
    application = _fold(DECLARED, APP, events)
    source = _fold(SOURCES, REPO, events) or SourceDocument()
    desired = _fold(DESIRED, APP, events) or DesiredDocument()
    whole = status(
        Situation(
            target=target,
            application=application,
            source=source,
            desired=desired,
            cluster=ClusterDocument(),
            corrections=_fold(CORRECTIONS, TARGET, events) or CorrectionDocument(),
            drift=_fold(DRIFT, TARGET, events) or DriftDocument(),
            inventory=(),
            observed={},
            bodies={},
            seen=len(events),
            now=0,
        )
    )
    short = _fold(FLEET, TARGET, events)
    assert short is not None
    assert sync_of(word_of(short), app_state(application, source, desired)) is whole.sync
    assert short.health is whole.health
    assert FLEET.index(short)[2] == f"{word_of(short)}/{whole.health}"


def _fold(view: Projection[Any], key: str, events: list[tuple[Event, Fact]]) -> Any:
    document: Struct | None = None
    for event, fact in events:
        if event.type in view.types and key in view.keys(event, fact):
            document = view.apply(key, document, event, fact)
    return document


def _event(place: int, stream: str, fact: Fact) -> tuple[Event, Fact]:
    event = Event(
        position=Position(place),
        stream=StreamName(stream),
        version=Version(place),
        event_id=EventId(str(place)),
        type=type(fact).__name__,
        schema=fact.schema,
        recorded_at=Micros(place),
        occurred_at=Micros(place),
        actor=Actor("engine:test"),
        causation=None,
        correlation="",
        traceparent="",
        payload=encode(fact),
    )
    return event, fact
