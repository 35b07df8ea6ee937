"""The keys that people's names are sealed with: outside the events, so that they can be destroyed.

A forgotten actor stays in here without a key, so that none is ever made for it again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

import asyncpg
from anyio.lowlevel import checkpoint

from events.connection import translated
from events.event import Actor
from events.queries import load

SQL = load("events", "actor_keys.sql")


class ActorKeys(Protocol):
    """A key of 32 bytes for each actor, until it is forgotten. All raise `LogError`."""

    async def keep(self, keys: Mapping[Actor, bytes]) -> Mapping[Actor, bytes]:
        """Keep keys for actors that have none and are not forgotten; return those that count.

        They are durable when this returns. Forgotten actors are left out.
        """
        ...

    async def get(self, actors: Collection[Actor]) -> Mapping[Actor, bytes]:
        """Return the keys that there are."""
        ...

    async def forget(self, actors: Collection[Actor]) -> None:
        """Destroy the keys of these actors, for good, whether they have one yet or not."""
        ...


class MemoryActorKeys:
    """Keys that are gone with the process: for tests."""

    def __init__(self) -> None:
        self._keys: dict[Actor, bytes | None] = {}

    async def keep(self, keys: Mapping[Actor, bytes]) -> Mapping[Actor, bytes]:
        """Keep keys for actors that have none; see `ActorKeys.keep`."""
        for actor, key in keys.items():
            self._keys.setdefault(actor, key)
        return await self.get(keys.keys())

    async def get(self, actors: Collection[Actor]) -> Mapping[Actor, bytes]:
        """Return the keys that there are."""
        await checkpoint()
        return {actor: key for actor in actors if (key := self._keys.get(actor)) is not None}

    async def forget(self, actors: Collection[Actor]) -> None:
        """Destroy keys; see `ActorKeys.forget`."""
        await checkpoint()
        self._keys.update(dict.fromkeys(actors))


class PostgresActorKeys:
    """Keys in a table of the log's database."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    async def keep(self, keys: Mapping[Actor, bytes]) -> Mapping[Actor, bytes]:
        """Keep keys for actors that have none; see `ActorKeys.keep`."""
        known = await self.get(keys.keys())
        new = sorted(keys.keys() - known.keys())
        if not new:
            return known
        with translated():
            await self._pool.execute(SQL["keep"], new, [keys[actor] for actor in new])
        # Somebody else may have been first, and what is forgotten has none.
        return await self.get(keys.keys())

    async def get(self, actors: Collection[Actor]) -> Mapping[Actor, bytes]:
        """Return the keys that there are."""
        if not actors:
            return {}
        with translated():
            rows = await self._pool.fetch(SQL["get"], list(actors))
        return {Actor(row["actor"]): row["key"] for row in rows}

    async def forget(self, actors: Collection[Actor]) -> None:
        """Destroy keys; see `ActorKeys.forget`."""
        with translated():
            await self._pool.execute(SQL["forget"], sorted(actors))
