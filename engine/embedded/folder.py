"""The embedded Postgres' folder: who uses it, and what a crash left in it.

`engine.lock` is held by the engine, `server.lock` by every process of the server, which inherit
it: so the locks say what is alive, whatever a pid file claims.
"""

from __future__ import annotations

import fcntl
import logging
import os
import pwd
import shutil
import signal
from pathlib import Path

import anyio

_log = logging.getLogger(__name__)

PORT = 5432
"""Only part of the socket's name."""
TICK = 0.02
"""Seconds between looks at a condition that only the file system shows."""
IMPATIENCE = 10.0
"""Seconds of waiting after which we say what we are waiting for, each time."""
_LOG_LIMIT = 16 * 2**20
"""Bytes above which the server's log starts afresh at the next start."""
_SOCKET_PATH_LIMIT = 107
"""Bytes of a unix socket's path (`sun_path` less its final zero)."""
_STATE_LINE = 7
"""Which line of postmaster.pid says whether the server is ready."""
_SOCKET_LINE = 4


class EmbeddedPostgresError(Exception):
    """The embedded Postgres cannot run. `code` is stable; the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ServerFolder:
    """The folder at `path`, made on `prepare`. `data` is Postgres' own, `log_file` what it says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path / "data"
        self.fresh = path / "data.new"
        self.log_file = path / "server.log"

    def prepare(self) -> None:
        """Make the folder, or make sure that it is ours; raises `EmbeddedPostgresError`."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = self.path.stat().st_uid
            if owner != os.geteuid() and os.geteuid() != 0:
                raise EmbeddedPostgresError(
                    "folder-foreign",
                    f"{self.path} belongs to another user ({user_name(owner) or owner}): "
                    "choose another --data-dir, or run as that user",
                )
            self.path.chmod(0o700)
        except OSError as error:
            raise EmbeddedPostgresError(
                "folder-foreign", f"{self.path} cannot be used for data: {error}"
            ) from error

    def lock_engine(self) -> int:
        """Take the engine's lock and return its descriptor; raises where another engine has it."""
        lock = self._open_lock("engine.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise EmbeddedPostgresError(
                "folder-in-use",
                f"another engine already uses {self.path}: stop it, or choose another --data-dir",
            ) from None
        return lock

    async def lock_server(self) -> int:
        """Wait until nothing of an earlier server is left; return the lock for the next one."""
        lock = self._open_lock("server.lock")
        waited, said = 0.0, -IMPATIENCE
        try:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if waited - said >= IMPATIENCE:
                        said = waited
                        _log.warning("waiting for an earlier Postgres in %s to end", self.path)
                        # It was told to stop when its engine died; a postmaster that was itself
                        # killed leaves processes that notice by themselves.
                        self._stop_orphan()
                    await anyio.sleep(TICK)
                    waited += TICK
                else:
                    return lock
        except BaseException:
            os.close(lock)
            raise

    def _open_lock(self, name: str) -> int:
        return os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _stop_orphan(self) -> None:
        lines = self._pid_file()
        if lines and lines[0].isdecimal():
            pid = int(lines[0])
            try:
                # The number may be anybody's by now: it is ours if it works in our folder.
                if os.readlink(f"/proc/{pid}/cwd") == str(self.data.resolve()):
                    os.kill(pid, signal.SIGINT)
            except OSError as error:
                _log.info("process %d is not ours to stop: %s", pid, error)

    def _pid_file(self) -> list[str]:
        """Return the lines of postmaster.pid: pid, folder, start, port, socket folder, …, state."""
        try:
            return (self.data / "postmaster.pid").read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []

    def is_ready(self, pid: int) -> bool:
        """Whether the server of this process id says that it takes connections."""
        lines = self._pid_file()
        ready = len(lines) > _STATE_LINE and lines[_STATE_LINE].strip() == "ready"
        return ready and lines[0] == str(pid)

    def tidy(self, sockets: Path) -> None:
        """Remove what a killed server left, but the folder `sockets`: clients know it by now.

        Call it with both locks held: then nobody uses any of it.
        """
        lines = self._pid_file()
        if len(lines) > _SOCKET_LINE and lines[_SOCKET_LINE] not in (str(self.path), str(sockets)):
            remove_socket_folder(Path(lines[_SOCKET_LINE]))
        _remove_socket(sockets)
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        _remove_socket(self.path)
        shutil.rmtree(self.fresh, ignore_errors=True)
        if self.log_file.exists() and self.log_file.stat().st_size > _LOG_LIMIT:
            self.log_file.unlink()

    def give_to(self, uid: int, gid: int) -> None:
        """Give everything to whom the server runs as; it may have run as another before."""
        if self.path.stat().st_uid == uid:
            return
        for path, _, files in os.walk(self.path):
            for name in ["", *files]:
                os.lchown(os.path.join(path, name), uid, gid)

    def takes_sockets(self) -> bool:
        """Whether a socket can lie here: its path is short, and can be written in a setting.

        A comma separates folders in Postgres' setting and hosts in a DSN.
        """
        path = str(self.path / f".s.PGSQL.{PORT}.lock")
        return len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT and not set(path) & set(",\"'\\")

    def failure(self, what: str, start: int) -> EmbeddedPostgresError:
        """Say why the database `what`, from what the server wrote after `start` bytes of log."""
        with self.log_file.open("rb") as log:
            log.seek(start)
            said = log.read(_LOG_LIMIT).decode(errors="replace")
        if "No space left on device" in said:
            return EmbeddedPostgresError(
                "disk-full",
                f"the database in {self.path} {what}: the disk is full; make room and try again",
            )
        tail = " / ".join(line for line in said.splitlines()[-5:] if line)
        return EmbeddedPostgresError(
            "start-failed",
            f"the database in {self.path} {what}: {tail or 'it said nothing'} "
            f"(all of it: {self.log_file})",
        )


def user_name(uid: int) -> str:
    """Return the name of a user, "" for one without."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def remove_socket_folder(folder: Path) -> None:
    """Remove a socket folder of ours: its name says so, and only a socket's files are in it."""
    if folder.name.startswith("trueup-") and folder.is_dir() and not folder.is_symlink():
        _remove_socket(folder)
        folder.rmdir()


def _remove_socket(folder: Path) -> None:
    for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
        (folder / name).unlink(missing_ok=True)
