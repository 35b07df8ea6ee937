"""Errors as the API answers them: `application/problem+json` (RFC 9457) with a stable code."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

CONTENT_TYPE = "application/problem+json"


class Refusal(Exception):
    """A request that is answered with a problem. `more` becomes further members of it."""

    def __init__(self, status: int, code: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.more = status, code, detail, more

    def response(self, headers: dict[str, str] | None = None) -> web.Response:
        """Return the answer."""
        body = {
            "type": f"urn:trueup:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            **self.more,
        }
        return web.Response(
            body=msgspec.json.encode(body),
            status=self.status,
            content_type=CONTENT_TYPE,
            headers=headers,
        )


def bad_request(detail: str, **more: Any) -> Refusal:
    """A request that cannot be understood."""
    return Refusal(400, "bad-request", detail, **more)


def not_found(detail: str) -> Refusal:
    """Nothing is there under this name."""
    return Refusal(404, "not-found", detail)


def conflict(code: str, detail: str, **more: Any) -> Refusal:
    """A request that what is there does not allow."""
    return Refusal(409, code, detail, **more)
