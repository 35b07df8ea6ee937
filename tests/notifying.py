"""A receiver of alerts that answers as it is told, and a check of what it gets."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
from aiohttp import web
from msgspec import Struct

KEY = b"a key that no receiver shares with another"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


class Got(Struct, frozen=True):
    """One request as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return str(self.headers["webhook-id"])

    @property
    def kind(self) -> str:
        return str(self.value["data"]["kind"])

    @property
    def position(self) -> int:
        return int(self.value["data"]["position"])

    def check_signature(self, key: bytes = KEY) -> None:
        """Verify as the specification of Standard Webhooks has receivers do."""
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        wanted = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        given = [word.partition(",")[2] for word in self.headers["webhook-signature"].split()]
        assert wanted in given


Answer = Callable[[web.Request], Any]


class Receiver:
    """Keeps what it gets; `answers` are given in turn, then 204."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.answers: deque[web.StreamResponse | Answer] = deque()
        self.url = ""
        self._more = anyio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.got.append(Got(request.path, request.headers, await request.read()))
        self._more.set()
        self._more = anyio.Event()
        answer = self.answers.popleft() if self.answers else web.Response(status=204)
        return await answer(request) if callable(answer) else answer

    def answer(self, *statuses: int, headers: Mapping[str, str] | None = None) -> None:
        """Answer the next requests with these."""
        self.answers.extend(web.Response(status=each, headers=headers) for each in statuses)

    async def until(self, number: int) -> list[Got]:
        """Wait until so many requests came."""
        with anyio.fail_after(30):
            while len(self.got) < number:
                await self._more.wait()
        return self.got


@asynccontextmanager
async def receiving(port: int = 0, receiver: Receiver | None = None) -> AsyncIterator[Receiver]:
    """Receive on loopback until the block ends; `receiver` goes on where it was."""
    receiver = receiver or Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()
