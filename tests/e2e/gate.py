"""An HTTPS gate before an API server, that stops one request at will: so that the engine can be
killed between any two of its requests, or after one whose answer it never sees."""

from __future__ import annotations

import ssl
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import aiohttp
import anyio
import yaml
from aiohttp import web

from tests.e2e.harness import ControlPlane
from tests.e2e.users import write_private

When = Literal["before", "after"]
WHEN: tuple[When, ...] = ("before", "after")
_LEFT_OUT = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding"})


class Gate:
    """Passes requests on to a control plane; only logins by token get through.

    `stop_at(n, when)` counts the writes from then on: the n-th is held before it is passed on, or
    after it was done and before it is answered, and `stopped` is set. Whoever sent it has to die.
    """

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._left = 0
        self._when: When = "before"
        self.stopped = anyio.Event()

    async def __aenter__(self) -> Self:
        pair = self._plane.authority.server("gate", ("localhost",))
        served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        served.load_cert_chain(pair.certificate, pair.key)
        trusted = ssl.create_default_context(cafile=str(self._plane.authority.pair.certificate))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trusted, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._passed)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=served).start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()
        await self._session.close()

    def kubeconfig(self, user: str, to: Path) -> Path:
        """Write a user's kubeconfig that leads through here; return its path."""
        config = yaml.safe_load(self._plane.kubeconfig(user).read_text())
        port = self._runner.addresses[0][1]
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
        return write_private(to, yaml.safe_dump(config))

    def stop_at(self, number: int, when: When) -> None:
        """Stop at the `number`-th write from now on, counted from 1."""
        self._left, self._when, self.stopped = number, when, anyio.Event()

    @property
    def is_waiting(self) -> bool:
        """Whether the write that was to be stopped has not come yet."""
        return self._left > 0

    def open(self) -> None:
        """Stop nothing any more."""
        self._left = 0

    async def _passed(self, request: web.Request) -> web.StreamResponse:
        is_write = request.method not in ("GET", "HEAD") and "dryRun" not in request.query
        stops = False
        if is_write and self._left:
            self._left -= 1
            stops = self._left == 0
        if stops and self._when == "before":
            await self._stop()
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _LEFT_OUT}
        async with self._session.request(
            request.method,
            self._plane.server + request.raw_path,
            headers=headers,
            data=await request.read() or None,
        ) as answer:
            if stops:
                await answer.read()
                await self._stop()
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _LEFT_OUT}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    async def _stop(self) -> None:
        self.stopped.set()
        await anyio.sleep_forever()
