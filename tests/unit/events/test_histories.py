"""Histories that earlier releases wrote: every later one reads and folds them, and proves the same.

A history is what the log of a real run held, one event a line, never changed once it is here. With
a release that changes the shape of an event, one more is added.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from events.codec import UnknownFact, fact_of
from events.entry import event_leaf
from events.event import Event
from events.merkle import root_of
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.people import PEOPLE
from projections.targets import TARGETS
from tests.keeping import naive_documents, naive_subjects

FOLDER = Path(__file__).parents[2] / "histories"
ROOTS = {
    "0001": "93a7180d53ce09e3adae22f9f79bf72d93194b20b5e5fbc5a8cf5adb89201902",
    "0002": "b40b4e577e1144f4980d823259841e837faec50d1187fdff55f638c09453312d",
}
"""The root of each history's Merkle tree: the bytes that are proved never change either."""


class Line(msgspec.Struct):
    """A line of a history: an event, its payload as JSON as it was written."""

    position: int
    stream: str
    version: int
    event_id: str
    type: str
    schema: int
    recorded_at: int
    occurred_at: int
    actor: str
    causation: int | None
    correlation: str
    traceparent: str
    payload: msgspec.Raw


def history(name: str) -> list[Event]:
    lines = (FOLDER / f"{name}.jsonl").read_bytes().splitlines()
    return list(map(_event, lines))


def _event(line: bytes) -> Event:
    read = msgspec.json.decode(line, type=Line)
    fields = {field: getattr(read, field) for field in read.__struct_fields__}
    return Event(**{**fields, "payload": bytes(read.payload)})


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.jsonl"))


def test_every_history_is_known_here() -> None:
    assert names() == sorted(ROOTS)


@pytest.mark.parametrize("name", names())
def test_every_event_of_it_reads_today(name: str) -> None:
    for event in history(name):
        assert not isinstance(fact_of(event), UnknownFact), event.type


@pytest.mark.parametrize("name", names())
def test_its_proof_is_what_it_was(name: str) -> None:
    assert root_of(event_leaf(event) for event in history(name)).hex() == ROOTS[name]


@pytest.mark.parametrize("name", names())
def test_every_view_folds_it(name: str) -> None:
    events = history(name)
    for view in DOCUMENT_VIEWS:
        _, parked = naive_documents(view, events)
        assert not parked, view.name
    filed = naive_subjects(SUBJECT_VIEWS[0], events)
    assert sum(map(len, filed.values())) >= len(events)


def test_what_the_first_one_tells_is_still_what_happened() -> None:
    documents, _ = naive_documents(TARGETS, history("0001"))
    prod = documents["target/default/shop-prod@prod"][1]
    dev = documents["target/default/shop-dev@dev"][1]
    assert prod.assigned
    assert prod.synced is not None
    assert prod.synced.commit == dev.synced.commit
    assert (dev.assigned, dev.cascade, dev.unassigned) == (False, True, "application withdrawn")


def test_the_second_one_has_people_sealed_and_one_forgotten() -> None:
    documents, _ = naive_documents(PEOPLE, history("0002"))
    people = {key.rpartition("/")[2]: document for key, (_, document) in documents.items()}
    assert len(people) == 3
    forgotten = [document for document in people.values() if document.forgotten]
    assert [(document.actor, document.sealed) for document in forgotten] == [
        ("git:cfe00dde46ef", "")
    ]
    assert all(document.sealed for document in people.values() if not document.forgotten)
