"""`--watch`: a list again whenever there is news, and of it what has changed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import anyio
from msgspec import Struct

from engine.cli.client import Client, Query

Item = dict[str, Any]
PAUSE = 1.0
"""Seconds between two readings: each reads the list whole, so a busy log must not set the pace."""
_BEHIND = 0.1


class Listing(Struct, frozen=True):
    """A list as of one position at least: items by key, in the list's order."""

    items: dict[str, Item]
    position: int


class Change(Struct, frozen=True):
    """What has changed since the last reading: items that are new or differ, keys that are gone."""

    items: list[Item]
    gone: list[str]


async def watch(
    client: Client, path: str, query: Query, key: str, show: Callable[[Change], None]
) -> None:
    """Show the list, then what changes in it, until cancelled; `key` is the field that tells items.

    One reading serves all news that came meanwhile. Views follow the log: a reading that is not
    as far as the news it answers is made again.
    """
    last = await _read(client, path, query, key)
    show(Change(list(last.items.values()), []))
    news = _News(last.position)
    async with anyio.create_task_group() as group:
        group.start_soon(_follow, client, news)
        while True:
            wanted = await news.beyond(last.position)
            now = await _read(client, path, query, key)
            while now.position < wanted:
                await anyio.sleep(_BEHIND)
                now = await _read(client, path, query, key)
            change = changed(last.items, now.items)
            last = now
            if change.items or change.gone:
                show(change)
            await anyio.sleep(PAUSE)


def changed(before: dict[str, Item], after: dict[str, Item]) -> Change:
    """Compare two readings of a list."""
    return Change(
        [item for key, item in after.items() if _said(before.get(key, {})) != _said(item)],
        [key for key in before if key not in after],
    )


def _said(item: Item) -> Item:
    """What an item says, but for the position at which it was read."""
    return {name: value for name, value in item.items() if name != "seen"}


class _News:
    """How far the log is known to be, for one who waits for more."""

    def __init__(self, position: int) -> None:
        self.position = position
        self._more = anyio.Event()

    def come(self, position: int) -> None:
        self.position = max(self.position, position)
        self._more.set()
        self._more = anyio.Event()

    async def beyond(self, position: int) -> int:
        while self.position <= position:
            await self._more.wait()
        return self.position


async def _follow(client: Client, news: _News) -> None:
    async with aclosing(client.follow("/v1/events", {}, news.position)) as coming:
        async for event in coming:
            news.come(event["position"])


async def _read(client: Client, path: str, query: Query, key: str) -> Listing:
    items: dict[str, Item] = {}
    cursor: str | None = None
    position: int | None = None
    while True:
        page = await client.get(path, {**query, "after": cursor, "limit": 500})
        items |= {item[key]: item for item in page["items"]}
        # Pages are read at positions that only rise: all of them are as of the first at least.
        position = page["position"] if position is None else position
        cursor = page["next"]
        if cursor is None:
            return Listing(items, position)
