"""Sockets are read in portions: what asyncio makes for each read is no larger than that."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc

import pytest

from engine.process.sockets import PORTION, read_in_portions

pytestmark = pytest.mark.anyio


class Sizes(asyncio.Protocol):
    """Notes how large a buffer there was while it was handed what was read."""

    def __init__(self) -> None:
        self.most = 0
        self.read = b""
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.most = max(self.most, tracemalloc.get_traced_memory()[1])
        self.read += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()


async def test_no_read_takes_more_than_a_portion() -> None:
    read_in_portions()
    ours, theirs = socket.socketpair()
    sizes = Sizes()
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: sizes, sock=ours)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        theirs.sendall(b"x" * 1000)
        theirs.close()
        await sizes.ended.wait()
    finally:
        tracemalloc.stop()
        transport.close()
    assert sizes.read == b"x" * 1000
    assert sizes.most - before < 1.5 * PORTION
