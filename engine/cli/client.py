"""A client of the HTTP API: requests, streams, and what goes wrong in words."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from engine.cli.connection import Connection, Place, find
from engine.cli.errors import CliError
from engine.cli.remember import last_write, remember

if TYPE_CHECKING:
    import aiohttp

QUIET = 60.0
"""Seconds after which a stream without even a heartbeat counts as broken."""
TRIES = 3
LOG_ID = "Trueup-Log-Id"
"""The header with which a server says which log it keeps."""
Query = Mapping[str, str | int | None]


class Client:
    """One caller of one server. Made by `connect`."""

    def __init__(self, place: Place, session: aiohttp.ClientSession) -> None:
        self.place, self._session = place, session
        self._log_id = ""

    @property
    def project(self) -> str:
        """The project that is meant."""
        return self.place.project

    async def get(self, path: str, query: Query | None = None) -> Any:
        """Read something."""
        return await self._call("GET", path, query=query)

    async def write(
        self, method: str, path: str, body: Any = None, query: Query | None = None
    ) -> Any:
        """Write something, once, and remember its position.

        The key lets the server tell a repeated request from a second one, so that a connection
        that breaks before the answer is no reason to doubt.
        """
        from engine.process.clock import SystemClock

        headers = {"Idempotency-Key": SystemClock().event_id()}
        answer = await self._call(method, path, query=query, body=body, headers=headers)
        position = answer.get("position") if isinstance(answer, dict) else None
        if isinstance(position, int):
            self._remember(position)
        return answer

    async def read(self, path: str) -> bytes:
        """Read something that is not JSON."""
        for left in reversed(range(TRIES)):
            try:
                async with self._open("GET", path) as answer:
                    return await answer.read()
            except CliError as error:
                if error.status or error.code == "unreachable" or not left:
                    raise
        raise CliError(f"{self.place.url} does not answer")

    async def pages(self, path: str, query: Query | None = None) -> list[Any]:
        """Read all items of a collection."""
        items: list[Any] = []
        cursor: str | int | None = None
        while True:
            page = await self.get(path, {**(query or {}), "after": cursor, "limit": 500})
            items += page["items"]
            cursor = page["next"]
            if cursor is None:
                return items

    async def last_write(self) -> int:
        """Return the position of the caller's last write to this server's log."""
        await self.get("/v1/version")
        return last_write(self.place.state_dir, self.place.url, self._log_id)

    async def lines(self, method: str, path: str) -> AsyncGenerator[Any, None]:
        """Yield the JSON lines of an answer as they come."""
        async with self._open(method, path, timeout=None) as answer:
            async for line in answer.content:
                if line.strip():
                    yield msgspec.json.decode(line)

    async def follow(self, path: str, query: Query, after: int | None) -> AsyncGenerator[Any, None]:
        """Yield events as they come, for ever; after a broken connection from where it broke."""
        import anyio

        while True:
            headers = {"Accept": "text/event-stream"}
            if after is not None:
                headers["Last-Event-ID"] = str(after)
            try:
                async with self._open(
                    "GET", path, query=query, headers=headers, timeout=QUIET
                ) as answer:
                    async for line in answer.content:
                        if line.startswith(b"data: "):
                            event = msgspec.json.decode(line[6:])
                            after = event["position"]
                            yield event
            except CliError as error:
                if error.status or (error.code == "unreachable" and after is None):
                    raise
            await anyio.sleep(1)

    def _remember(self, position: int) -> None:
        try:
            remember(self.place.state_dir, self.place.url, self._log_id, position)
        except OSError as error:
            raise CliError(
                f"written at position {position}, which could not be noted: {error}",
                hint=f"give it to wait yourself: --after {position}",
            ) from error

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        for left in reversed(range(TRIES)):
            try:
                async with self._open(
                    method, path, query=query, body=body, headers=headers
                ) as answer:
                    return msgspec.json.decode(await answer.read())
            except CliError as error:
                # Not answered at all: with its key, the same request may be sent again.
                if error.status or error.code == "unreachable" or not left:
                    raise
        raise CliError(f"{self.place.url} does not answer")

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = 90.0,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        import aiohttp

        parameters = {
            name: str(value) for name, value in (query or {}).items() if value is not None
        }
        try:
            async with self._session.request(
                method,
                self.place.url + path,
                params=parameters,
                json=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=timeout),
            ) as answer:
                if not 200 <= answer.status < 300:
                    raise _problem(answer.status, await answer.read())
                self._log_id = answer.headers.get(LOG_ID, "")
                yield answer
        except aiohttp.ClientConnectorError as error:
            raise CliError(
                f"no server answers at {self.place.url}: {error.strerror or error}",
                hint="start one with `trueup run`, or name another with --server or TRUEUP_SERVER",
                code="unreachable",
            ) from error
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            what = str(error) or type(error).__name__
            raise CliError(f"{self.place.url} broke off: {what}", code="broken") from error


@asynccontextmanager
async def connect(connection: Connection) -> AsyncIterator[Client]:
    """Open a client of the server that the flags, the environment or this machine name."""
    import aiohttp

    place = find(connection)
    context: ssl.SSLContext | bool = True
    if place.ca_file:
        context = ssl.create_default_context()
        try:
            context.load_verify_locations(place.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise CliError(f"{place.ca_file} cannot be read: {error}") from error
    headers = {"Authorization": f"Bearer {place.token}", "User-Agent": "trueup"}
    if place.traceparent:
        headers["traceparent"] = place.traceparent
    session = aiohttp.ClientSession(
        headers=headers,
        connector=aiohttp.TCPConnector(ssl=context),
        json_serialize=lambda value: msgspec.json.encode(value).decode(),
        # An event may be a long line; the default of 64 KiB would break the stream.
        read_bufsize=2**21,
    )
    async with session:
        yield Client(place, session)


def _problem(status: int, data: bytes) -> CliError:
    try:
        problem = msgspec.json.decode(data)
        detail, code = str(problem["detail"]), str(problem["code"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return CliError(
            f"the server answered {status}, and not as Trueup does",
            hint="is --server (or TRUEUP_SERVER) the URL of a Trueup server?",
            status=status,
        )
    hint = ""
    if status == 401:
        hint = "give a good token with TRUEUP_TOKEN or --token"
    return CliError(detail, code=code, status=status, hint=hint, problem=problem)
