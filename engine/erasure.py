"""Erases again what was redacted, in case an engine was killed between the word and the deed."""

from __future__ import annotations

from events.catalog import BodyRedacted
from events.event import START, Digest
from events.log import EventLog

_PAGE = 1000


async def erase_redacted(log: EventLog) -> None:
    """Erase every body of which the log says that it was redacted: few ever are."""
    after = START
    while page := await log.read(after, _PAGE, types=[BodyRedacted.__name__]):
        await log.erase([Digest(f"sha256:{event.stream.rpartition('/')[2]}") for event in page])
        after = page[-1].position
