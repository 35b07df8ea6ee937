"""What every log promises, whichever keeps it."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import anyio
import msgspec
import pytest

from engine.embedded.server import EmbeddedPostgres
from engine.telemetry.log import TracedLog
from events import writing
from events.batching import prepare
from events.catalog import ClusterLost, CommitSeen, SourceFailed, SourceRecovered
from events.codec import UnknownFact, fact_of
from events.event import (
    ABSENT,
    START,
    Blob,
    Digest,
    Event,
    EventId,
    Micros,
    NewEvent,
    Position,
    StreamName,
    Version,
    blob,
)
from events.limits import MAX_BLOB, MAX_PAYLOAD
from events.log import Appended, EventLog, IdReused, LogCorrupt, WrongVersion
from events.memory import MemoryLog
from events.postgres import open_log
from tests.appending import event_id, failed, new, now
from tests.databases import fresh_database

pytestmark = pytest.mark.anyio
A, B, C = StreamName("repo/default/a"), StreamName("app/default/b"), StreamName("target/x/b@c")


@pytest.fixture(params=["memory", "traced", "postgres", "postgres-copy"])
async def log(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[EventLog]:
    if request.param == "memory":
        yield MemoryLog(now)
        return
    if request.param == "traced":
        # As the engine's parts see it, with telemetry off: then it changes nothing.
        yield TracedLog(MemoryLog(now), time.monotonic)
        return
    if request.param == "postgres-copy":
        # Every append as a large one is written.
        monkeypatch.setattr(writing, "LARGE", 1)
    server: EmbeddedPostgres = request.getfixturevalue("postgres")
    async with fresh_database(server) as dsn, open_log(dsn) as log:
        yield log


async def everything(log: EventLog) -> list[Event]:
    events: list[Event] = []
    while page := await log.read(events[-1].position if events else START, 100):
        events += page
    return events


def dense(events: Sequence[Event]) -> bool:
    return [event.position for event in events] == list(range(1, len(events) + 1))


async def collect(log: EventLog, after: Position, count: int, limit: int = 1000) -> list[Event]:
    events: list[Event] = []
    with anyio.fail_after(30):
        async with aclosing(log.follow(after, limit)) as pages:
            async for page in pages:
                assert 0 < len(page) <= limit
                events += page
                if len(events) >= count:
                    break
    return events


# Appending.


async def test_a_new_log_is_empty(log: EventLog) -> None:
    assert await log.head() == START
    assert await log.version(A) == ABSENT
    assert list(await log.read(START)) == []
    assert await log.position_at(now()) == START
    assert len(log.log_id) == 36


async def test_what_goes_in_comes_out(log: EventLog) -> None:
    fact = CommitSeen("c0ffee", ("beef",), "fix: ünïcode \x00 \u2028 'quotes' \\", 17)
    before = now()
    given = new(A, fact, causation=Position(41), correlation="case-1", traceparent="00-aa-bb-01")
    appended = await log.append([given])
    (event,) = await log.read(START)
    assert appended == Appended((Position(1),), (Version(1),))
    assert appended.last == 1
    assert before <= event.recorded_at <= now()
    assert fact_of(event) == fact
    assert event == Event(
        position=Position(1),
        stream=A,
        version=Version(1),
        event_id=given.event_id,
        type="CommitSeen",
        schema=CommitSeen.schema,
        recorded_at=event.recorded_at,
        occurred_at=given.occurred_at,
        actor=given.actor,
        causation=Position(41),
        correlation="case-1",
        traceparent="00-aa-bb-01",
        payload=msgspec.json.encode(fact),
    )


async def test_an_erased_body_is_gone_for_good_and_is_known_to_have_been_there(
    log: EventLog,
) -> None:
    one, two, three = (blob(text) for text in (b"one", b"two", b"three"))
    await log.put([one, two])
    await log.erase([one.digest, three.digest])
    assert await log.blobs([one.digest, two.digest]) == {two.digest: b"two"}
    assert await log.erased([one.digest, two.digest, three.digest]) == {one.digest}
    await log.put([one, three])
    await log.append([new("repo/default/one")], [one])
    assert await log.blobs([one.digest, three.digest]) == {three.digest: b"three"}
    await log.erase([one.digest])
    assert await log.erased([one.digest]) == {one.digest}
    with pytest.raises(ValueError, match="not a digest"):
        await log.erase([Digest("md5:abc")])


async def test_positions_are_dense_under_many_concurrent_appenders(log: EventLog) -> None:
    answers: dict[EventId, tuple[Position, Version]] = {}

    async def appender(number: int) -> None:
        for turn in range(8):
            events = [new(f"repo/default/{number % 5}") for _ in range(1 + turn % 3)]
            appended = await log.append(events)
            places = zip(appended.positions, appended.versions, strict=True)
            answers.update(
                (event.event_id, place) for event, place in zip(events, places, strict=True)
            )

    async with anyio.create_task_group() as tasks:
        for number in range(32):
            tasks.start_soon(appender, number)
    events = await everything(log)
    assert dense(events)
    assert {event.event_id: (event.position, event.version) for event in events} == answers
    for stream in {event.stream for event in events}:
        versions = [event.version for event in events if event.stream == stream]
        assert versions == list(range(1, len(versions) + 1))
        assert await log.version(stream) == len(versions)


async def test_events_of_one_append_are_neighbours_in_the_order_given(log: EventLog) -> None:
    batches = [[new(stream) for stream in (A, B, A, C)] for _ in range(20)]
    async with anyio.create_task_group() as tasks:
        for batch in batches:
            tasks.start_soon(log.append, batch)
    stored = [event.event_id for event in await everything(log)]
    for batch in batches:
        start = stored.index(batch[0].event_id)
        assert stored[start : start + 4] == [event.event_id for event in batch]


async def test_each_event_expects_the_version_at_its_own_turn(log: EventLog) -> None:
    events = [
        new(A, expected=ABSENT),
        new(B, expected=ABSENT),
        new(A, expected=Version(1)),
        new(A),
        new(A, expected=Version(3)),
    ]
    appended = await log.append(events)
    assert appended.versions == (1, 1, 2, 3, 4)


async def test_a_wrong_expected_version_writes_nothing_and_says_what_is(log: EventLog) -> None:
    await log.append([new(A), new(A)])
    for expected in (0, 1, 3):
        with pytest.raises(WrongVersion) as caught:
            await log.append([new(B), new(A, expected=Version(expected))])
        assert (caught.value.stream, caught.value.expected, caught.value.actual) == (A, expected, 2)
    assert await log.head() == 2
    assert await log.version(B) == ABSENT
    assert (await log.append([new(A, expected=Version(2))])).versions == (3,)


async def test_of_many_who_expect_the_same_version_one_wins(log: EventLog) -> None:
    outcomes: list[str] = []

    async def contender() -> None:
        try:
            await log.append([new(A, expected=ABSENT), new(B)])
            outcomes.append("won")
        except WrongVersion:
            outcomes.append("lost")

    async def bystander() -> None:
        await log.append([new(C)])

    async with anyio.create_task_group() as tasks:
        for _ in range(16):
            tasks.start_soon(contender)
            tasks.start_soon(bystander)
    assert sorted(outcomes) == ["lost"] * 15 + ["won"]
    assert dense(await everything(log))
    assert await log.version(C) == 16
    assert (await log.version(A), await log.version(B)) == (1, 1)


# Idempotency.


async def test_a_retry_returns_the_first_positions_and_writes_nothing(log: EventLog) -> None:
    events = [new(A, expected=ABSENT), new(B), new(A, expected=Version(1))]
    first = await log.append(events)
    await log.append([new(A), new(B)])
    assert await log.append(events) == first
    put_together_afresh = [
        msgspec.structs.replace(event, occurred_at=Micros(5), traceparent="00-cc")
        for event in events
    ]
    assert await log.append(put_together_afresh) == first
    assert await log.append(events[1:2]) == Appended(first.positions[1:2], first.versions[1:2])
    assert await log.head() == 5


async def test_an_event_is_found_by_its_id(log: EventLog) -> None:
    await log.append([new(A)])
    wanted = new(B)
    assert await log.find(wanted.event_id) is None
    appended = await log.append([new(A), wanted])
    assert await log.find(wanted.event_id) == appended.last == 3


async def test_retries_at_the_same_time_write_once(log: EventLog) -> None:
    events = [new(A, expected=ABSENT), new(B)]
    answers: list[Appended] = []

    async def append() -> None:
        answers.append(await log.append(events))

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(append)
    assert len(answers) == 10
    assert set(answers) == {Appended((Position(1), Position(2)), (Version(1), Version(1)))}
    assert await log.head() == 2


@pytest.mark.parametrize(
    "other",
    [
        {"fact": failed("something else")},
        {"fact": SourceRecovered()},
        {"stream": B},
        {"actor": "user:other"},
        {"causation": Position(1)},
        {"correlation": "other"},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_an_id_with_other_content_is_refused(log: EventLog, other: dict[str, object]) -> None:
    event = new(A)
    await log.append([event])
    with pytest.raises(IdReused):
        await log.append([new(C), msgspec.structs.replace(event, **other)])
    with pytest.raises(IdReused):
        await log.append([msgspec.structs.replace(event, **other)])
    assert await log.head() == 1


async def test_an_append_that_was_half_there_before_is_refused(log: EventLog) -> None:
    event = new(A)
    await log.append([event])
    with pytest.raises(IdReused):
        await log.append([event, new(B)])
    assert await log.head() == 1


async def test_an_id_from_before_the_ids_that_are_remembered_is_refused(log: EventLog) -> None:
    day = 24 * 3600 * 1_000_000
    await log.append([new(A)])
    with pytest.raises(IdReused, match="seven days"):
        await log.append([new(A, event_id=event_id(now() - 8 * day))])
    await log.append([new(A, event_id=event_id(now() - 6 * day))])
    assert await log.head() == 2


# Refused at the door.


@pytest.mark.parametrize(
    ("events", "why"),
    [
        (list, "at least one"),
        (lambda: [new(A, event_id=EventId("7d444840-9dc0-11d1-b245-5ffdce74fad2"))], "UUIDv7"),
        (lambda: [new(A, event_id=EventId("not an id\x00"))], "UUIDv7"),
        (lambda: [new("")], "stream"),
        (lambda: [new("repo/\x00")], "control"),
        (lambda: [new("repo/\ud800")], "character"),
        (lambda: [new("x" * 2000)], "bytes"),
        (lambda: [new(A, actor="user:\x00")], "control"),
        (lambda: [new(A, correlation="a\nb")], "control"),
        (lambda: [new(A, occurred_at=Micros(2**63))], "occurred_at"),
        (lambda: [new(A, causation=Position(0))], "causation"),
        (lambda: [new(A, failed("x" * MAX_PAYLOAD))], "bytes"),
        (lambda: [new(A, UnknownFact("Later", 1, b"{}"))], "catalogue"),
        (lambda: [new(A)] * 2, "twice"),
        (lambda: [new(A)] * 10_001, "split"),
    ],
)
async def test_what_no_log_could_hold_is_a_value_error(
    log: EventLog, events: object, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        await log.append(events())  # type: ignore[operator]
    assert await log.head() == START


async def test_half_a_character_in_a_payload_is_a_value_error(log: EventLog) -> None:
    with pytest.raises(ValueError, match="surrogate"):
        await log.append([new(A, failed("\ud800"))])


@pytest.mark.parametrize("limit", [0, -1, 10_001])
async def test_a_page_has_a_sensible_size(log: EventLog, limit: int) -> None:
    with pytest.raises(ValueError, match="page"):
        await log.read(START, limit)
    with pytest.raises(ValueError, match="position"):
        await log.read(Position(-1))


# Reading.


@pytest.fixture
async def story(log: EventLog) -> EventLog:
    """Twelve events: A and B take turns, every third is a recovery, the last one is C's."""
    for number in range(11):
        fact = SourceRecovered() if number % 3 == 2 else failed(str(number))
        await log.append([new((A, B)[number % 2], fact)])
    await log.append([new(C, ClusterLost("timeout", "gone"))])
    return log


