"""A proxy before Postgres that speaks enough of its protocol to break things in the middle."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

State = Literal["open", "swallow", "cut"]
_NOTIFICATION = b"A"


class DatabaseProxy:
    """Passes what comes to a port of loopback on to the socket of a server, or does not.

    `state`: `open` passes bytes on, `swallow` loses them on the way, `cut` ends connections.
    `refusal`: a SQLSTATE and a message with which new connections are answered, as by a server.
    `drops_notifications`: what NOTIFY sends is lost.
    """

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self.state: State = "open"
        self.refusal: tuple[str, str] | None = None
        self.drops_notifications = False
        self.dropped = self.refused = 0
        self.port = 0
        self._open: set[asyncio.StreamWriter] = set()

    def dsn(self, dsn: str) -> str:
        """Return the address of the same database through here."""
        database = dsn.partition("@/")[2].partition("?")[0]
        return f"postgresql://trueup@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def cut(self) -> None:
        """End every connection."""
        for writer in self._open:
            writer.transport.abort()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            await self._handle(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # one side has gone, and so does the other
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.state == "cut":
            self.refused += 1
            return
        if self.refusal is not None:
            (size,) = struct.unpack("!i", await reader.readexactly(4))
            await reader.readexactly(size - 4)
            writer.write(_error(*self.refusal))
            await writer.drain()
            self.refused += 1
            return
        there = await asyncio.open_unix_connection(self.socket)
        self._open.add(there[1])
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._up(reader, there[1]))
                group.create_task(self._down(there[0], writer))
        except* (OSError, asyncio.IncompleteReadError):
            pass  # how every connection ends: one side has gone, or was cut off
        finally:
            self._open.discard(there[1])
            there[1].transport.abort()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self.state == "swallow":
                self.dropped += 1
                continue
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readexactly(5):
            kind, size = struct.unpack("!ci", head)
            body = await reader.readexactly(size - 4)
            if kind == _NOTIFICATION and self.drops_notifications:
                self.dropped += 1
                continue
            if self.state != "swallow":
                writer.write(head + body)
                await writer.drain()


def _error(code: str, message: str) -> bytes:
    fields = {"S": "FATAL", "V": "FATAL", "C": code, "M": message}
    body = b"".join(f"{key}{value}\0".encode() for key, value in fields.items()) + b"\0"
    return b"E" + struct.pack("!i", len(body) + 4) + body


@asynccontextmanager
async def proxied(socket: str) -> AsyncIterator[DatabaseProxy]:
    """Serve a proxy before the server that listens on a unix socket, until the block ends."""
    proxy = DatabaseProxy(socket)
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.state = "cut"
        proxy.cut()
