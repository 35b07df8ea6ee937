"""What goes over the wire: events and documents as JSON, query parameters as values.

Documents keep times in microseconds and names with underscores; people and their tools read
RFC 3339 and camelCase, as in Kubernetes, so it is here, at the edge, that one becomes the other.
A fact's own payload goes out as it is stored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp import web
from msgspec import Struct

from engine.http.problem import Refusal, bad_request, not_found
from engine.resources import duration
from engine.resources.model import NAME_PATTERN
from events.event import Event, Position

MAX_LIMIT = 1000
_TIMES = frozenset({"at", "since", "until"})
_TIME = re.compile(r"[a-z]+(At|Since)")
_SNAKE = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)+")
_VERBATIM = frozenset({"spec", "labels", "payload", "before", "after", "resource"})


def timestamp(micros: int) -> str:
    """Write microseconds since the epoch as RFC 3339 in UTC."""
    seconds, rest = divmod(micros, 1_000_000)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{rest:06d}Z"


def event_json(event: Event) -> dict[str, Any]:
    """Return an event as the API shows it."""
    return {
        "position": event.position,
        "stream": event.stream,
        "version": event.version,
        "id": event.event_id,
        "type": event.type,
        "schema": event.schema,
        "recordedAt": timestamp(event.recorded_at),
        "occurredAt": timestamp(event.occurred_at),
        "actor": event.actor,
        "causation": event.causation,
        "correlation": event.correlation,
        "traceparent": event.traceparent,
        "payload": msgspec.json.decode(event.payload),
    }


def plain(value: object) -> Any:
    """Return structs as plain JSON values, their times as RFC 3339 (null for never)."""
    return _outward(msgspec.to_builtins(value, str_keys=True))


def full(document: Struct) -> dict[str, Any]:
    """Return a struct's own fields, those with their default value too, as plain JSON values."""
    fields = {name: getattr(document, name) for name in document.__struct_fields__}
    result: dict[str, Any] = plain(fields)
    return result


def _outward(value: Any) -> Any:
    if isinstance(value, dict):
        return dict(_member(key, item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return [_outward(item) for item in value]
    return value


def _member(key: str, value: Any) -> tuple[str, Any]:
    if key in _VERBATIM:
        return key, value
    key = outward_name(key)
    if is_time(key) and isinstance(value, int) and not isinstance(value, bool):
        return key, timestamp(value) if value else None
    return key, _outward(value)


def outward_name(name: str) -> str:
    """Return what a field is called outside."""
    if not _SNAKE.fullmatch(name):
        return name
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def is_time(name: str) -> bool:
    """Say whether a field of this outward name has a time, where it has a whole number."""
    return name in _TIMES or _TIME.fullmatch(name) is not None


def reply(body: object, status: int = 200) -> web.Response:
    """Return JSON."""
    return web.Response(
        body=msgspec.json.encode(body), status=status, content_type="application/json"
    )


class Query:
    """The query of a request. Names that no handler asked for are refused by `done`."""

    def __init__(self, request: web.Request) -> None:
        self._values = request.query
        self._asked: set[str] = set()
        for name in set(self._values):
            if len(self._values.getall(name)) > 1:
                raise bad_request(f"{name} is given more than once")

    def text(self, name: str, default: str = "") -> str:
        """Return a parameter as it is written."""
        self._asked.add(name)
        value = self._values.get(name, default)
        if len(value) > 2048 or any(ord(char) < 32 for char in value):
            raise bad_request(f"{name} is too long, or has control characters")
        return value

    def name(self, name: str) -> str:
        """Return the name of a resource, "" where it is not given."""
        value = self.text(name)
        if value and not re.fullmatch(NAME_PATTERN[1:-1], value):
            raise bad_request(f"{name}: {value[:63]!r} is no name of anything here")
        return value

    def word(self, name: str, allowed: tuple[str, ...]) -> str:
        """Return one of the allowed words; the first is the default."""
        value = self.text(name, allowed[0])
        if value not in allowed:
            raise bad_request(f"{name} must be one of {', '.join(allowed)}")
        return value

    def position(self, name: str) -> Position | None:
        """Return a position, None where it is not given."""
        text = self.text(name)
        if not text:
            return None
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise bad_request(f"{name} must be a position: a whole number")
        return Position(int(text))

    def limit(self, default: int) -> int:
        """Return how many items are wanted."""
        text = self.text("limit", str(default))
        if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MAX_LIMIT:
            raise bad_request(f"limit must be a number from 1 to {MAX_LIMIT}")
        return int(text)

    def flag(self, name: str) -> bool:
        """Return a truth value, false where it is not given."""
        return self.word(name, ("false", "true")) == "true"

    def seconds(self, name: str, default: float, most: float) -> float:
        """Return a duration (`30s`, or a bare number of seconds)."""
        text = self.text(name)
        if not text:
            return default
        try:
            value = float(text) if text.replace(".", "", 1).isdigit() else duration.seconds(text)
        except ValueError as error:
            raise bad_request(f"{name}: {error}") from error
        if value > most:
            raise bad_request(f"{name} must be at most {duration.spell(most)}")
        return value

    def done(self) -> None:
        """Refuse what was not asked for: a misspelt filter must not silently show everything."""
        unknown = sorted(set(self._values) - self._asked)
        if unknown:
            known = ", ".join(sorted(self._asked)) or "none"
            raise bad_request(f"unknown parameter {unknown[0]}; known here: {known}")


def check_type(request: web.Request, *types: str) -> None:
    """Refuse a body of a content type that is none of these; no body has none."""
    if not request.body_exists:
        return
    given = request.content_type if "Content-Type" in request.headers else ""
    if given not in types:
        said = f"{given[:100]} is not read here" if given else "the body has no Content-Type"
        raise Refusal(415, "unsupported-type", f"{said}: send {' or '.join(types)}")


def project_of(request: web.Request) -> str:
    """Return the project in the path, "" where there is none; refuse what no project is called."""
    project = request.match_info.get("project", "")
    if project and not re.fullmatch(NAME_PATTERN[1:-1], project):
        raise not_found(f"no project is called {project[:63]!r}")
    return project


async def body_of(request: web.Request) -> dict[str, Any]:
    """Return a request's JSON object; an empty body is an empty object."""
    check_type(request, "application/json")
    data = await request.read()
    if not data:
        return {}
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bad_request(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise bad_request("the body must be a JSON object")
    return value


def whole(value: object) -> int | None:
    """Return a whole number of a body, None for anything else; to JSON, 5 and 5.0 are the same."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def only(body: Mapping[str, Any], *known: str) -> None:
    """Refuse members of a body that nobody reads."""
    unknown = sorted(set(body) - set(known))
    if unknown:
        raise bad_request(f"unknown member {unknown[0]}; known here: {', '.join(known)}")
