"""Secrets of notifications: read from their files when they are used, and kept nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anyio.to_thread

from engine.settings import is_inside

_LARGEST = 16 * 1024


class SecretUnreadable(Exception):
    """A file that a notification names cannot be used. The message holds nothing of it."""

    code = "secret-unreadable"


async def read_text(path: str, field: str, roots: Sequence[Path]) -> str:
    """Return the text of a file below one of `roots`. Raises `SecretUnreadable`."""
    return await anyio.to_thread.run_sync(_read, path, field, roots)


def _read(path: str, field: str, roots: Sequence[Path]) -> str:
    # One answer for "not there" and "not allowed": nobody can ask which paths exist.
    refused = SecretUnreadable(
        f"{field} cannot be read, or is not below one of the folders in the setting secret_roots"
    )
    if not is_inside(path, roots):
        raise refused
    try:
        with Path(path).resolve(strict=True).open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError:
        raise refused from None
    if len(data) > _LARGEST:
        raise SecretUnreadable(f"{field} is larger than {_LARGEST} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise SecretUnreadable(f"{field} is not text") from None
