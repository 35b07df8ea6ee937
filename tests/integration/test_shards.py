"""Views in shards: folded apart, read together, taken over, laid out anew; held to the plain fold.

`--seed S` says what is done in which order; a failure names its seed.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import Process

from events.event import Event, Position
from events.log import EventLog
from events.postgres import PostgresLog, open_log
from projections.asof import as_of
from projections.build import lay_out, prepare
from projections.errors import FencedOut, ViewsNotReady
from projections.follower import Follower
from projections.fsck import ViewCheck
from projections.joined import JoinedReader
from projections.keeper import Keeper
from projections.lease import holders
from projections.postgres import PostgresViews
from projections.projection import Reader
from projections.rebuild import rebuild
from projections.shards import shard_of
from projections.store import Pool, Session, Store
from tests.keeping import append, documents_of, everything, naive_documents, naive_subjects, pool_of
from tests.toy_views import ABOUT, CLOCK, STREAMS, TALLIES, moved, named, toy_group

pytestmark = pytest.mark.anyio
WHO = ("count", "size")


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
        self.epoch = 100

    async def take(self, session: Session, shard: int) -> None:
        """Take a shard over: whoever had it is a zombie from now on."""
        self.epoch += 1
        group = toy_group()
        slots = await prepare(self.log, session, group, CLOCK, epoch=self.epoch, shards=self.shards)
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
        await lay_out(session, toy_group(), shards, 1)
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