@pytest.mark.parametrize(
    ("after", "limit", "stream", "types", "positions"),
    [
        (0, 4, None, None, [1, 2, 3, 4]),
        (4, 100, None, None, [5, 6, 7, 8, 9, 10, 11, 12]),
        (12, 100, None, None, []),
        (99, 100, None, None, []),
        (2**62, 10, None, None, []),
        (0, 100, A, None, [1, 3, 5, 7, 9, 11]),
        (3, 2, A, None, [5, 7]),
        (0, 100, "repo/default/nobody", None, []),
        (0, 100, "\x00", None, []),
        (0, 100, None, ["SourceRecovered"], [3, 6, 9]),
        (3, 1, None, ["SourceRecovered"], [6]),
        (5, 3, None, ["SourceRecovered", "ClusterLost"], [6, 9, 12]),
        (0, 2, None, {"ClusterLost", "SourceFailed"}, [1, 2]),
        (0, 100, None, ["NoSuch", "\x00", "\ud800"], []),
        (0, 100, None, [], []),
        (0, 100, B, ["SourceRecovered"], [6]),
        (0, 1, A, ["SourceRecovered", "SourceFailed"], [1]),
        (0, 100, B, [], []),
    ],
)
async def test_reads_are_filtered_ordered_and_limited(
    story: EventLog,
    after: int,
    limit: int,
    stream: StreamName | None,
    types: list[str] | None,
    positions: list[int],
) -> None:
    found = await story.read(Position(after), limit, stream=stream, types=types)
    assert [event.position for event in found] == positions


