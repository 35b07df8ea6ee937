"""A process that keeps the toy views, to be killed: `python -m tests.runner_process DSN EPOCH`."""

from __future__ import annotations

import sys

import anyio

from projections import keeper
from tests.keeping import kept
from tests.toy_views import toy_group


async def main(dsn: str, epoch: int) -> None:
    keeper.BUFFER = 100_000  # so that it can be killed between two stores of the past
    async with kept(dsn, toy_group(), epoch):
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]))
