"""What every keeper of views promises, whichever it is."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Protocol

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from engine.embedded.server import EmbeddedPostgres
from events.catalog import CommitSeen
from events.event import NewEvent, Position, StreamName
from events.log import EventLog
from events.memory import MemoryLog
from projections.asof import as_of
from projections.batch import Group, Parked
from projections.errors import AheadOfViews
from projections.memory import MemoryViews
from projections.views import Views, read_all, read_among
from tests.databases import fresh_database
from tests.keeping import (
    append,
    documents_of,
    everything,
    kept,
    naive_documents,
    naive_subjects,
    names_of,
    sharded,
)
from tests.toy_views import ABOUT, CLOCK, STREAMS, TALLIES, moved, named, toy_group

pytestmark = pytest.mark.anyio


class ParkedViews(Views, Protocol):
    async def parked(self, limit: int = 1000) -> list[Parked]: ...

    def subscribe(self) -> Any: ...


class World(Struct, frozen=True):
    log: EventLog
    views: ParkedViews
    subscribe: Any

    async def append(self, *events: NewEvent) -> Position:
        return await append(self.log, events)


@pytest.fixture(params=["memory", "postgres", "shards"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "memory":
        log = MemoryLog(CLOCK.now)
        views = MemoryViews(log, toy_group())
        yield World(log, views, views.subscribe)
        return
    server: EmbeddedPostgres = request.getfixturevalue("postgres")
    async with fresh_database(server) as dsn:
        group = toy_group()
        way = sharded(dsn, group, 3, ABOUT) if request.param == "shards" else kept(dsn, group)
        async with way as it:
            yield World(it.log, it.views, it.runner.subscribe)


# Folding.

KEYS = st.sampled_from(["a", "ab", "abc", "b", "é", "zebra", "\U0001f600"])
EXAMPLES = itertools.count()
EVENTS = st.one_of(
    st.builds(
        named,
        st.lists(KEYS, max_size=4),
        st.sampled_from(["add"] * 12 + ["remove", "remove", "boom", "unstorable"]),
        st.sampled_from(["c1", "c2"]),
        st.sampled_from(["s1", "s2", "s3"]),
    ),
    st.builds(moved, st.sampled_from(["m1", "m2"]), st.sampled_from(["s1", "s2"])),
    st.builds(named, st.just(["x"]), st.just("unknowable"), st.just("c"), st.sampled_from("pqrst")),
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=st.lists(st.lists(EVENTS, min_size=1, max_size=12), min_size=1, max_size=4))
async def test_views_are_the_naive_fold_of_the_log(
    world: World, batches: list[list[NewEvent]]
) -> None:
    # Examples go on with the same log; each has streams and keys of its own, lest all get parked.
    last = Position(0)
    example = next(EXAMPLES)
    for batch in batches:
        last = await world.append(*(of_example(event, example) for event in batch))
    await world.views.reached(last)
    async with world.views.snapshot() as reader:
        assert reader.position >= last
        events = await everything(world.log, reader.position)
        parked = await world.views.parked()
        for view in (TALLIES, STREAMS):
            documents, parked_names = naive_documents(view, events)
            assert await documents_of(reader, view) == documents
            assert names_of(parked, view.name) == parked_names
        for subject, positions in naive_subjects(ABOUT, events).items():
            assert await reader.subjects(ABOUT, subject, limit=100_000) == positions


def of_example(event: NewEvent, number: int) -> NewEvent:
    fact = event.fact
    if isinstance(fact, CommitSeen):
        fact = replace(fact, parents=tuple(f"{number}/{key}" for key in fact.parents))
    return replace(
        event, event_id=CLOCK.event_id(), stream=StreamName(f"{event.stream}{number}"), fact=fact
    )


async def test_a_log_without_events_has_empty_views(world: World) -> None:
    async with world.views.snapshot() as reader:
        assert reader.position == 0
        assert await reader.get(TALLIES, "a") is None
        assert await reader.page(TALLIES) == []
        assert await reader.count(TALLIES) == 0
        assert await reader.subjects(ABOUT, "repo/default/a") == []


async def test_a_document_has_the_position_of_the_last_event_folded_into_it(world: World) -> None:
    await world.append(named(["a", "b"]), named(["b"]), moved("m"))
    await world.views.reached(Position(3))
    async with world.views.snapshot() as reader:
        found = await reader.get_many(TALLIES, ["a", "b", "a", "nothing"])
    assert {key: each.position for key, each in found.items()} == {"a": 1, "b": 2}
    assert found["b"].document.count == 2


async def test_documents_of_several_views_are_read_at_once(world: World) -> None:
    await world.append(named(["a", "b"]), moved("m"))
    await world.views.reached(Position(2))
    wanted = [(TALLIES, "a"), (TALLIES, "nothing"), (TALLIES, "un\0storable"), (STREAMS, "a")]
    wanted += [
        (STREAMS, key) for key in naive_documents(STREAMS, await everything(world.log, 2))[0]
    ]
    for position in (2, 1):
        async with as_of(world.views, world.log, Position(position), timeline=ABOUT) as reader:
            each = {pair: await reader.get(*pair) for pair in wanted}
            there = {(view.name, key): found for (view, key), found in each.items() if found}
            assert await reader.get_each(wanted) == there
            assert (TALLIES.name, "a") in there
    async with world.views.snapshot() as reader:
        assert len(await reader.get_each(wanted)) == len(wanted) - 3


async def test_documents_with_one_of_several_values_of_an_index_are_read_at_once(
    world: World,
) -> None:
    keys = [f"k{number:03}" for number in range(130)]
    await world.append(named(keys), named(["a", "b"], "twice"), named(["a", "c"], "thrice"))
    await world.views.reached(Position(3))
    values = ["odd", "even", "none", "un\0storable", "odd"]
    async with world.views.snapshot() as reader:
        found = await read_among(reader, TALLIES, "parity", values)
        assert found == {
            value: await read_all(reader, TALLIES, where={"parity": value}) for value in values
        }
        assert len(found["odd"]) == 132
        assert len((await reader.among(TALLIES, "parity", ["odd"], limit=3))["odd"]) == 3
        with pytest.raises(ValueError, match="no index nonsense"):
            await reader.among(TALLIES, "nonsense", ["odd"], limit=3)


async def test_a_document_that_is_taken_away_is_gone_and_can_come_back(world: World) -> None:
    await world.append(named(["a"]), named(["a"], "remove"))
    await world.views.reached(Position(2))
    async with world.views.snapshot() as reader:
        assert await reader.get(TALLIES, "a") is None
    await world.append(named(["a"]))
    await world.views.reached(Position(3))
    async with world.views.snapshot() as reader:
        found = await reader.get(TALLIES, "a")
    assert found is not None
    assert (found.position, found.document.count) == (3, 1)


# The past.


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    batches=st.lists(st.lists(EVENTS, min_size=1, max_size=20), min_size=1, max_size=3),
    where=st.sampled_from(
        [None, {"parity": "odd"}, {"last": "c1"}, {"size": "big"}, {"parity": "even", "last": "c2"}]
    ),
)
async def test_views_as_of_a_position_are_the_naive_fold_up_to_there(
    world: World, batches: list[list[NewEvent]], where: dict[str, str] | None
) -> None:
    first = await world.log.head()
    example = next(EXAMPLES)
    for batch in batches:
        await world.append(*(of_example(event, example) for event in batch))
    head = await world.log.head()
    await world.views.reached(head)
    events = await everything(world.log, head)
    prefix = f"{example}/"
    for position in range(first, head + 1):
        past = events[:position]
        async with as_of(world.views, world.log, Position(position), timeline=ABOUT) as reader:
            assert reader.position == position
            documents, _ = naive_documents(TALLIES, past)
            mine = {key: at for key, at in documents.items() if key.startswith(prefix)}
            matching = {key: at for key, at in mine.items() if indexed(at[1], where)}
            page = await reader.page(TALLIES, prefix=prefix, where=where)
            assert [(each.key, (each.position, each.document)) for each in page] == sorted(
                matching.items()
            )
            assert await reader.count(TALLIES, prefix=prefix, where=where) == len(matching)
            for by in (("parity", "last"), ("size", "parity")):
                tally = await reader.tally(TALLIES, by, prefix=prefix, where=where)
                assert tally == tallied(by, [document for _, document in matching.values()])
            keys = [f"{prefix}{key}" for key in ("a", "ab", "x", "é", "none")]
            found = await reader.get_many(TALLIES, keys)
            assert {key: (each.position, each.document) for key, each in found.items()} == {
                key: mine[key] for key in keys if key in mine
            }
            streams = naive_documents(STREAMS, past)[0]
            for key in (f"repo/default/s{number}{example}" for number in (1, 2)):
                head_then = await reader.get(STREAMS, key)
                was = (head_then.position, head_then.document) if head_then else None
                assert was == streams.get(key)
                filed = await reader.subjects(ABOUT, key, limit=100_000)
                assert filed == naive_subjects(ABOUT, past).get(key, [])

    async with world.views.snapshot() as now:
        documents = [found.document for found in await now.page(TALLIES, prefix=prefix)]
        matching_now = [document for document in documents if indexed(document, where)]
        tally = await now.tally(TALLIES, ("size", "last"), prefix=prefix, where=where)
        assert tally == tallied(("size", "last"), matching_now)


def tallied(by: tuple[str, str], documents: list[Any]) -> dict[tuple[str, str], int]:
    values = [dict(zip(TALLIES.indexes, TALLIES.index(each), strict=True)) for each in documents]
    return Counter((each[by[0]], each[by[1]]) for each in values if each[by[0]] and each[by[1]])


def indexed(document: Any, where: dict[str, str] | None) -> bool:
    values = dict(zip(TALLIES.indexes, TALLIES.index(document), strict=True))
    return all(values[name] == value for name, value in (where or {}).items())


async def test_a_long_history_is_read_from_its_snapshots_page_by_page(world: World) -> None:
    keys = [f"k{number:04}" for number in range(1200)]
    for commit in ("c1", "c2", "c1"):
        await world.append(
            *(named(keys[at : at + 100], commit=commit) for at in range(0, 1200, 100))
        )
    await world.append(*(named(keys[at : at + 100], "remove") for at in range(0, 1200, 100)))
    last = await world.log.head()
    await world.views.reached(last)
    async with as_of(world.views, world.log, Position(last - 12), timeline=ABOUT) as reader:
        assert await reader.count(TALLIES) == 1200
        assert await reader.count(TALLIES, where={"size": "big"}) == 1200
        page = await reader.page(TALLIES, where={"last": "c1"}, after="k0700", limit=3)
        assert [each.key for each in page] == ["k0701", "k0702", "k0703"]
    async with as_of(world.views, world.log, Position(last - 24), timeline=ABOUT) as reader:
        assert await reader.count(TALLIES, where={"last": "c1"}) == 0
        assert await reader.count(TALLIES, where={"last": "c2"}) == 1200


async def test_a_position_that_the_views_have_not_reached_is_refused(world: World) -> None:
    await world.append(named(["a"]))
    await world.views.reached(Position(1))
    with pytest.raises(AheadOfViews, match="position 2 is not in the views, which are at 1"):
        async with as_of(world.views, world.log, Position(2), timeline=ABOUT):
            raise AssertionError("nothing is read")
    with pytest.raises(ValueError, match="no position"):
        async with as_of(world.views, world.log, Position(-1), timeline=ABOUT):
            raise AssertionError("nothing is read")


# Snapshots.


async def test_all_views_of_a_snapshot_stand_at_its_position_while_the_log_grows(
    world: World,
) -> None:
    stop = anyio.Event()

    async def grow() -> None:
        for _ in range(3000):
            if stop.is_set():
                return
            await world.append(named(["a", "b"]), moved("m"), named(["b"], on="b"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(grow)
        last = Position(0)
        for _ in range(15):
            await world.views.reached(Position(last + 1))
            async with world.views.snapshot() as reader:
                documents = [await documents_of(reader, view) for view in (TALLIES, STREAMS)]
                filed = await reader.subjects(ABOUT, "repo/default/a", limit=100_000)
                again = [await documents_of(reader, view) for view in (TALLIES, STREAMS)]
            assert reader.position > last
            last = reader.position
            events = await everything(world.log, last)
            assert documents == again
            assert documents == [naive_documents(view, events)[0] for view in (TALLIES, STREAMS)]
            assert filed == naive_subjects(ABOUT, events)["repo/default/a"]
        stop.set()


# Pages.


async def keys_of(world: World, **how: Any) -> list[str]:
    async with world.views.snapshot() as reader:
        page = await reader.page(TALLIES, **how)
        if how.keys() <= {"prefix", "where"}:
            assert await reader.count(TALLIES, **how) == len(page)
    return [each.key for each in page]


async def test_pages_come_in_key_order_by_prefix_and_after_a_key(world: World) -> None:
    keys = [
        "b",
        "a/1",
        "a/10",
        "a/2",
        "a",
        "ä/1",
        "a0",
        "a.",
        "\U0001f600",
        "\uffee",
        "A",
        "a/\ud7ff",
    ]
    await world.views.reached(await world.append(named(keys)))
    assert await keys_of(world) == sorted(keys)
    assert await keys_of(world, prefix="a/") == ["a/1", "a/10", "a/2", "a/\ud7ff"]
    assert await keys_of(world, prefix="a/\ud7ff") == ["a/\ud7ff"]
    assert await keys_of(world, prefix="ä") == ["ä/1"]
    assert await keys_of(world, prefix="\U0001f600") == ["\U0001f600"]
    assert await keys_of(world, prefix="\U0010ffff") == []
    assert await keys_of(world, prefix="a/", after="a/1", limit=1) == ["a/10"]
    assert await keys_of(world, prefix="a/", after="") == ["a/1", "a/10", "a/2", "a/\ud7ff"]
    assert await keys_of(world, prefix="a/", after="b") == []
    assert await keys_of(world, after="a.") == [key for key in sorted(keys) if key > "a."]
    assert await keys_of(world, limit=2) == ["A", "a"]


async def test_pages_go_by_indexed_values(world: World) -> None:
    await world.append(named(["a/1", "a/2", "b/1"], commit="x"))
    await world.append(named(["a/2", "b/1", "b/2"], commit="y"))
    last = await world.append(named(["a/2", "b/1"], commit="x"))
    await world.views.reached(last)  # counts: a/1 1, a/2 3, b/1 3, b/2 1
    assert await keys_of(world, where={"parity": "odd"}) == ["a/1", "a/2", "b/1", "b/2"]
    assert await keys_of(world, where={"parity": "even"}) == []
    assert await keys_of(world, where={"last": "y"}) == ["b/2"]
    assert await keys_of(world, where={"size": "big"}) == ["a/2", "b/1"]
    assert await keys_of(world, where={"size": "big"}, prefix="b/") == ["b/1"]
    assert await keys_of(world, where={"size": "big"}, after="a/2") == ["b/1"]
    assert await keys_of(world, where={"last": "x", "parity": "odd"}, limit=2) == ["a/1", "a/2"]
    assert await keys_of(world, where={"last": "x", "size": "big"}) == ["a/2", "b/1"]
    assert await keys_of(world, where={"last": "y", "size": "big"}) == []
    assert await keys_of(world, where={}) == ["a/1", "a/2", "b/1", "b/2"]


async def test_an_index_follows_its_document(world: World) -> None:
    await world.append(named(["a"], commit="x"))
    await world.views.reached(await world.append(named(["a"], commit="y")))
    assert await keys_of(world, where={"last": "x"}) == []
    assert await keys_of(world, where={"last": "y"}) == ["a"]


async def test_what_no_view_can_hold_is_simply_not_found(world: World) -> None:
    await world.views.reached(await world.append(named(["a"])))
    async with world.views.snapshot() as reader:
        for odd in ("a\0", "\ud800"):
            assert await reader.get(TALLIES, odd) is None
            assert await reader.page(TALLIES, prefix=odd) == []
            assert await reader.page(TALLIES, where={"last": odd}) == []
            assert await reader.count(TALLIES, where={"last": odd}) == 0
            assert await reader.subjects(ABOUT, odd) == []
        assert await reader.page(TALLIES, after="a\0b") == []
        assert [each.key for each in await reader.page(TALLIES, after="A\0b")] == ["a"]


async def test_questions_that_make_no_sense_are_refused(world: World) -> None:
    async with world.views.snapshot() as reader:
        with pytest.raises(ValueError, match="limit of at least 1"):
            await reader.page(TALLIES, limit=0)
        with pytest.raises(ValueError, match="no index colour, only: parity, last, size"):
            await reader.page(TALLIES, where={"colour": "red"})
        with pytest.raises(ValueError, match="after what is no text"):
            await reader.page(TALLIES, after="\ud800")
        other = type(TALLIES)()
        other.name = "others"
        with pytest.raises(ValueError, match="others is not among"):
            await reader.get(other, "a")


# Subjects.


async def test_subjects_are_read_in_both_directions_between_two_positions(world: World) -> None:
    for number in range(1, 11):
        await world.append(moved("m", on="even" if number % 2 == 0 else "odd"))
    await world.views.reached(Position(10))
    async with world.views.snapshot() as reader:

        async def even(**how: Any) -> list[int]:
            return list(await reader.subjects(ABOUT, "repo/default/even", **how))

        assert await even() == [2, 4, 6, 8, 10]
        assert await even(newest_first=True) == [10, 8, 6, 4, 2]
        assert await even(after=2) == [4, 6, 8, 10]
        assert await even(before=8) == [2, 4, 6]
        assert await even(after=3, before=9, limit=2) == [4, 6]
        assert await even(after=3, before=9, limit=2, newest_first=True) == [8, 6]
        assert await even(after=10) == []
        assert await even(before=1) == []
        with pytest.raises(ValueError, match="limit"):
            await even(limit=0)


# Waiting.


async def test_reached_returns_at_once_for_what_is_folded(world: World) -> None:
    last = await world.append(moved("m"))
    assert await world.views.reached(last) == last
    assert await world.views.reached(Position(0)) >= 0


async def test_reached_waits_for_what_is_yet_to_be_appended(world: World) -> None:
    results: list[Position] = []

    async def wait() -> None:
        results.append(await world.views.reached(Position(2)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await world.views.reached(await world.append(moved("m")))
        assert results == []
        await world.append(moved("m"))
    assert results == [2]


async def test_reached_times_out_and_says_where_the_views_are(world: World) -> None:
    await world.views.reached(await world.append(moved("m")))
    with pytest.raises(TimeoutError, match="at position 1, not at 2"):
        await world.views.reached(Position(2), timeout=0.05)


async def test_a_subscriber_hears_every_event_after_the_views_have_it(world: World) -> None:
    await world.views.reached(await world.append(moved("before")))
    heard: list[int] = []
    async with world.subscribe() as batches:
        for number in range(5):
            await world.append(moved(f"m{number}"), named(["a"]))
        with anyio.fail_after(20):
            async for batch in batches:
                assert not batch.missed
                heard += [event.position for event in batch.events]
                async with world.views.snapshot() as reader:
                    assert reader.position >= batch.position == heard[-1]
                if heard[-1] == 11:
                    break
    assert heard == list(range(2, 12))


# What cannot be folded.


async def test_a_fold_that_fails_parks_its_document_and_nothing_else(world: World) -> None:
    await world.append(named(["a", "b"]), named(["a"], "boom"), named(["a", "b"]))
    await world.append(named(["c"], "unstorable"), named(["c", "d"]))
    await world.views.reached(Position(5))
    async with world.views.snapshot() as reader:
        documents = await documents_of(reader, TALLIES)
        assert {key: (at, tally.count) for key, (at, tally) in documents.items()} == {
            "a": (1, 1),
            "b": (3, 2),
            "d": (5, 1),
        }
        assert (await reader.get(STREAMS, "repo/default/a")) is not None
    parked = await world.views.parked()
    assert [(each.view, each.scope, each.name, each.position) for each in parked] == [
        ("tallies", "key", "a", 2),
        ("tallies", "key", "c", 4),
    ]
    assert "Tallies.apply raised ValueError: boom at a" in parked[0].message
    assert "toy_views.py:" in parked[0].message
    assert len(await world.views.parked(limit=1)) == 1


async def test_an_event_whose_documents_are_unknown_parks_its_stream(world: World) -> None:
    await world.append(named(["a"], on="s"), named(["a"], "unknowable", on="s"))
    last = await world.append(named(["a"], on="s"), named(["a"], on="t"))
    await world.views.reached(last)
    async with world.views.snapshot() as reader:
        found = await reader.get(TALLIES, "a")
        streams = await documents_of(reader, STREAMS)
    assert found is not None
    assert (found.position, found.document.count) == (4, 2)
    assert streams["repo/default/s"][0] == 3
    (parked,) = await world.views.parked()
    assert (parked.scope, parked.name, parked.position) == ("stream", "repo/default/s", 2)


async def test_an_event_that_cannot_be_filed_does_not_keep_later_ones_from_it(
    world: World,
) -> None:
    last = await world.append(named([], on="s"), named([], "unfiled", on="s"), named([], on="s"))
    await world.views.reached(last)
    async with world.views.snapshot() as reader:
        assert await reader.subjects(ABOUT, "repo/default/s") == [1, 3]
    (parked,) = await world.views.parked()
    assert (parked.view, parked.name, parked.position) == ("about", "repo/default/s", 2)


@pytest.mark.parametrize("key", ["", "a\0b", "\U0010ffff", "k" * 1201, "é" * 601])
async def test_keys_that_could_not_be_found_again_park_their_stream(world: World, key: str) -> None:
    await world.views.reached(await world.append(named([key])))
    (parked,) = await world.views.parked()
    assert (parked.scope, parked.name) == ("stream", "repo/default/a")


def test_a_group_refuses_views_that_it_could_not_tell_apart() -> None:
    with pytest.raises(ValueError, match="same name"):
        Group([TALLIES, TALLIES])
    wide = type(TALLIES)()
    wide.indexes = ("a", "b", "c", "d")
    with pytest.raises(ValueError, match="more than 3 indexes"):
        Group([wide])
    wide.name = "x" * 64
    with pytest.raises(ValueError, match="63 bytes"):
        Group([wide])
