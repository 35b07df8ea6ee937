"""Views in shards: folded apart, read together, taken over, laid out anew; held to the plain fold.

`--seed S` says what is done in which order; a failure names its seed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import count

import anyio
import pytest
from anyio.abc import Process

from events.catalog import CommitSeen
from events.codec import fact_of
from events.event import Event, Position
from events.log import EventLog
from events.postgres import PostgresLog, open_log
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.asof import as_of
from projections.batch import Group
from projections.build import lay_out, prepare
from projections.errors import FencedOut, ViewsNotReady
from projections.follower import Follower
from projections.fsck import ViewCheck
from projections.joined import JoinedReader
from projections.keeper import Keeper
from projections.lease import holders
from projections.postgres import PostgresViews
from projections.projection import Reader
from projections.projector import Projector
from projections.rebuild import rebuild
from projections.shards import shard_of
from projections.store import Pool, Session, Store
from tests.keeping import append, documents_of, everything, naive_documents, naive_subjects, pool_of
from tests.toy_views import ABOUT, CLOCK, STREAMS, TALLIES, Tallies, moved, named, toy_group

pytestmark = pytest.mark.anyio
EPOCHS = count(100)


@pytest.fixture
async def log(dsn: str) -> AsyncIterator[PostgresLog]:
    async with open_log(dsn) as log:
        yield log


def joined_views(pool: Pool, log: EventLog) -> PostgresViews:
    return PostgresViews(pool, toy_group(), log=log, timeline=ABOUT)


class Fleet:
    """Keepers of all shards, moved one at a time, as a test decides."""

    def __init__(self, pool: Pool, log: PostgresLog, shards: int) -> None:
        self.pool, self.log, self.shards = pool, log, shards
        self.keepers: dict[int, Keeper] = {}

    async def take(self, session: Session, shard: int) -> None:
        """Take a shard over: whoever had it is a zombie from now on."""
        group, epoch = toy_group(), next(EPOCHS)
        slots = await prepare(self.log, session, group, CLOCK, epoch=epoch, shards=self.shards)
        self.keepers[shard] = await Keeper.open(session, group, slots, CLOCK)

    async def move(self, shard: int, events: int) -> None:
        """Fold up to so many of the events that follow in one shard."""
        keeper = self.keepers[shard]
        some = await self.log.read(keeper.position, events)
        if some:
            await keeper.advance(some)


@asynccontextmanager
async def fleet_of(pool: Pool, log: PostgresLog, shards: int) -> AsyncIterator[Fleet]:
    fleet = Fleet(pool, log, shards)
    async with Store(pool).session() as session:
        await lay_out(session, toy_group(), shards, next(EPOCHS))
    sessions = [Store(pool).session(shard) for shard in range(shards)]
    async with anyio.create_task_group() as tasks:
        for shard, opening in enumerate(sessions):
            tasks.start_soon(fleet.take, await opening.__aenter__(), shard)
    try:
        yield fleet
    finally:
        for opening in sessions:
            await opening.__aexit__(None, None, None)


async def assert_is_the_fold(reader: Reader, events: list[Event], chance: random.Random) -> None:
    """Assert that everything that can be asked of a reader is what a plain fold answers."""
    assert [event.position for event in events] == list(range(1, reader.position + 1))
    for view in (TALLIES, STREAMS):
        documents, _ = naive_documents(view, events)
        assert await documents_of(reader, view) == documents
        assert await reader.count(view) == len(documents)
        some = [*chance.sample(sorted(documents), min(5, len(documents))), "nothing"]
        many = await reader.get_many(view, some)
        each = await reader.get_each([(view, key) for key in some])
        plain = {key: documents[key] for key in some if key in documents}
        assert {key: (at.position, at.document) for key, at in many.items()} == plain
        assert {key: (at.position, at.document) for (_, key), at in each.items()} == plain
        for name, column in zip(view.indexes, range(len(view.indexes)), strict=True):
            values = Counter(view.index(document)[column] for _, document in documents.values())
            values.pop(None, None)
            for value, number in chance.sample(sorted(values.items()), min(3, len(values))):
                assert await reader.count(view, where={name: value}) == number
                page = await reader.page(view, where={name: value}, limit=3)
                keys = sorted(
                    key for key, (_, it) in documents.items() if view.index(it)[column] == value
                )
                assert [found.key for found in page] == keys[:3]
    for subject, positions in naive_subjects(ABOUT, events).items():
        assert await reader.subjects(ABOUT, subject, limit=100_000) == positions


async def test_shards_that_move_apart_are_read_as_one_fold(
    dsn: str, log: PostgresLog, pytestconfig: pytest.Config
) -> None:
    seed = pytestconfig.getoption("seed")
    print(f"--seed {seed}")
    chance = random.Random(seed)
    apart = zombies = 0
    async with pool_of(dsn, 16) as pool, fleet_of(pool, log, 3) as fleet:
        views = joined_views(pool, log)
        for _ in range(120):
            await _append_some(log, chance)
            for _ in range(chance.randrange(4)):
                await fleet.move(chance.randrange(3), chance.randrange(1, 30))
            if chance.random() < 0.1:
                shard = chance.randrange(3)
                zombie = fleet.keepers[shard]
                await fleet.take(zombie._session, shard)
                if more := await log.read(zombie.position, 5):
                    with pytest.raises(FencedOut):
                        await zombie.advance(more)
                    zombies += 1
            lowest = min(keeper.position for keeper in fleet.keepers.values())
            events = await everything(log, lowest)
            async with views.snapshot() as reader:
                assert reader.position == lowest
                apart += isinstance(reader, JoinedReader)
                await assert_is_the_fold(reader, events, chance)
            if events and chance.random() < 0.2:
                then = Position(chance.randrange(1, lowest + 1))
                async with as_of(views, log, then, timeline=ABOUT) as past:
                    await assert_is_the_fold(past, events[:then], chance)
        assert apart > 40
        assert zombies > 3


async def _append_some(log: EventLog, chance: random.Random) -> None:
    batch = []
    for _ in range(chance.randrange(1, 12)):
        keys = [f"k{chance.randrange(40)}" for _ in range(chance.randrange(4))]
        what = chance.choice(["add"] * 20 + ["remove"] * 4 + ["boom"])
        on = f"s{chance.randrange(12)}"
        batch.append(
            moved(f"m{chance.randrange(5)}", on)
            if chance.random() < 0.1
            else named(keys, what, f"c{chance.randrange(6)}", on)
        )
    await append(log, batch)


# Processes.


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 60.0) -> None:
    with anyio.fail_after(seconds):
        while True:
            if await condition():
                return
            await anyio.sleep(0.02)


class Programs:
    """Processes of one kind, each killed and started again as the test says."""

    def __init__(self, command: list[str], env: Mapping[str, str] | None = None) -> None:
        self._command, self._env = command, env
        self.running: list[Process] = []
        self.said = b""

    async def start(self, *words: str) -> None:
        command = [sys.executable, "-m", *self._command, *words]
        out = subprocess.PIPE if self._env is None else subprocess.DEVNULL
        env = None if self._env is None else {**os.environ, **self._env}
        self.running.append(await anyio.open_process(command, stdout=out, stderr=None, env=env))

    async def kill(self, place: int) -> None:
        process = self.running.pop(place)
        process.send_signal(signal.SIGKILL)
        if process.stdout is not None:
            async for chunk in process.stdout:
                self.said += chunk
        await process.wait()

    async def kill_all(self) -> None:
        with anyio.CancelScope(shield=True):
            while self.running:
                await self.kill(0)


async def test_nothing_is_missed_and_nothing_twice_while_writers_and_folders_are_killed(
    dsn: str, log: PostgresLog, pytestconfig: pytest.Config
) -> None:
    seed = pytestconfig.getoption("seed")
    print(f"--seed {seed}")
    chance = random.Random(seed)
    group = Group(DOCUMENT_VIEWS, SUBJECT_VIEWS)
    writers = Programs(["tests.appender_process", dsn])
    folders = Programs(["engine.cli", "project"], {"TRUEUP_DATABASE_URL": dsn})
    heard: list[int] = []
    async with pool_of(dsn, 8) as pool:
        store = Store(pool)
        async with store.session() as session:
            await lay_out(session, group, 4, 1)
        follower = Follower(log, store, group, CLOCK)

        async def hear() -> None:
            async with follower.subscribe(10**9) as batches:
                async for batch in batches:
                    assert not batch.missed
                    heard.extend(event.position for event in batch.events)

        async def owners() -> dict[str, str]:
            held = await holders(pool, "views/")
            return {name: it.owner for name, it in held.items() if it.seconds_left > 0}

        async def are_all_kept() -> bool:
            alive = {f":{process.pid}" for process in folders.running}
            found = await owners()
            return len(found) == 4 and all(
                any(f"{pid}@" in owner for pid in alive) for owner in found.values()
            )

        try:
            for _ in range(2):
                await folders.start()
            async with anyio.create_task_group() as tasks:
                await tasks.start(follower.run)
                tasks.start_soon(hear)
                for number in range(4):
                    await writers.start(f"w{number}")
                for turn in range(6):
                    goal = len(heard) + chance.randrange(50, 400)

                    async def has_heard(goal: int = goal) -> bool:
                        return len(heard) >= goal

                    await until(has_heard)
                    place = chance.randrange(4)
                    await writers.kill(place)
                    await writers.start(f"again{turn}")
                    if turn % 2:
                        await folders.kill(chance.randrange(2))
                        await until(are_all_kept)
                        await folders.start()
                await writers.kill_all()
                last = await log.head()

                async def has_heard_all() -> bool:
                    return len(heard) >= last

                await until(has_heard_all)
                tasks.cancel_scope.cancel()
        finally:
            await writers.kill_all()
            await folders.kill_all()
        assert heard == list(range(1, last + 1))
        events = await everything(log, last)
        appended = Counter(
            fact.commit for event in events if isinstance(fact := fact_of(event), CommitSeen)
        )
        assert set(appended.values()) == {1}
        for line in writers.said.decode().splitlines():
            prefix, count, position = line.split()
            assert events[int(position) - 1].type == "CommitSeen"
            assert appended[f"{prefix}-{count}-2"] == 1
        async with store.session() as session, session.snapshot():
            check = ViewCheck(session, log, group)
            assert [finding async for finding in check.findings()] == []
            assert check.documents > 10


async def test_shares_move_when_one_comes_and_when_one_goes(dsn: str, log: PostgresLog) -> None:
    group, gone = toy_group(), set[str]()
    async with pool_of(dsn, 30) as pool, anyio.create_task_group() as tasks:
        scopes: dict[str, anyio.CancelScope] = {}
        made: dict[str, Projector] = {}

        async def take_part(name: str) -> None:
            made[name] = Projector(log, pool, group, CLOCK, name, is_gone=gone.__contains__)
            with anyio.CancelScope() as scopes[name]:
                await made[name].run()

        def kept() -> list[list[int]]:
            return [sorted(each.kept) for name, each in sorted(made.items()) if name not in gone]

        async def share(*expected: list[int]) -> None:
            async def is_so() -> bool:
                return kept() == list(expected)

            await until(is_so, 30)

        tasks.start_soon(take_part, "a")
        async with Store(pool).session() as session:
            await lay_out(session, group, 4, 1)
        await share([0, 1, 2, 3])
        tasks.start_soon(take_part, "b")
        await share([0, 2], [1, 3])
        scopes["a"].cancel()
        gone.add("a")
        await share([0, 1, 2, 3])
        async with Store(pool).session() as session:
            assert await lay_out(session, group, 2, 50)
        await share([0, 1])
        views = joined_views(pool, log)
        await views.reached(await append(log, [named(["a"]), named(["b"])]))
        async with Store(pool).session() as session:
            assert not await lay_out(session, group, 2, 51)
        tasks.cancel_scope.cancel()


async def test_another_number_of_shards_is_another_generation(
    dsn: str, log: PostgresLog, pytestconfig: pytest.Config
) -> None:
    chance = random.Random(pytestconfig.getoption("seed"))
    async with pool_of(dsn, 16) as pool:
        views, group = joined_views(pool, log), toy_group()
        for shards in (1, 3, 2, 1, 4):
            for _ in range(10):
                await _append_some(log, chance)
            async with fleet_of(pool, log, shards) as fleet:
                for shard in range(shards):
                    await fleet.move(shard, 40 + 5 * shard)
                lowest = min(keeper.position for keeper in fleet.keepers.values())
                async with views.snapshot() as reader:
                    assert reader.position == lowest
                    await assert_is_the_fold(reader, await everything(log, lowest), chance)
                for view in group.views.values():
                    rebuilt = await rebuild(log, Store(pool), view, clock=CLOCK)
                    assert rebuilt.equal
                for shard in range(shards):
                    await fleet.move(shard, 1000)
                async with Store(pool).session() as session, session.snapshot():
                    checked = ViewCheck(session, log, group)
                    found = [each async for each in checked.findings()]
                    assert all("is parked" in each.what for each in found)


async def test_another_release_takes_up_nothing_that_is_put_aside(
    dsn: str, log: PostgresLog
) -> None:
    class Newer(Tallies):
        version = 2

    newer = Group([Newer(), STREAMS], [ABOUT])
    async with pool_of(dsn, 16) as pool, fleet_of(pool, log, 2) as fleet:
        async with Store(pool).session() as session:
            assert await lay_out(session, newer, 2, next(EPOCHS))
        await append(log, [named(["a"])])
        with pytest.raises(FencedOut):
            await fleet.move(0, 1)
        async with Store(pool).session(0) as session:
            with pytest.raises(ViewsNotReady, match="not laid out in 2 shards by version 1"):
                await fleet.take(session, 0)
        async with Store(pool).session() as session:
            # The release before leads again, and what the newer one began is gone.
            await lay_out(session, toy_group(), 2, next(EPOCHS))
            slots = [slot for slot in await session.slots(["tallies"]) if slot.version == 2]
            assert not any(slot.wanted for slot in slots)


def test_a_key_never_changes_its_shard() -> None:
    keys = ["app/default/shop", "repo/default/é", "", "target/default/shop@prod"]
    assert [shard_of(key, 4) for key in keys] == [2, 3, 0, 2]
    assert [shard_of(key, 1) for key in keys] == [0] * 4
    spread = Counter(shard_of(f"target/default/app{number}@c", 4) for number in range(4000))
    assert all(900 < number < 1100 for number in spread.values())
