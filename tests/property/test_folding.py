"""Several batches folded before they are stored come to what each stored by itself comes to."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from events.codec import encode, type_of
from events.event import Event, EventId, Micros, NewEvent, Position, Version
from projections.batch import Changes, Parked, Snapshot, Stored
from projections.folding import Folding
from tests.toy_views import moved, named, toy_group

KEYS = st.lists(st.sampled_from(["k1", "k2", "k3", "k4"]), max_size=3)
WHAT = st.sampled_from(["add"] * 6 + ["remove", "remove", "boom", "unknowable", "unfiled"])
HAPPENED = st.one_of(
    st.builds(named, KEYS, WHAT, st.sampled_from("cd"), st.sampled_from("ab")),
    st.builds(moved, st.sampled_from("cd"), st.sampled_from("ab")),
)


class Kept:
    """What is stored, and all that ever was said to store."""

    def __init__(self) -> None:
        self.documents: dict[tuple[str, str], tuple[Stored, tuple[str | None, ...]]] = {}
        self.parked: list[Parked] = []
        self.filed: list[tuple[str, str, Position]] = []
        self.snapshots: list[Snapshot] = []
        self.formerly: set[tuple[str, int, str, str]] = set()

    def store(self, changes: Changes) -> None:
        for row in changes.rows:
            stored = Stored(row.position, row.document, row.tail)
            self.documents[row.view, row.key] = stored, row.index
        for place in changes.gone:
            del self.documents[place]
        self.parked += changes.parked
        self.filed += changes.filed
        self.snapshots += changes.snapshots
        self.formerly |= changes.formerly.keys()


def events_of(happened: Sequence[NewEvent]) -> list[Event]:
    return [
        Event(
            position=Position(place),
            stream=new.stream,
            version=Version(place),
            event_id=EventId(str(new.event_id)),
            type=type_of(new.fact)[0],
            schema=type_of(new.fact)[1],
            recorded_at=Micros(place),
            occurred_at=Micros(place),
            actor=new.actor,
            causation=None,
            correlation="",
            traceparent="",
            payload=encode(new.fact),
        )
        for place, new in enumerate(happened, start=1)
    ]


def folded(events: Sequence[Event], batch: int, batches: int) -> Kept:
    """Fold in batches of so many events, and store after so many batches."""
    group, kept = toy_group(), Kept()
    folding, unstored = Folding(group), 0
    for start in range(0, len(events), batch):
        plan = group.plan(events[start : start + batch])
        stored = {
            place: kept.documents[place][0]
            for place in folding.unread(plan)
            if place in kept.documents
        }
        parked = {(each.view, each.scope, each.name) for each in kept.parked}
        folding.step(plan, stored, parked & plan.names())
        unstored += 1
        if unstored == batches:
            kept.store(folding.changes())
            folding, unstored = Folding(group), 0
    kept.store(folding.changes())
    return kept


@given(st.lists(HAPPENED, max_size=40), st.integers(1, 7), st.integers(1, 6))
def test_it_makes_no_difference_when_what_was_folded_is_stored(
    happened: Sequence[NewEvent], batch: int, batches: int
) -> None:
    events = events_of(happened)
    ours, simple = folded(events, batch, batches), folded(events, 1, 1)
    assert ours.documents == simple.documents
    assert ours.parked == simple.parked
    assert ours.filed == simple.filed
    assert ours.snapshots == simple.snapshots
    assert ours.formerly == simple.formerly
