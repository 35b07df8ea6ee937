"""docs/backup.md, done: dumps, base backups with WAL, another major version, a restore that loses.

The engine is the real command; what is restored goes on, or is refused with what to do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import asyncpg
import pytest

from engine.embedded import launch as embedded_launch
from engine.embedded import server as embedded
from engine.embedded.server import EmbeddedPostgres, binaries
from engine.http.local import read_server
from tests.databases import EMPTY, fresh_database

pytestmark = pytest.mark.anyio
OTHERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


async def ran(*command: str | Path, code: int = 0, **env: str) -> str:
    done = await anyio.run_process(
        [str(word) for word in command], check=False, env={**os.environ, **env}
    )
    told = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == code, told
    return told


async def trueup(data: Path, *words: str, code: int = 0) -> str:
    command = (sys.executable, "-m", "engine.cli", *words)
    return await ran(*command, code=code, TRUEUP_DATA_DIR=str(data))


def run_command(data: Path, dsn: str) -> list[str]:
    flags = ["--data-dir", str(data), "--database-url", dsn, "--listen", "127.0.0.1:0"]
    return [sys.executable, "-m", "engine.cli", "run", "--allow-unconfined", *flags]


def said(log: Path) -> str:
    return log.read_text()


@asynccontextmanager
async def engine(data: Path, dsn: str) -> AsyncIterator[None]:
    """Run the real command until the block is left, and stop it in order."""
    path = data.parent / f"{data.name}.log"
    with path.open("ab") as log:
        process = await anyio.open_process(run_command(data, dsn), stdout=log, stderr=log)
    try:
        with anyio.fail_after(60):
            while read_server(data) is None:
                assert process.returncode is None, said(path)
                await anyio.sleep(0.05)
        yield
    finally:
        with anyio.CancelScope(shield=True):
            process.terminate()
            assert await process.wait() == 0


async def happens(data: Path, *names: str) -> None:
    for name in names:
        await trueup(data, "token", "create", name)


async def head(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT max(position) FROM events"))
    finally:
        await connection.close()


async def is_whole(data: Path, dsn: str, *tokens: str) -> None:
    """Start on a restored database and go on: nothing is missing, nothing is wrong."""
    async with engine(data, dsn):
        listed = await trueup(data, "token", "list")
        assert all(token in listed for token in tokens), listed
        await happens(data, "afterwards")
    assert "all is well" in await trueup(data, "fsck", "--database-url", dsn)


async def is_refused(data: Path, dsn: str) -> None:
    """The engine does not start on a database that lost events, and says what to do."""
    told = await ran(*run_command(data, dsn), code=2)
    assert "does not extend the last signed head" in told
    assert "restore the newest one" in told
    assert "trueup audit accept-restore --reason" in told


async def is_accepted(data: Path, dsn: str) -> None:
    at = ("--database-url", dsn)
    told = await trueup(data, "audit", "accept-restore", "--reason", "the disk failed", *at)
    assert "is given up" in told
    again = await trueup(data, "audit", "accept-restore", "--reason", "once more", *at, code=2)
    assert "nothing to accept" in again


async def test_a_dump_is_restored_and_the_log_goes_on(
    tmp_path: Path, postgres: EmbeddedPostgres
) -> None:
    data, dump, export = tmp_path / "data", tmp_path / "dump", tmp_path / "export"
    async with (
        fresh_database(postgres, EMPTY) as dsn,
        fresh_database(postgres, EMPTY) as restored,
    ):
        async with engine(data, dsn):
            await happens(data, "one", "two")
            # While it runs: a dump is of one moment, and does not stop the writer.
            await ran(
                binaries() / "pg_dump", "-Fc", "--exclude-table-data=actor_key", "-f", dump, dsn
            )
        await ran(binaries() / "pg_restore", "--exit-on-error", "-d", restored, dump)
        # The engine said goodbye after the dump, and signed that.
        assert await head(restored) < await head(dsn)
        await is_refused(data, restored)
        await is_accepted(data, restored)
        await is_whole(data, restored, "one", "two")
        at = ("--database-url", restored)
        await trueup(data, "audit", "export", "--to", str(export), *at)
        assert "verified: " in await trueup(data, "audit", "verify", str(export))


async def test_a_dump_of_a_stopped_engine_loses_nothing(
    tmp_path: Path, postgres: EmbeddedPostgres
) -> None:
    data, dump, later = tmp_path / "data", tmp_path / "dump", tmp_path / "export"
    async with (
        fresh_database(postgres, EMPTY) as dsn,
        fresh_database(postgres, EMPTY) as restored,
    ):
        async with engine(data, dsn):
            await happens(data, "one", "two")
        at = ("--database-url", dsn)
        checkpoint = tmp_path / "checkpoint"
        checkpoint.write_text(await trueup(data, "audit", "checkpoint", *at))
        await ran(binaries() / "pg_dump", "-Fc", "-f", dump, dsn)
        await ran(binaries() / "pg_restore", "--exit-on-error", "-d", restored, dump)
        await is_whole(data, restored, "one", "two")
        await trueup(data, "audit", "export", "--to", str(later), "--database-url", restored)
        told = await trueup(data, "audit", "verify", str(later), "--since", str(checkpoint))
        assert "they extend" in told


def archiving(archive: Path) -> dict[str, str]:
    copy = f'test ! -f "{archive}/%f" && cp "%p" "{archive}/%f"'
    return {
        "wal_level": "replica",
        "max_wal_senders": "2",
        "archive_mode": "on",
        "archive_command": copy,
        "fsync": "off",
    }


def restoring(base: Path, folder: Path, archive: Path) -> EmbeddedPostgres:
    """Put a base backup in place, to be brought forward by the archive when it starts."""
    folder.mkdir()
    shutil.copytree(base, folder / "data")
    (folder / "data").chmod(0o700)
    (folder / "data" / "recovery.signal").touch()
    fetch = f'cp "{archive}/%f" "%p"'
    # Nobody asks while it recovers, so it need not have the primary's limits.
    settings = {"restore_command": fetch, "hot_standby": "off", "fsync": "off"}
    return EmbeddedPostgres(folder, settings)


async def archived(dsn: str, archive: Path) -> None:
    """Close the segment that is being written, and wait until it is in the archive."""
    connection = await asyncpg.connect(dsn)
    try:
        name = await connection.fetchval("SELECT pg_walfile_name(pg_switch_wal())")
    finally:
        await connection.close()
    with anyio.fail_after(60):
        while not (archive / name).exists():  # noqa: ASYNC110 - Postgres copies it
            await anyio.sleep(0.05)


async def test_a_base_backup_and_its_wal_lose_nothing_but_what_was_not_archived(
    tmp_path: Path,
) -> None:
    data, base, archive = tmp_path / "data", tmp_path / "base", tmp_path / "archive"
    archive.mkdir()
    for folder in (tmp_path.parent, tmp_path, archive):
        folder.chmod(0o777)  # the server may run as another user, and writes there
    async with EmbeddedPostgres(tmp_path / "first", archiving(archive)) as server:
        async with engine(data, server.dsn):
            await happens(data, "one")
            await ran(
                *(binaries() / "pg_basebackup", "-D", base, "-X", "none", "-c", "fast"),
                *("-d", server.dsn.replace("/trueup?", "/?")),
            )
            await happens(data, "two")
        await archived(server.dsn, archive)
        last = await head(server.dsn)
    lost = tmp_path / "lost"
    shutil.copytree(archive, lost)
    lost.chmod(0o777)
    async with restoring(base, tmp_path / "second", archive) as server:
        assert await head(server.dsn) == last
        kept = tmp_path / "kept"
        shutil.copytree(data, kept)
        await is_whole(kept, server.dsn, "one", "two")
    # Now without the newest segment: what happened since the backup is gone.
    segments = sorted(path for path in lost.iterdir() if len(path.name) == 24)
    segments[-1].unlink()
    async with restoring(base, tmp_path / "third", lost) as server:
        assert await head(server.dsn) < last
        await is_refused(data, server.dsn)
        await is_accepted(data, server.dsn)
        await is_whole(data, server.dsn, "one")


@asynccontextmanager
async def other_version(
    programs: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[EmbeddedPostgres]:
    """Run another release of Postgres as ours is run; its initdb takes other flags."""
    server = EmbeddedPostgres(folder, {"fsync": "off"})
    server._folder.prepare()
    with monkeypatch.context() as patched:
        patched.setattr(embedded, "binaries", lambda: programs)
        server._bin = programs
        identity = await server._choose_identity()
        server._folder.give_to(identity.uid, identity.gid)
        words = ["--username", embedded.USER, "--auth", "trust", "--encoding", "UTF8"]
        words += ["--locale", "C", "--no-sync", "--pgdata", str(folder / "data")]
        launch = [sys.executable, "-I", "-S", embedded_launch.__file__, identity.word]
        command = [*launch, str(os.getpid()), str(folder), str(programs / "initdb"), *words]
        await anyio.run_process(command, stderr=subprocess.STDOUT, cwd=folder)
        async with server:
            yield server


@pytest.mark.skipif(not OTHERS, reason="no other Postgres below /usr/lib/postgresql")
async def test_a_log_moves_into_another_major_version(
    tmp_path: Path, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, dump = tmp_path / "data", tmp_path / "dump"
    async with other_version(OTHERS[0], tmp_path / "other", monkeypatch) as other:
        async with engine(data, other.dsn):
            await happens(data, "one", "two")
        await ran(binaries() / "pg_dump", "-Fc", "-f", dump, other.dsn)
    async with fresh_database(postgres, EMPTY) as restored:
        await ran(binaries() / "pg_restore", "--exit-on-error", "-d", restored, dump)
        versions = [programs.parent.name for programs in OTHERS]
        connection = await asyncpg.connect(restored)
        try:
            assert str(connection.get_server_version().major) not in versions[:1]
        finally:
            await connection.close()
        await is_whole(data, restored, "one", "two")
