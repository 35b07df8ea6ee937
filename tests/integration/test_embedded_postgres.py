"""The embedded Postgres starts, stops and recovers, whoever was killed."""

from __future__ import annotations

import os
import pwd
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest
from anyio.abc import Process

from engine.embedded import launch as embedded_launch
from engine.embedded.folder import ServerFolder
from engine.embedded.server import EmbeddedPostgres, EmbeddedPostgresError

pytestmark = pytest.mark.anyio
FAST = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "16MB"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a server has run once: making one takes two seconds."""
    folder = tmp_path_factory.mktemp("made") / "postgres"

    async def make() -> None:
        async with EmbeddedPostgres(folder, FAST) as server:
            await execute(server, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")

    anyio.run(make)
    return folder


async def execute(server: EmbeddedPostgres, statement: str) -> None:
    connection = await asyncpg.connect(server.dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def kept(server: EmbeddedPostgres) -> object:
    connection = await asyncpg.connect(server.dsn)
    try:
        return await connection.fetchval("SELECT n FROM kept")
    finally:
        await connection.close()


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not condition():  # noqa: ASYNC110 - another process brings it about
            await anyio.sleep(0.01)


def exists(path: Path) -> bool:
    return path.exists()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def copy(made: Path, folder: Path) -> Path:
    subprocess.run(["cp", "-a", str(made), str(folder)], check=True)
    return folder


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


async def test_data_survives_and_only_the_owner_can_enter(made: Path) -> None:
    async with EmbeddedPostgres(made, FAST) as server:
        assert await kept(server) == 7
        assert mode(made) == 0o700
        assert not tcp_listeners(server.pid)
        pid = server.pid
    assert not alive(pid)
    assert not (made / "data" / "postmaster.pid").exists()


def tcp_listeners(pid: int) -> set[str]:
    sockets = {
        os.readlink(f"/proc/{pid}/fd/{fd}").removeprefix("socket:[").rstrip("]")
        for fd in os.listdir(f"/proc/{pid}/fd")
        if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:")
    }
    inodes = {
        line.split()[9]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    }
    return sockets & inodes


async def test_a_second_engine_is_refused_and_does_no_harm(made: Path) -> None:
    async with EmbeddedPostgres(made, FAST) as server:
        with pytest.raises(EmbeddedPostgresError, match="another engine") as caught:
            async with EmbeddedPostgres(made, FAST):
                pass
        assert caught.value.code == "folder-in-use"
        assert await kept(server) == 7


async def test_it_dies_with_the_engine_and_starts_again(made: Path) -> None:
    script = (
        "import anyio, sys\n"
        "from pathlib import Path\n"
        "from engine.embedded.server import EmbeddedPostgres\n"
        "async def main():\n"
        "    async with EmbeddedPostgres(Path(sys.argv[1])) as server:\n"
        "        print(server.pid, flush=True)\n"
        "        await anyio.sleep_forever()\n"
        "anyio.run(main)\n"
    )
    async with await anyio.open_process(
        [sys.executable, "-c", script, str(made)], stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        pid = int(await process.stdout.receive())
        assert alive(pid)
        process.kill()
        await process.wait()
    # At once, while the orphan may still be writing its last checkpoint.
    async with EmbeddedPostgres(made, FAST) as server:
        assert not alive(pid)
        assert await kept(server) == 7


async def test_a_killed_server_is_started_again_under_the_engine(made: Path) -> None:
    async with EmbeddedPostgres(made, FAST) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(server.keep)
        await anyio.wait_all_tasks_blocked()
        first = server.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: server.pid != first and server.ready)
        assert await kept(server) == 7
        tasks.cancel_scope.cancel()


async def test_a_stale_pid_file_naming_somebody_else_is_no_obstacle(made: Path) -> None:
    stale = [str(os.getpid()), str(made / "data"), "1", "5432", str(made), "", "1 1", "ready"]
    (made / "data" / "postmaster.pid").write_text("\n".join(stale) + "\n")
    async with EmbeddedPostgres(made, FAST) as server:
        assert await kept(server) == 7


@pytest.mark.parametrize("name", ["long-" * 20, "with,comma", "späces and %40 & ?"])
async def test_a_folder_of_any_name_will_do(made: Path, tmp_path: Path, name: str) -> None:
    folder = copy(made, tmp_path / name)
    async with EmbeddedPostgres(folder, FAST) as server:
        assert await kept(server) == 7
        host = Path(server._socket_folder)
        assert mode(host) == 0o700
    assert host == folder or not exists(host)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_where_namespaces_are_refused_root_falls_back_to_another_user(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copy(made, tmp_path / "other")
    os.chmod(tmp_path, 0o700)  # as root's home is
    launch = EmbeddedPostgres._launch

    async def refusing(
        self: EmbeddedPostgres, identity: Any, *arguments: str, **options: Any
    ) -> Process:
        if identity.word == "namespace":
            monkeypatch.setattr(embedded_launch, "__file__", "/nonexistent")
        try:
            return await launch(self, identity, *arguments, **options)
        finally:
            monkeypatch.setattr(embedded_launch, "__file__", script)

    script = embedded_launch.__file__
    monkeypatch.setattr(EmbeddedPostgres, "_launch", refusing)
    async with EmbeddedPostgres(folder, FAST) as server:
        assert await kept(server) == 7
        owner = os.stat(f"/proc/{server.pid}").st_uid
        assert pwd.getpwuid(owner).pw_name in ("postgres", "nobody")
    assert "runs as" in caplog.text
    monkeypatch.undo()
    async with EmbeddedPostgres(folder, FAST) as server:  # and back, should they be allowed again
        assert await kept(server) == 7


async def test_data_of_another_release_is_refused(made: Path, tmp_path: Path) -> None:
    folder = copy(made, tmp_path / "old")
    (folder / "data" / "PG_VERSION").write_text("15\n")
    with pytest.raises(EmbeddedPostgresError, match="Postgres 15") as caught:
        async with EmbeddedPostgres(folder, FAST):
            pass
    assert caught.value.code == "version-differs"


async def test_a_server_that_cannot_start_says_why(made: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="no_such_setting") as caught:
        async with EmbeddedPostgres(made, {**FAST, "no_such_setting": "1"}):
            pass
    assert caught.value.code == "start-failed"
    async with EmbeddedPostgres(made, FAST) as server:  # and holds no lock afterwards
        assert await kept(server) == 7


def test_a_full_disk_is_called_by_its_name(tmp_path: Path) -> None:
    folder = ServerFolder(tmp_path)
    before = b"LOG: of an earlier run\n"
    said = b"FATAL:  could not write lock file: No space left on device\n"
    folder.log_file.write_bytes(before + said)
    assert folder.failure("did not start", len(before)).code == "disk-full"
    assert folder.failure("did not start", len(before + said)).code == "start-failed"


async def test_a_long_folder_keeps_its_address_when_the_server_is_started_again(
    made: Path, tmp_path: Path
) -> None:
    folder = copy(made, tmp_path / ("long-" * 20))
    async with EmbeddedPostgres(folder, FAST) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(server.keep)
        first, dsn = server.pid, server.dsn
        os.kill(first, signal.SIGKILL)
        await until(lambda: server.pid != first and server.ready)
        assert server.dsn == dsn
        assert await kept(server) == 7
        tasks.cancel_scope.cancel()


async def test_without_the_binaries_it_says_what_to_install(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedPostgresError, match="--database-url") as caught:
        async with EmbeddedPostgres(made, FAST):
            pass
    assert caught.value.code == "no-binaries"


async def test_an_unfinished_first_start_is_begun_again(tmp_path: Path) -> None:
    half = tmp_path / "pg" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    async with EmbeddedPostgres(tmp_path / "pg", FAST) as server:
        await execute(server, "SELECT 1")
    assert not exists(half)
