"""Where signed heads are kept outside of the database: a file, or an object in an S3-like store."""

from __future__ import annotations

import configparser
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import anyio.to_thread

from engine.http.local import write_private
from engine.ports import Clock
from engine.signing.s3 import Credentials, signed_headers
from events.note import MAX_NOTE
from events.signer import HeadUnavailable

_TIMEOUT = aiohttp.ClientTimeout(total=10)


class FileHeads:
    """Keeps the head in a file: put in place whole, and on disk before `put` returns."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """The file."""
        return str(self._path)

    async def get(self) -> str | None:
        """Return what the file holds; None where there is none. Raises `HeadUnavailable`."""
        try:
            return await anyio.to_thread.run_sync(self._read)
        except (OSError, UnicodeDecodeError) as error:
            raise HeadUnavailable(f"{self._path} cannot be read: {error}") from error

    async def put(self, note: str) -> None:
        """Put a head in the file's place; raises `HeadUnavailable`."""
        try:
            await anyio.to_thread.run_sync(write_private, self._path, note.encode())
        except OSError as error:
            raise HeadUnavailable(f"{self._path} cannot be written: {error}") from error

    def _read(self) -> str | None:
        try:
            with self._path.open("rb") as file:
                return file.read(MAX_NOTE + 1).decode()
        except FileNotFoundError:
            return None


class S3Heads:
    """Keeps the head as an object of an S3-compatible store, at `url` (path style, no query)."""

    def __init__(self, url: str, region: str, credentials: Credentials, clock: Clock) -> None:
        self._url, self._region, self._credentials = url, region, credentials
        self._clock = clock

    @property
    def name(self) -> str:
        """The object's URL."""
        return self._url

    async def get(self) -> str | None:
        """Return the object; None where there is none. Raises `HeadUnavailable`."""
        status, body = await self._ask("GET", b"")
        if status == 404:
            return None
        try:
            return body.decode()
        except UnicodeDecodeError as error:
            raise HeadUnavailable(f"{self._url} holds no head: it is not text") from error

    async def put(self, note: str) -> None:
        """Put the object; raises `HeadUnavailable`."""
        status, _ = await self._ask("PUT", note.encode())
        if status == 404:
            raise HeadUnavailable(f"{self._url} answers 404: is there such a bucket?")

    async def _ask(self, method: str, body: bytes) -> tuple[int, bytes]:
        at = datetime.fromtimestamp(self._clock.now() / 1e6, UTC)
        headers = signed_headers(
            method, self._url, body, credentials=self._credentials, region=self._region, at=at
        )
        try:
            # A head is put once in a while: a session a request keeps no connection to go stale.
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.request(
                    method, self._url, data=body, headers=headers, allow_redirects=False
                ) as answer,
            ):
                data = await answer.content.read(MAX_NOTE + 1)
                if answer.status not in (200, 204, 404):
                    raise HeadUnavailable(f"{self._url} answers {answer.status} to {method}")
                return answer.status, data
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            said = str(error) or type(error).__name__
            raise HeadUnavailable(f"{self._url} cannot be reached: {said}") from error


def read_credentials(path: Path) -> Credentials:
    """Read a file as AWS's tools keep it, its profile `default`.

    Raises ValueError that names what is missing, never what is there; OSError.
    """
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text("utf-8"))
        profile = parser["default"]
        return Credentials(
            profile["aws_access_key_id"],
            profile["aws_secret_access_key"],
            profile.get("aws_session_token", ""),
        )
    except KeyError as error:
        raise ValueError(f"{path} has no {error.args[0]}, which credentials need") from None
    except configparser.Error:
        raise ValueError(f"{path} is not a credentials file: [default], key = value") from None
