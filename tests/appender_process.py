"""A process that appends until it is killed: `python -m tests.appender_process DSN NAME`.

Prints `PREFIX NUMBER POSITION` for whatever was acknowledged; PREFIX is of this process alone.
"""

from __future__ import annotations

import os
import sys

import anyio

from events.catalog import CommitSeen
from events.postgres import open_log
from tests.appending import new


async def main(dsn: str, name: str) -> None:
    prefix = f"{name}-{os.getpid()}"
    async with open_log(dsn) as log:
        for number in range(1_000_000):
            facts = [CommitSeen(f"{prefix}-{number}-{part}", subject="s") for part in range(3)]
            done = await log.append([new(f"repo/default/{name}", fact) for fact in facts])
            print(prefix, number, done.last, flush=True)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2])
