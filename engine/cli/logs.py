"""Log lines of an engine, structured, on standard error."""

from __future__ import annotations

import logging
import sys
from typing import Any

import msgspec

from engine.cli.output import safe
from engine.http.wire import timestamp

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, what was given besides, error."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        return msgspec.json.encode(_fields(self, record), enc_hook=str).decode()


class TextLines(logging.Formatter):
    """For eyes: time, level, message, then name=value."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        fields = _fields(self, record)
        head = f"{fields.pop('time')} {fields.pop('level'):<7} {safe(fields.pop('message'))}"
        error = fields.pop("error", "")
        more = " ".join(f"{name}={safe(value)}" for name, value in fields.items())
        return f"{head}  {more}" + (f"\n{error}" if error else "")


def set_up(level: str, shape: str) -> None:
    """Send all logs to standard error from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if shape == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These say at "info" what we say ourselves, or what only their authors need.
    for name in ("asyncio", "aiohttp", "kubernetes_asyncio", "urllib3"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _fields(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "time": timestamp(int(record.created * 1_000_000)),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
    }
    fields |= {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
    if record.exc_info:
        fields["error"] = formatter.formatException(record.exc_info)
    return fields
