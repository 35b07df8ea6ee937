"""What keys of people's names promise, wherever they are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from events.actor_keys import ActorKeys, MemoryActorKeys, PostgresActorKeys
from events.connection import make_pool
from events.event import Actor
from tests.databases import fresh_database

pytestmark = pytest.mark.anyio
ADA, BOB, EVE = Actor("git:a"), Actor("git:b"), Actor("git:e")
ONE, TWO = b"1" * 32, b"2" * 32


@pytest.fixture(params=["memory", "postgres"])
async def keys(request: pytest.FixtureRequest) -> AsyncIterator[ActorKeys]:
    if request.param == "memory":
        yield MemoryActorKeys()
        return
    async with fresh_database(request.getfixturevalue("postgres")) as dsn:
        pool = await make_pool(dsn, 2)
        yield PostgresActorKeys(pool)
        pool.terminate()


async def test_the_first_key_of_an_actor_stays(keys: ActorKeys) -> None:
    assert await keys.keep({ADA: ONE, BOB: ONE}) == {ADA: ONE, BOB: ONE}
    assert await keys.keep({ADA: TWO, EVE: TWO}) == {ADA: ONE, EVE: TWO}
    assert await keys.get([ADA, BOB, Actor("git:x")]) == {ADA: ONE, BOB: ONE}
    assert await keys.get([]) == {}
    assert await keys.keep({}) == {}


async def test_a_forgotten_actor_has_no_key_and_never_gets_one(keys: ActorKeys) -> None:
    await keys.keep({ADA: ONE, BOB: ONE})
    for _ in range(2):
        await keys.forget([ADA, EVE])
        assert await keys.get([ADA, BOB, EVE]) == {BOB: ONE}
        assert await keys.keep({ADA: TWO, BOB: TWO, EVE: TWO}) == {BOB: ONE}
