"""Requests to one Kubernetes API: raw bytes on aiohttp, each with its time-outs and limits.

An answer of any status is an answer; what is not one (no connection, time-out, broken TLS, a
redirect, too many bytes) is `Unreachable`.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType

import aiohttp
import anyio
from yarl import URL

from engine.bounded import MIB
from engine.clusters.access import Access, AccessReader
from engine.clusters.pace import Turns
from engine.clusters.plugin import AccessRefused
from engine.clusters.settings import ClusterSettings
from engine.clusters.wire import Response
from engine.telemetry.instruments import CLUSTER_REQUEST, broken_down

_JSON = "application/json"
_ERROR_BYTES = MIB
_MAX_RETRY_AFTER = 3600.0
_TOO_MANY = 429
_TRIES = 4
"""How often a request is sent that the server refuses with 429."""
_SOON = 2.0
"""Seconds until which it is waited for; later the log says that it failed, and until when."""


class Unreachable(Exception):
    """No answer was had. `code` is stable: unreachable, timed-out, tls, too-large, config, …"""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Refused(Exception):
    """A watch was answered with something else than a stream."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"status {response.status}")
        self.response = response


class Connection:
    """The way to one cluster. Open it as an async context manager."""

    def __init__(self, access: AccessReader, settings: ClusterSettings, cluster: str = "") -> None:
        self._access, self._settings = access, settings
        self._labels = broken_down(cluster)
        self._clock = access.clock
        self._turns = Turns(access.clock, settings.requests)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Connection:
        self._session = aiohttp.ClientSession(
            # Watches are connections too: how many requests there are is limited by their turns.
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Compressed answers could be small on the wire and huge in memory.
            headers={"User-Agent": "trueup", "Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            with anyio.CancelScope(shield=True):
                await session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = _JSON,
        timeout: float | None = None,
        limit: int | None = None,
        urgent: bool = False,
    ) -> Response:
        """Send a request and read the whole answer, at most `limit` bytes (an object's limit).

        `timeout` is in seconds, for the request as a whole once its turn has come; an `urgent` one
        waits for none. One that the server refuses for now (429) is sent again, where it is to be
        soon. Raises `Unreachable`.
        """
        seconds = timeout or self._settings.request_timeout
        limit = limit or self._settings.object_bytes
        headers = {"Accept": _JSON}
        if body is not None:
            headers["Content-Type"] = content_type

        async def once() -> Response:
            # A connection that the server closed while it was idle shows only when it is used.
            # Everything that is sent here may be sent again: it carries its preconditions.
            for last in (False, True):
                try:
                    async with self._send(method, path, params, headers, body, seconds) as answer:
                        return await _read(answer, limit)
                except aiohttp.ServerDisconnectedError:
                    if last:
                        raise
            raise AssertionError

        if urgent:
            return await self._timed(method, once, seconds)
        left = _TRIES
        while True:
            async with self._turns.turn():
                sent = self._clock.monotonic()
                response = await self._timed(method, once, seconds)
            if response.status != _TOO_MANY:
                self._turns.answered()
                return response
            self._turns.refused(sent, response.retry_after)
            left -= 1
            if not left or (response.retry_after or 0.0) > _SOON:
                return response

    async def _timed(
        self, method: str, once: Callable[[], Awaitable[Response]], seconds: float
    ) -> Response:
        labels: dict[str, str | int] = {"http.request.method": method, **self._labels}
        began = anyio.current_time()
        try:
            with _errors(seconds):
                response = await once()
            labels["http.response.status_code"] = response.status
            return response
        except Unreachable as error:
            labels["error.type"] = error.code
            raise
        finally:
            CLUSTER_REQUEST.record(anyio.current_time() - began, labels)

    @asynccontextmanager
    async def stream(
        self, path: str, params: Mapping[str, str], *, timeout: float, idle: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a watch and give its lines; it ends after `timeout` seconds, or `idle` without one.

        Raises `Refused` where the answer is no stream, `Unreachable` where there is none or where
        it breaks; a line over the limit is `Unreachable("too-large")`.
        """
        async with AsyncExitStack() as stack:
            with _errors(timeout):
                answer = await stack.enter_async_context(
                    self._send("GET", path, params, {"Accept": _JSON}, None, timeout, idle)
                )
                if answer.status == _TOO_MANY:
                    asked = _retry_after(answer.headers.get("Retry-After"))
                    self._turns.refused(self._clock.monotonic(), asked)
                if answer.status != 200:
                    raise Refused(await _read(answer, _ERROR_BYTES))
            lines = _lines(answer, self._settings.object_bytes, timeout)
            stack.push_async_callback(lines.aclose)
            yield lines

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout: float,
        idle: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send with the credentials in force, and once more with fresh ones after a 401."""
        access = await self._access.current()
        answer = await self._once(access, method, path, params, headers, body, timeout, idle)
        if answer.status == 401:
            renewed = await self._access.renewed(access)
            if renewed is not None:
                answer.close()
                answer = await self._once(
                    renewed, method, path, params, headers, body, timeout, idle
                )
        try:
            if 300 <= answer.status < 400:
                raise Unreachable("redirect", "The server answers with a redirect: refused.")
            yield answer
        finally:
            # Closed and not released: what was not read of a stream would have to be read first.
            if answer.content.at_eof():
                answer.release()
            else:
                answer.close()

    async def _once(
        self,
        access: Access,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout: float,
        idle: float | None,
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            raise Unreachable("closed", "The connection to the cluster is closed.")
        sent = dict(headers)
        if access.authorization:
            sent["Authorization"] = access.authorization
        return await self._session.request(
            method,
            URL(access.server + path, encoded=True).with_query(dict(params or {})),
            data=body,
            headers=sent,
            allow_redirects=False,
            ssl=access.ssl if access.ssl is not None else True,
            server_hostname=access.server_name,
            proxy=access.proxy,
            timeout=aiohttp.ClientTimeout(
                total=timeout,
                sock_connect=self._settings.connect_timeout,
                sock_read=idle if idle is not None else timeout,
            ),
        )


class _errors:  # noqa: N801 -- used as a function
    """Turns what aiohttp raises into `Unreachable`, without the address' query or any header."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        match error:
            case AccessRefused():
                raise Unreachable(error.code, error.message) from None
            case TimeoutError():
                raise Unreachable(
                    "timed-out", f"The server did not answer in time (limit {self._seconds:g} s)."
                ) from None
            case aiohttp.ClientConnectorCertificateError():
                why = getattr(error.certificate_error, "verify_message", "")
                raise Unreachable(
                    "tls", f"The server's certificate is not trusted: {why or 'it does not verify'}"
                ) from None
            case aiohttp.ClientSSLError() | ssl.SSLError():
                raise Unreachable("tls", "The TLS handshake with the server failed.") from None
            case aiohttp.ClientConnectorError():
                why = error.os_error.strerror or "no connection"
                raise Unreachable(
                    "unreachable", f"{error.host}:{error.port} cannot be reached: {why}."
                ) from None
            case aiohttp.ClientError() | OSError() | ValueError():
                raise Unreachable(
                    "unreachable", f"The connection broke: {type(error).__name__}."
                ) from None


async def _read(answer: aiohttp.ClientResponse, limit: int) -> Response:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise Unreachable("too-large", f"The server answers with over {limit} bytes: refused.")
    return Response(
        answer.status,
        bytes(body),
        _retry_after(answer.headers.get("Retry-After")),
        answer.headers.get("Date", ""),
    )


async def _lines(
    answer: aiohttp.ClientResponse, limit: int, seconds: float
) -> AsyncGenerator[bytes, None]:
    rest = bytearray()
    with _errors(seconds):
        async for chunk in answer.content.iter_any():
            start = 0
            while (end := chunk.find(b"\n", start)) >= 0:
                if rest:
                    rest += chunk[start:end]
                    yield bytes(rest)
                    rest.clear()
                elif end > start:
                    yield chunk[start:end]
                start = end + 1
            rest += chunk[start:]
            if len(rest) > limit:
                raise Unreachable("too-large", f"The server sends a line of over {limit} bytes.")


def _retry_after(text: str | None) -> float | None:
    # The other form, a date, is not used by API servers.
    if text is None or not text.strip().isdecimal() or len(text) > 9:
        return None
    return min(float(text), _MAX_RETRY_AFTER)
