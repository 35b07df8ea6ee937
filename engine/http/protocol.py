"""What is no HTTP is answered as everything else is: with a problem.

aiohttp answers by itself what it cannot read, in plain text, and with pieces of what was sent.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from engine.http.problem import Refusal
from engine.http.safety import HEADERS

_log = logging.getLogger("trueup.http")


class Protocol(web.RequestHandler):
    """A connection whose errors are problems."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return what a request is answered that no handler saw, and close its connection."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun already")
        if status >= 500:
            _log.error("a request failed", exc_info=exc)
            refusal = Refusal(500, "internal", "a fault of ours; the server's log has more")
        elif isinstance(exc, LineTooLong):
            refusal = Refusal(431, "headers-too-large", "the request line or a header is too long")
        else:
            # Not what was sent: it may be anything.
            refusal = Refusal(400, "not-http", "this is no HTTP/1.1 request that can be read")
        _log.info(
            "refused what is no request",
            extra={"status": refusal.status, "remote": request.remote or ""},
        )
        # Nobody else takes the name of the library out of this answer.
        response = refusal.response({**HEADERS, "Server": "trueup"})
        response.force_close()
        return response


class Runner(web.AppRunner):
    """Runs an application on connections of ours."""

    __slots__ = ()

    @property
    def server(self) -> web.Server | None:
        """Return what makes a connection's protocol."""
        server = super().server
        if server is None:
            return None

        def connected() -> Protocol:
            options: dict[str, Any] = server._kwargs  # noqa: SLF001 - there is no public way
            return Protocol(server, loop=asyncio.get_running_loop(), **options)

        return cast("web.Server", connected)
