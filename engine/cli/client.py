"""How commands talk to the server: they find it, show its token, and read its answers."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from cyclopts import Parameter

from engine.http.local import read_server, read_token
from engine.settings import ClientSettings, SettingsRefused, load_client

T = TypeVar("T")
USAGE, FAILED = 2, 1
_LOCAL = "127.0.0.1"


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """Options of every command that asks a server."""

    server: Annotated[str | None, Parameter(help="URL of the server; TRUEUP_SERVER")] = None
    token: Annotated[str | None, Parameter(help="its token; TRUEUP_TOKEN")] = None
    project: Annotated[
        str | None, Parameter(name=["--project", "-p"], help="TRUEUP_PROJECT; default: default")
    ] = None
    output: Annotated[
        str, Parameter(name=["--output", "-o"], help="table, wide, json, yaml or jsonl")
    ] = "table"


class CommandFailed(Exception):
    """A command ends with this message and status."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """The server, as one command sees it."""

    def __init__(self, common: Common) -> None:
        try:
            self._settings: ClientSettings = load_client(
                common.server, common.token, common.project
            )
        except SettingsRefused as refused:
            raise CommandFailed("\n".join(refused.problems), USAGE) from None
        self.project = self._settings.project
        self._ca = ""
        self.url, token = self._find()
        self._headers = {"Authorization": f"Bearer {token}"}

    def _find(self) -> tuple[str, str]:
        settings = self._settings
        local = read_server(settings.data_dir)
        url = settings.server or (local.url if local else "")
        if not url:
            raise CommandFailed(
                "no server is known: start one with `trueup run`, or name one with --server or "
                "TRUEUP_SERVER"
            )
        token = settings.token
        if token is None and local is not None and url.rstrip("/") == local.url:
            self._ca = local.ca_file
            try:
                token = read_token(Path(local.token_file))
            except OSError as error:
                raise CommandFailed(str(error)) from None
        if not token:
            raise CommandFailed(f"no token for {url}: set TRUEUP_TOKEN, or give --token")
        return url.rstrip("/"), token

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """Ask the server; raises `CommandFailed` with what it says against it."""
        import aiohttp

        async with self._session() as session:
            try:
                async with session.request(method, self.url + path, json=body) as answer:
                    found = await answer.json(content_type=None)
            except aiohttp.ClientError as error:
                raise self._unreachable(error) from None
        if answer.status >= 300:
            raise _failure(found, answer.status)
        return found

    async def lines(self, method: str, path: str, accept: str) -> AsyncIterator[str]:
        """Read a stream line by line until the server ends it."""
        import aiohttp

        async with self._session() as session:
            try:
                async with session.request(
                    method, self.url + path, headers={"Accept": accept}, timeout=_forever()
                ) as answer:
                    if answer.status >= 300:
                        raise _failure(await answer.json(content_type=None), answer.status)
                    async for line in answer.content:
                        yield line.decode().rstrip("\n")
            except aiohttp.ClientError as error:
                raise self._unreachable(error) from None

    async def pages(self, path: str) -> list[dict[str, Any]]:
        """Read every page of a list."""
        items: list[dict[str, Any]] = []
        cursor: object = None
        while True:
            mark = "&" if "?" in path else "?"
            found = await self.call(
                "GET", path if cursor is None else f"{path}{mark}after={cursor}"
            )
            items += found["items"]
            cursor = found.get("next")
            if cursor is None:
                return items

    def wrote(self, position: int) -> None:
        """Remember the caller's last write, for the next `wait`."""
        from engine.http.local import write_private

        write_private(self._memory, msgspec.json.encode({"position": position}))

    @property
    def last_write(self) -> int:
        """The position of the caller's last write; 0 for none."""
        try:
            return int(msgspec.json.decode(self._memory.read_bytes())["position"])
        except (OSError, KeyError, ValueError, msgspec.MsgspecError):
            return 0

    @property
    def _memory(self) -> Path:
        name = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        return self._settings.state_dir / f"written-{name}.json"

    def _session(self) -> Any:
        import ssl

        import aiohttp

        context = ssl.create_default_context(cafile=self._ca) if self._ca else True
        return aiohttp.ClientSession(
            headers=self._headers,
            connector=aiohttp.TCPConnector(ssl=context),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=120),
        )

    def _unreachable(self, error: Exception) -> CommandFailed:
        return CommandFailed(f"{self.url} cannot be reached ({error}); is `trueup run` running?")


def _forever() -> Any:
    import aiohttp

    return aiohttp.ClientTimeout(total=None, sock_connect=10)


def _failure(found: Any, status: int) -> CommandFailed:
    if not isinstance(found, dict):
        return CommandFailed(f"the server answered {status}")
    lines = [str(found.get("detail", f"status {status}"))]
    for problem in found.get("problems") or ():
        place = ":".join(str(problem[key]) for key in ("file", "line") if problem.get(key))
        words = [place, problem.get("field", ""), problem.get("message", "")]
        lines.append("  " + ": ".join(word for word in words if word))
    return CommandFailed("\n".join(lines), USAGE if status in (400, 404, 422) else FAILED)


def perform(work: Callable[[], Awaitable[T]]) -> T:
    """Run a command's work; failures are told on standard error and end with their status."""
    import anyio

    async def run() -> T:
        return await work()

    try:
        return anyio.run(run)
    except CommandFailed as failed:
        sys.stderr.write(f"trueup: {failed}\n")
        raise SystemExit(failed.status) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
