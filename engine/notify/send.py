"""One HTTP request with an alert, and what came of it."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

import aiohttp
from msgspec import Struct

from engine.notify.address import AddressRefused, GuardedResolver, check_url

LONGEST_WAIT = 3600.0
"""Seconds that a receiver may ask us to wait at most."""
_REFUSALS = frozenset({400, 413, 415, 422})
"""Answers that are about this one alert, and would be the same again."""


class Timeouts(Struct, frozen=True):
    """Seconds: to connect, and for the whole exchange."""

    connect: float = 5.0
    total: float = 15.0


class End(StrEnum):
    """What came of a request."""

    TAKEN = "taken"
    REFUSED = "refused"
    """The receiver does not want this one; trying again would not help."""
    FAILED = "failed"


class Sent(Struct, frozen=True):
    """What came of a request, in words that hold no secret. `retry_after` is in seconds."""

    end: End
    code: str = ""
    message: str = ""
    retry_after: float = 0.0


class Sender:
    """Sends; made by `sender`."""

    def __init__(self, session: aiohttp.ClientSession, hosts: Collection[str]) -> None:
        self._session, self._hosts = session, hosts

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, now: int) -> Sent:
        """Send a body; `now` is in microseconds. Never raises for what the receiver does."""
        try:
            check_url(url, self._hosts)
            async with self._session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                # Its body is not read: nothing in it could matter, and it may be endless.
                return judged(answer.status, answer.headers.get("Retry-After", ""), now)
        except AddressRefused as error:
            return Sent(End.FAILED, error.code, error.message)
        except TimeoutError:
            return Sent(End.FAILED, "timeout", "the receiver did not answer in time")
        except aiohttp.ClientConnectorCertificateError:
            return Sent(End.FAILED, "certificate", "the receiver's certificate is not valid")
        except aiohttp.ClientConnectorError as error:
            return _unconnected(error.os_error)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Their texts may hold the URL, and a URL may be the secret.
            return Sent(End.FAILED, "unreachable", f"the exchange broke off ({_name(error)})")


def _unconnected(error: OSError) -> Sent:
    if isinstance(error, AddressRefused):
        return Sent(End.FAILED, error.code, error.message)
    if isinstance(error, ssl.SSLError):
        return Sent(End.FAILED, "tls", f"TLS failed ({_name(error)})")
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else _name(error)
    return Sent(End.FAILED, "unreachable", f"no connection to the receiver ({reason})")


def _name(error: BaseException) -> str:
    return type(error).__name__


def judged(status: int, retry_after: str, now: int) -> Sent:
    """Return what an answer means: its status, its Retry-After, the time in microseconds."""
    if 200 <= status < 300:
        return Sent(End.TAKEN)
    if 300 <= status < 400:
        message = f"the receiver answered {status}: redirects are not followed, name its end"
        return Sent(End.FAILED, "redirected", message)
    end = End.REFUSED if status in _REFUSALS else End.FAILED
    wait = _seconds(retry_after, now)
    return Sent(end, f"http-{status}", f"the receiver answered {status}", wait)


def _seconds(text: str, now: int) -> float:
    """Read Retry-After: seconds, or a date; 0 for anything else."""
    word = text.strip()
    if word.isascii() and word.isdigit():
        return min(float(word[:9]), LONGEST_WAIT)
    try:
        date = parsedate_to_datetime(word)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    left = (date - datetime.fromtimestamp(now / 1e6, UTC)).total_seconds()
    return min(max(left, 0.0), LONGEST_WAIT)


@asynccontextmanager
async def sender(
    hosts: Collection[str] = (),
    timeouts: Timeouts | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Sender]:
    """Open what sends alerts; `hosts` is the setting `notification_hosts`, in lower case."""
    limits = timeouts or Timeouts()
    connector = aiohttp.TCPConnector(
        resolver=GuardedResolver(aiohttp.ThreadedResolver(), hosts),
        ssl=tls or ssl.create_default_context(),
        use_dns_cache=False,
        force_close=True,
        # Each notification has one request under way at most; one that hangs must not stop others.
        limit=0,
    )
    session = aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=limits.total, connect=limits.connect),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "trueup"},
        trust_env=False,
        auto_decompress=False,
    )
    async with session:
        yield Sender(session, hosts)
