"""Where the audit commands read a log from: a running server, or a database that no engine uses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from engine.cli.client import Client, connect
from engine.cli.connection import Connection
from engine.cli.errors import CliError
from events.event import Digest
from events.log import LogError
from events.note import NoteWrong, VerifierKey, parse_verifier
from events.proofs import ProofSource
from events.tiles import Tile, bundle_path, number_path

GROUP = Group("Stopped engine", sort_key=90)


@Parameter(name="*", group=GROUP)
@dataclass(frozen=True)
class Stopped:
    """Flags that name a log without its server."""

    data_dir: Annotated[
        Path | None, Parameter(help="read a stopped engine's log, embedded in this folder")
    ] = None
    database_url: Annotated[str | None, Parameter(help="read the log in this database")] = None
    in_use: Annotated[str, Parameter(parse=False)] = "leave out --data-dir to ask the server"
    """What helps where an engine runs on that folder."""


RUNNING = Stopped()


class ServerProofs:
    """A `ProofSource` on a server's API."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def checkpoint(self) -> str | None:
        """Return the newest checkpoint's note; None before the first."""
        try:
            return (await self._client.read("/v1/log/checkpoint")).decode()
        except CliError as error:
            if error.code == "not-signed":
                return None
            raise

    async def checkpoints(self) -> Sequence[str]:
        """Return the notes of earlier checkpoints too."""
        text = (await self._client.read("/v1/log/checkpoints")).decode()
        return [note for note in text.split("\f") if note]

    async def keys(self) -> Sequence[VerifierKey]:
        """Return the public keys that checkpoints were ever signed with."""
        text = (await self._client.read("/v1/log/keys")).decode()
        try:
            return [parse_verifier(line) for line in text.split("\n") if line]
        except NoteWrong as error:
            raise CliError(f"the server's public keys cannot be read: {error}") from error

    async def tile(self, tile: Tile) -> bytes:
        """Return a tile's hashes."""
        return await self._client.read(f"/v1/log/{tile.path}")

    async def entries(self, index: int, width: int) -> bytes:
        """Return a bundle of entries."""
        return await self._client.read(f"/v1/log/{bundle_path(index, width)}")

    async def payloads(self, index: int, width: int) -> Sequence[bytes]:
        """Return the payloads of the same events."""
        data = await self._client.read(f"/v1/log/payloads/{number_path(index, width)}")
        return data.split(b"\n")[:-1]

    async def body(self, digest: Digest) -> bytes | None:
        """Return the body under a digest; None where there is none."""
        try:
            return await self._client.read(f"/v1/log/blobs/{digest}")
        except CliError as error:
            if error.status == 404:
                return None
            raise


@asynccontextmanager
async def proofs_of(stopped: Stopped, at: Connection) -> AsyncIterator[ProofSource]:
    """Open what the flags name; raises `CliError`."""
    if stopped == RUNNING:
        async with connect(at) as client:
            yield ServerProofs(client)
        return
    from events.postgres import reading
    from events.proofs import Proofs

    try:
        async with database_of(stopped) as dsn, reading(dsn) as (pool, log):
            yield Proofs(pool, log)
    except LogError as error:
        raise CliError(str(error), code=error.code) from error


@asynccontextmanager
async def database_of(stopped: Stopped) -> AsyncIterator[str]:
    """Yield the DSN of the database that the flags name, started for as long as need be."""
    from engine.embedded.server import EmbeddedPostgres, EmbeddedPostgresError

    if stopped.database_url is not None:
        yield stopped.database_url
        return
    folder = (stopped.data_dir or Path()) / "postgres"
    if not folder.is_dir():
        raise CliError(f"{folder.parent} has no embedded Postgres", hint="give --database-url")
    async with AsyncExitStack() as stack:
        try:
            server = await stack.enter_async_context(EmbeddedPostgres(folder))
        except EmbeddedPostgresError as error:
            hint = stopped.in_use if error.code == "folder-in-use" else ""
            raise CliError(str(error), code=error.code, hint=hint) from error
        yield server.dsn
