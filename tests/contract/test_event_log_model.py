"""Any sequence of appends, retries and reads, on both logs, against the simplest model there is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar, cast

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.embedded.server import EmbeddedPostgres
from events import writing
from events.catalog import Fact, SourceFailed, SourceRecovered
from events.connection import HEARING
from events.event import Blob, Event, NewEvent, Position, StreamName, Version, blob
from events.log import Appended, EventLog, IdReused, LogError, LogUnavailable, WrongVersion
from events.memory import MemoryLog
from events.postgres import open_log
from tests.appending import new, now
from tests.databases import fresh_database

T = TypeVar("T")
Opener = Callable[[], AbstractAsyncContextManager[EventLog]]
ROUNDS = int(os.environ.get("TRUEUP_TEST_ROUNDS", "1"))
"""How much deeper than usual it is looked."""
STREAMS = ("repo/default/a", "app/default/b", "target/default/b@c")
TYPES = ("SourceFailed", "SourceRecovered", "ClusterLost")
streams = st.sampled_from(STREAMS)
facts: st.SearchStrategy[Fact] = st.one_of(
    st.builds(SourceFailed, st.just("code"), st.text(st.characters(codec="utf-8"), max_size=20)),
    st.builds(SourceRecovered),
)
# Relative to the version that the stream is at by then; None asks for no check.
expectations = st.sampled_from([None, None, 0, 0, -1, 1])
drafts = st.lists(st.tuples(streams, facts, expectations), min_size=1, max_size=4)


class LogMachine(RuleBasedStateMachine):
    """The model is a list of the events that must be there, each with its version."""

    opener: Opener

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model: list[tuple[NewEvent, int]] = []
        self.appends: list[tuple[list[NewEvent], Appended]] = []
        self.bodies: dict[str, bytes] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize()
    def open(self) -> None:
        self.closing: asyncio.Event
        self.task: asyncio.Task[None]
        self.log = self.run(self._open())

    async def _open(self) -> EventLog:
        """Enter and leave the log in one task, as its task group wants it."""
        opened: asyncio.Future[EventLog] = asyncio.get_running_loop().create_future()
        self.closing = asyncio.Event()

        async def hold() -> None:
            async with self.opener() as log:
                opened.set_result(log)
                await self.closing.wait()

        self.task = asyncio.create_task(hold())
        await asyncio.wait([self.task, opened], return_when=asyncio.FIRST_COMPLETED)
        return opened.result()

    def teardown(self) -> None:
        async def close() -> None:
            self.closing.set()
            await self.task

        if hasattr(self, "closing"):
            self.run(close())
        self.runner.close()

    def count(self, stream: str) -> int:
        return sum(event.stream == stream for event, _ in self.model)

    @rule(drafts=drafts, bodies=st.lists(st.binary(max_size=20), max_size=3))
    def append(self, drafts: list[tuple[str, Fact, int | None]], bodies: list[bytes]) -> None:
        events, versions = [], []
        right = True
        for stream, fact, off in drafts:
            version = self.count(stream) + sum(event.stream == stream for event in events)
            expected = None if off is None else Version(max(version + off, 0))
            right = right and expected in (None, version)
            events.append(new(stream, fact, expected=expected))
            versions.append(version + 1)
        blobs: list[Blob] = [blob(body) for body in bodies]
        try:
            appended = self.run(self.log.append(events, blobs))
        except WrongVersion:
            assert not right
            return
        assert right
        first = len(self.model) + 1
        assert appended.positions == tuple(range(first, first + len(events)))
        assert appended.versions == tuple(versions)
        self.model += zip(events, versions, strict=True)
        self.appends.append((events, appended))
        self.bodies.update((item.digest, item.body) for item in blobs)

    @precondition(lambda self: self.appends)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        events, first = data.draw(st.sampled_from(self.appends))
        assert self.run(self.log.append(events)) == first

    @precondition(lambda self: self.appends)
    @rule(data=st.data(), among_others=st.booleans())
    def reuse_an_id(self, data: st.DataObject, among_others: bool) -> None:
        events, _ = data.draw(st.sampled_from(self.appends))
        other = msgspec.structs.replace(events[0], actor="user:other")
        try:
            self.run(self.log.append([new(STREAMS[0]), other] if among_others else [other]))
        except IdReused:
            return
        raise AssertionError("an id was used for two events")

    @rule(
        after=st.integers(0, 40),
        limit=st.integers(1, 12),
        stream=st.none() | streams,
        types=st.none() | st.sets(st.sampled_from(TYPES)),
    )
    def read(
        self, after: int, limit: int, stream: StreamName | None, types: set[str] | None
    ) -> None:
        found = self.run(self.log.read(Position(after), limit, stream=stream, types=types))
        wanted = [
            (position, event, version)
            for position, (event, version) in enumerate(self.model, start=1)
            if position > after
            and stream in (None, event.stream)
            and (types is None or type(event.fact).__name__ in types)
        ]
        assert [said(event) for event in found] == [expected(*item) for item in wanted[:limit]]

    @rule(positions=st.sets(st.integers(-1, 40), max_size=6))
    def read_at(self, positions: set[int]) -> None:
        found = self.run(self.log.read_at([Position(place) for place in positions]))
        there = sorted(place for place in positions if 1 <= place <= len(self.model))
        assert [event.position for event in found] == there

    @rule()
    def times(self) -> None:
        events = self.run(self.log.read(Position(0), 1000))
        recorded = [event.recorded_at for event in events]
        assert recorded == sorted(recorded)
        for moment in recorded[:2] + recorded[-2:]:
            wanted = sum(time <= moment for time in recorded)
            assert self.run(self.log.position_at(moment)) == wanted

    @invariant()
    def ends_are_known(self) -> None:
        if hasattr(self, "log"):
            assert self.run(self.log.head()) == len(self.model)
            for stream in STREAMS:
                assert self.run(self.log.version(StreamName(stream))) == self.count(stream)

    @invariant()
    def bodies_are_there(self) -> None:
        if hasattr(self, "log"):
            assert self.run(self.log.blobs(list(self.bodies))) == self.bodies


class Troubled:
    """Two writers on one database by turns, whose connections are cut while they append.

    An append whose end is not known is sent again, as its callers do.
    """

    def __init__(self, logs: Sequence[EventLog], admin: Any) -> None:
        self._logs, self._admin = logs, admin
        self._turn = 0
        self.cut_after: int | None = None
        self.cuts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logs[self._turn % len(self._logs)], name)

    async def append(self, events: Sequence[NewEvent], blobs: Collection[Blob] = ()) -> Appended:
        self._turn += 1
        log = self._logs[self._turn % len(self._logs)]
        async with asyncio.TaskGroup() as group:
            if self.cut_after is not None:
                group.create_task(self._cut(self.cut_after))
                self.cut_after = None
            task = group.create_task(self._until_known(log, events, blobs))
        outcome = task.result()
        if isinstance(outcome, LogError):
            raise outcome
        return outcome

    async def _until_known(
        self, log: EventLog, events: Sequence[NewEvent], blobs: Collection[Blob]
    ) -> Appended | LogError:
        while True:
            try:
                return await log.append(events, blobs)
            except LogUnavailable:
                await asyncio.sleep(HEARING)
            except LogError as error:
                return error

    async def _cut(self, after: int) -> None:
        for _ in range(after):
            await asyncio.sleep(0)
        self.cuts += await self._admin.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'trueup log'"
        )


class TroubledMachine(LogMachine):
    """And a reader that goes on where it was: it misses nothing and reads nothing twice."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    @rule(after=st.integers(0, 60))
    def cut_the_next_append(self, after: int) -> None:
        self.troubled.cut_after = after

    @rule(limit=st.integers(1, 12))
    def read_on(self, limit: int) -> None:
        found = self.run(self.log.read(Position(self.seen), limit))
        wanted = self.model[self.seen : self.seen + limit]
        assert [said(event) for event in found] == [
            expected(position, *item) for position, item in enumerate(wanted, self.seen + 1)
        ]
        self.seen += len(found)

    @property
    def troubled(self) -> Troubled:
        assert isinstance(self.log, Troubled)
        return self.log


