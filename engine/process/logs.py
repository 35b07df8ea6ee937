"""Structured logs on standard error: one line a record, its extra fields included."""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from engine.telemetry import spans

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SELDOM = 300.0
_CHATTY = ("asyncio", "aiohttp", "kubernetes_asyncio", "urllib3")


def configure(level: str, form: Literal["json", "text"]) -> None:
    """Write records of at least `level` to standard error, as JSON lines or as text."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    handler.addFilter(in_trace)
    handler.addFilter(Seldom("opentelemetry", _SELDOM))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # What these say below a warning is for their own authors.
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


class Seldom(logging.Filter):
    """Lets a library say the same thing once in so many seconds.

    An exporter whose receiver is away says so several times a second, for as long as it is.
    """

    def __init__(self, library: str, seconds: float) -> None:
        super().__init__()
        self._prefix, self._seconds = f"{library}.", seconds
        self._said: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written."""
        if not record.name.startswith(self._prefix):
            return True
        place = (record.pathname, record.lineno)
        last = self._said.get(place)
        if last is not None and 0 <= record.created - last < self._seconds:
            return False
        self._said[place] = record.created
        return True


def in_trace(record: logging.LogRecord) -> bool:
    """Give a record the ids of the span that it was written in."""
    trace_id, span_id = spans.ids()
    if trace_id and not hasattr(record, "trace_id"):
        record.trace_id, record.span_id = trace_id, span_id
    return True


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in record.__dict__.items() if key not in _STANDARD}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class JsonLines(logging.Formatter):
    """A JSON object a line; times in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class TextLines(logging.Formatter):
    """A line for people, in which nothing from outside can forge another line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        extras = "".join(f" {key}={_safe(value)}" for key, value in _extras(record).items())
        message = _safe(record.getMessage())
        text = f"{_time(record)[11:23]} {record.levelname.lower():7} {message}{extras}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


def _safe(value: object) -> str:
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", str(value))