async def test_single_positions_are_read_in_order(story: EventLog) -> None:
    wanted = [Position(place) for place in (12, 3, 3, 99, 0, -1, 2**63, 1)]
    assert [event.position for event in await story.read_at(wanted)] == [1, 3, 12]
    assert list(await story.read_at([])) == []
    with pytest.raises(ValueError, match="at most"):
        await story.read_at([Position(place) for place in range(10_001)])


async def test_a_time_names_the_last_position_not_after_it(story: EventLog) -> None:
    events = await everything(story)
    for event in events:
        same = [other.position for other in events if other.recorded_at == event.recorded_at]
        assert await story.position_at(event.recorded_at) == max(same)
        assert await story.position_at(event.recorded_at - 1) == min(same) - 1
    assert await story.position_at(2**70) == 12
    assert await story.position_at(-(2**70)) == START


# Following.


async def test_following_goes_through_the_past_page_by_page(story: EventLog) -> None:
    events = await collect(story, Position(2), 10, limit=3)
    assert [event.position for event in events] == list(range(3, 13))


async def test_following_goes_on_live(story: EventLog) -> None:
    got: list[Event] = []

    async def follower() -> None:
        got.extend(await collect(story, START, 42))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(follower)
        for _ in range(30):
            await anyio.lowlevel.checkpoint()
            await story.append([new(C)])
    assert [event.position for event in got] == [*range(1, 43)] * 3


