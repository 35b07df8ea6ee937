"""A disk that is really full: appends fail by name, nothing of them is there or signed, then go on.

The events lie in a tablespace on a file system of a few megabytes; where the machine lets nobody
mount one, this is skipped.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from engine.embedded.server import EmbeddedPostgres
from engine.process.clock import SystemClock
from engine.settings import Settings
from engine.signing.setup import start_signing
from events.event import START
from events.log import LogUnavailable
from events.postgres import open_log
from tests.appending import failed, new
from tests.databases import fresh_database

pytestmark = pytest.mark.anyio
BALLAST = 3 * 2**20


@pytest.fixture
def small(tmp_path: Path, postgres: EmbeddedPostgres) -> Iterator[Path]:
    """A file system of 8 MB, 3 of which are taken by a file that can be removed."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0777", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    try:
        (folder / "ballast").write_bytes(bytes(BALLAST))
        space = folder / "space"
        space.mkdir()
        owner = postgres._folder.path.stat()
        space.chmod(0o700)
        os.chown(space, owner.st_uid, owner.st_gid)
        for path in [*list(tmp_path.parents)[:2], tmp_path]:
            path.chmod(path.stat().st_mode | 0o011)
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_appends_to_a_full_disk_fail_cleanly_and_go_on_when_there_is_room(
    postgres: EmbeddedPostgres, small: Path, tmp_path: Path
) -> None:
    await execute(postgres.dsn, f"CREATE TABLESPACE small LOCATION '{small / 'space'}'")
    try:
        async with fresh_database(postgres) as dsn:
            await execute(dsn, 'ALTER TABLE "events_0000000000000001" SET TABLESPACE small')
            await fill(dsn, small, Settings(data_dir=tmp_path / "data"))
    finally:
        await execute(postgres.dsn, "DROP TABLESPACE small")


async def fill(dsn: str, small: Path, settings: Settings) -> None:
    async with open_log(dsn) as log:
        signer = await start_signing(settings, log._pool, log, SystemClock())
        kept = await log.head()
        # What cannot be compressed, and fits into the table's own pages many times.
        while True:
            batch = [new(fact=failed(secrets.token_hex(900))) for _ in range(100)]
            try:
                await log.append(batch)
            except LogUnavailable as error:
                said = str(error)
                break
            kept += 100
        assert kept > 100
        assert "No space left on device" in said
        assert "make room" in said
        # Nothing of it is there, and nothing of it is signed; who reads, reads.
        assert await log.head() == kept
        assert len(await log.read(START, 10_000)) == kept
        note = await signer.step()
        assert note is not None
        assert note.splitlines()[1] == str(kept)
        # It fails the same way as often as it is tried, and one small event may still go in.
        with pytest.raises(LogUnavailable, match="No space left"):
            await log.append(batch)
        assert await log.head() == kept
        assert await signer.step() is None
        (small / "ballast").unlink()
        appended = await log.append(batch)
        assert appended.positions == tuple(range(kept + 1, kept + 101))
        assert (await log.append(batch)) == appended
        note = await signer.step()
        assert note is not None
        assert note.splitlines()[1] == str(kept + 100)
