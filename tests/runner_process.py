"""A process that keeps the toy views, to be killed: `python -m tests.runner_process DSN EPOCH`."""

from __future__ import annotations

import sys

import anyio

from tests.keeping import kept
from tests.toy_views import toy_group


async def main(dsn: str, epoch: int) -> None:
    async with kept(dsn, toy_group(), epoch):
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]))