def expected(position: int, event: NewEvent, version: int) -> tuple[object, ...]:
    payload = msgspec.json.encode(event.fact)
    return position, event.event_id, event.stream, version, type(event.fact).__name__, payload


def said(event: Event) -> tuple[object, ...]:
    return (
        event.position, event.event_id, event.stream, event.version, event.type, event.payload
    )  # fmt: skip


def check(opener: Opener, examples: int, base: type[LogMachine] = LogMachine) -> None:
    machine = type("Machine", (base,), {"opener": staticmethod(opener)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples * ROUNDS,
            stateful_step_count=25,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_log_in_memory_is_as_the_model() -> None:
    @asynccontextmanager
    async def opener() -> AsyncIterator[EventLog]:
        yield MemoryLog(now)

    check(opener, 60)


@pytest.mark.parametrize("large", [writing.LARGE, 2], ids=["by statement", "by copy too"])
def test_the_log_in_postgres_is_as_the_model(
    postgres: EmbeddedPostgres, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "LARGE", large)

    @asynccontextmanager
    async def opener() -> AsyncIterator[EventLog]:
        async with fresh_database(postgres) as dsn, open_log(dsn) as log:
            yield log

    check(opener, 15)


def test_two_writers_whose_connections_are_cut_make_one_log_as_the_model(
    postgres: EmbeddedPostgres,
) -> None:
    cuts = 0

    @asynccontextmanager
    async def opener() -> AsyncIterator[EventLog]:
        nonlocal cuts
        async with fresh_database(postgres) as dsn, open_log(dsn) as one, open_log(dsn) as other:
            admin = await asyncpg.connect(dsn)
            troubled = Troubled([one, other], admin)
            yield cast("EventLog", troubled)
            cuts += troubled.cuts
            await admin.close()

    check(opener, 15, TroubledMachine)
    assert cuts > 0
