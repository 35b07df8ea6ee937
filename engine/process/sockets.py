"""How much asyncio asks of a socket at once."""

from __future__ import annotations

from asyncio import selector_events
from typing import Any

PORTION = 64 * 1024
"""Bytes: nearly all that is read is smaller, and what is larger comes in several."""


def read_in_portions() -> None:
    """Have every socket of this process read in portions of `PORTION` bytes from now on.

    asyncio makes a buffer of 256 KiB for each read, whatever there is to read. That takes six times
    as long, since buffers of this size are mapped and unmapped; and once the C library has learnt
    to take them from its heap, they leave holes there that grow by megabytes an hour.
    """
    # No public setting is there for it. Where a later Python has it otherwise, nothing is lost
    # but this; the test says so.
    transport: Any = getattr(selector_events, "_SelectorTransport", None)
    if hasattr(transport, "max_size"):
        transport.max_size = min(PORTION, transport.max_size)
