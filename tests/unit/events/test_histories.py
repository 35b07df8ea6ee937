"""Histories that earlier releases wrote: every later one reads and folds them, and proves the same.

A history is what the log of a real run held, one event a line, never changed once it is here; what
bodies it names is in `bodies/`, where it was kept. With a release that changes the shape of an
event, one more is added, and the shape goes into `shapes.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest

from engine.replay import Replayed, decisions, replay
from events.catalog import CATALOG
from events.codec import UnknownFact, fact_of
from events.entry import event_leaf
from events.merkle import root_of
from events.shapes import ADDED
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.batch import Group
from projections.fold import target_of
from projections.memory import MemoryViews
from projections.people import PEOPLE
from projections.targets import TARGETS
from tests.frozen import FOLDER, history, log_of, names, with_bodies
from tests.keeping import naive_documents, naive_subjects

ROOTS = {
    "0001": "93a7180d53ce09e3adae22f9f79bf72d93194b20b5e5fbc5a8cf5adb89201902",
    "0002": "b40b4e577e1144f4980d823259841e837faec50d1187fdff55f638c09453312d",
    "0003": "a4e68ac2710a2afe37a78d66c55fc943abb070f84c2f6331eb9506f3cf95507a",
    "0004": "694b832b8da5e8d254eeb99499d62e83313ff80ff0643aeddafd81d0a7119f38",
    "0005": "4b934f1921722cf5b8e51e83ffa97c2c55f9ef993f8473f7cf7f27ed5e0717f5",
    "0006": "d3c34633dc2072c08a7f5eae981ee955e0dc42367fc74d2966cd79d033212127",
    "0007": "e37592cbffd6617271f15776d8b584a20f4b852aa29c09ade4843a61c64d2b08",
    "0008": "718d9588509c8618fe542c7148b658a0cd28f5bafd5ddf10271cb0b21dc78781",
    "0009": "65dce6d948fec8b79b306182c1823829d1c77f31fa9334ac7dfd9b765af05171",
}
"""The root of each history's Merkle tree: the bytes that are proved never change either."""
FORCED = "CorrectionPlanned.actions[0].force"
DECIDED_OTHERWISE = {
    # What is made again because it was deleted is applied with force since: it had been ours.
    ("0003", 50): [(FORCED, None, True)],
    ("0004", 50): [(FORCED, None, True)],
}
"""What this release decides otherwise on purpose, by history and position, and in which fields."""


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


async def replayed(name: str) -> list[Replayed]:
    """Make every decision of a history again."""
    log = log_of(name)
    views = MemoryViews(log, Group(DOCUMENT_VIEWS, SUBJECT_VIEWS))
    events = history(name)
    streams = dict.fromkeys(each.stream for each in events if each.stream.startswith("target/"))
    found: list[Replayed] = []
    for stream in streams:
        recorded = decisions([event for event in events if event.stream == stream])
        found += [each async for each in replay(log, views, target_of(stream), recorded)]
    return found


@pytest.mark.anyio
@pytest.mark.parametrize("name", with_bodies())
async def test_every_decision_of_it_comes_out_the_same_today(name: str) -> None:
    again = await replayed(name)
    assert len(again) > 5
    otherwise = {
        (name, each.recorded.events[-1].position): [
            (field.path, field.then, field.now) for field in each.differing
        ]
        for each in again
        if each.same is not True
    }
    assert otherwise == {key: told for key, told in DECIDED_OTHERWISE.items() if key[0] == name}


def shape_of(cls: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    """Yield the path of every field that a value of a type can have."""
    for field in msgspec.structs.fields(cls):
        yield prefix + field.name
        yield from _below(field.type, f"{prefix}{field.name}.")


def _below(kind: Any, prefix: str) -> Iterator[str]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield from shape_of(kind, prefix)
    for part in get_args(kind):
        yield from _below(part, prefix)


SHAPES: dict[str, dict[str, list[str]]] = json.loads((FOLDER / "shapes.json").read_bytes())


@pytest.mark.parametrize("name", sorted(CATALOG))
def test_no_shape_changes_without_a_new_schema_number(name: str) -> None:
    cls = CATALOG[name]
    assert sorted(set(shape_of(cls))) == SHAPES[name][str(cls.schema)], (
        f"raise the schema of {name}, say in events/shapes.py what it added, and freeze its shape "
        "in tests/histories/shapes.json beside the earlier one"
    )


@pytest.mark.parametrize(("name", "schema"), sorted(ADDED))
def test_what_a_schema_is_said_to_have_added_is_what_it_added(name: str, schema: int) -> None:
    before, after = (set(SHAPES[name][str(number)]) for number in (schema - 1, schema))
    assert not before - after
    added = ADDED[name, schema]
    below = {path for path in after if path.startswith(tuple(f"{top}." for top in added))}
    assert after - before == {*added, *below}
