"""The position of the caller's last write, for each server, so that `wait` can wait past it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
from msgspec import Struct

from engine.http.local import write_private


class LastWrite(Struct, frozen=True):
    """Where a server put the last write. `log_id` tells whether it still keeps the same log."""

    server: str
    log_id: str
    position: int


def last_write(state_dir: Path, server: str, log_id: str) -> int:
    """Return the position of the last write to this log through this server; 0 for none."""
    known = _read(_path(state_dir, server))
    return known.position if known is not None and known.log_id == log_id else 0


def remember(state_dir: Path, server: str, log_id: str, position: int) -> None:
    """Note a write; an earlier one never replaces a later one. Raises OSError."""
    if position > last_write(state_dir, server, log_id):
        data = msgspec.json.encode(LastWrite(server, log_id, position))
        write_private(_path(state_dir, server), data)


def _path(state_dir: Path, server: str) -> Path:
    name = hashlib.sha256(server.encode()).hexdigest()[:16]
    return state_dir / "last-write" / f"{name}.json"


def _read(path: Path) -> LastWrite | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=LastWrite)
    except (OSError, msgspec.MsgspecError):
        return None
