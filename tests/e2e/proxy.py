"""A TCP proxy before an API server: the network in between, to be broken at will."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit, urlunsplit

import yaml

from tests.e2e.users import write_private


class Proxy:
    """Passes bytes on to `server` (an https URL on 127.0.0.1) from a port of its own.

    `state` is what happens to connections: `open` passes them on, `refused` ends each as it
    comes. Those that are there stay as they are until they are `cut`.
    """

    def __init__(self, server: str) -> None:
        self._target = urlsplit(server)
        self._server: asyncio.Server
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.state: Literal["open", "refused"] = "open"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def kubeconfig(self, source: Path, to: Path) -> Path:
        """Write a copy of a kubeconfig that leads through here; return its path."""
        port = self._server.sockets[0].getsockname()[1]
        config = yaml.safe_load(source.read_text())
        url = urlunsplit(self._target._replace(netloc=f"127.0.0.1:{port}"))
        config["clusters"][0]["cluster"]["server"] = url
        return write_private(to, yaml.safe_dump(config))

    def cut(self) -> None:
        """Break every connection."""
        for writer in self._open:
            writer.transport.abort()

    def refuse(self) -> None:
        """Break every connection, and each new one, until `state` is set to open again."""
        self.state = "refused"
        self.cut()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.state == "refused":
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target.port)
            self._open.add(there[1])
            try:
                # What one side is told of the other's end is enough for HTTP.
                await asyncio.gather(_pass(reader, there[1]), _pass(there[0], writer))
            finally:
                self._open.discard(there[1])
                there[1].transport.abort()
        except OSError:
            # The API server is down, or either side has gone: so is the connection.
            pass
        finally:
            self._open.discard(writer)
            self._tasks.discard(task)
            writer.transport.abort()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