async def test_following_from_beyond_the_end_says_that_the_log_went_back(story: EventLog) -> None:
    with pytest.raises(LogCorrupt, match="older copy"):
        await collect(story, Position(13), 1)


# Bodies.


async def test_bodies_are_kept_once_and_found_by_digest(log: EventLog) -> None:
    one, two, three = blob(b"one"), blob(b""), blob(bytes(range(256)) * 5000)
    await log.append([new(A)], [one, two, one])
    await log.put([three, one])
    await log.put([])
    await log.append([new(A)], [three, one])
    missing = blob(b"missing").digest
    found = await log.blobs([three.digest, missing, one.digest, two.digest, one.digest])
    assert found == {item.digest: item.body for item in (one, two, three)}
    assert await log.blobs([]) == {}


async def test_bodies_are_there_when_their_event_is(log: EventLog) -> None:
    async def appender(number: int) -> None:
        shared = [blob(b"shared %d" % index) for index in range(20)]
        random.Random(number).shuffle(shared)
        await log.append([new(A)], [*shared, blob(b"own %d" % number)])
        assert len(await log.blobs([item.digest for item in shared])) == 20

    async with anyio.create_task_group() as tasks:
        for number in range(16):
            tasks.start_soon(appender, number)


async def test_a_body_that_is_not_its_digest_or_too_large_is_a_value_error(log: EventLog) -> None:
    wrong = Blob(blob(b"something").digest, b"something else")
    for bad in (wrong, blob(bytes(MAX_BLOB + 1))):
        with pytest.raises(ValueError, match="body"):
            await log.put([bad])
        with pytest.raises(ValueError, match="body"):
            await log.append([new(A)], [bad])
    with pytest.raises(ValueError, match="digest"):
        await log.blobs([Digest("md5:abc")])
    assert await log.head() == START


# Cancellation.


async def test_a_cancelled_append_is_wholly_in_or_wholly_out(log: EventLog) -> None:
    chance = random.Random(7)
    answered: list[NewEvent] = []
    cut: list[list[NewEvent]] = []

    async def steady() -> None:
        for _ in range(30):
            event = new(B)
            await log.append([event])
            answered.append(event)

    async def fickle(number: int) -> None:
        for _ in range(10):
            events = [new(f"repo/default/{number}") for _ in range(3)]
            with anyio.move_on_after(chance.choice((0, 0.0005, 0.002))) as scope:
                await log.append(events)
                answered.extend(events)
            if scope.cancelled_caught:
                cut.append(events)

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(fickle, number)
            tasks.start_soon(steady)
    events = await everything(log)
    there = {event.event_id for event in events}
    assert dense(events)
    assert there >= {event.event_id for event in answered}
    for batch in cut:
        assert len({event.event_id for event in batch} & there) in (0, 3)
    for batch in cut:  # and who is not sure may ask again
        await log.append(batch)
    assert await log.head() == len(answered) + 3 * len(cut)


def test_encoding_an_append_gives_its_size_in_bytes() -> None:
    command = prepare([new(A, SourceFailed("a", "b"))], [blob(b"12345")])
    assert command.size == len(b'{"code":"a","message":"b"}') + 5
