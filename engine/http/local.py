"""What a server leaves in its data folder, so that a command on the same machine finds it.

`server.json` says where the server listens, `token` holds the first token. Both can be read by
their owner only. Imports nothing heavy: the command line reads it at each start.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

import msgspec
from msgspec import Struct

SERVER_FILE = "server.json"
TOKEN_FILE = "token"  # noqa: S105 - a file's name


class Server(Struct, frozen=True):
    """A server on this machine: its base URL, its process, and the file with a token for it."""

    url: str
    pid: int
    token_file: str
    log_id: str = ""
    ca_file: str = ""
    """The certificate that it serves with, where it serves TLS."""


def write_private(path: Path, data: bytes) -> None:
    """Put a file in place at once, whole, readable by its owner only, and on disk for good."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_private(path: Path) -> bytes | None:
    """Read a file that only its owner may read; None where there is none.

    Raises PermissionError where others can read it: then it is no secret any more.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise PermissionError(
                f"{path} can be read by others: make it private (chmod 600) and revoke what it held"
            )
        return file.read(65_536)


def write_server(data_dir: Path, server: Server) -> None:
    """Say that a server runs on this data folder."""
    write_private(data_dir / SERVER_FILE, msgspec.json.encode(server))


def remove_server(data_dir: Path, pid: int) -> None:
    """Take back what `write_server` said, unless another process has said it since."""
    server = read_server(data_dir)
    if server is not None and server.pid == pid:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(data_dir / SERVER_FILE)


def read_server(data_dir: Path) -> Server | None:
    """Return the server of this data folder; None where none says that it runs."""
    try:
        data = read_private(data_dir / SERVER_FILE)
        return None if data is None else msgspec.json.decode(data, type=Server)
    except (OSError, msgspec.MsgspecError):
        return None


def read_token(path: Path) -> str | None:
    """Return the token in a file; None where there is none. Raises OSError."""
    data = read_private(path)
    return data.decode("ascii", "replace").strip() if data is not None else None
