"""Histories that earlier releases wrote, as logs to be read: events, and the bodies they name."""

from __future__ import annotations

from pathlib import Path

import msgspec

from events.event import Digest, Event, Position
from events.memory import MemoryLog

FOLDER = Path(__file__).parent / "histories"
BODIES = FOLDER / "bodies"


class Line(msgspec.Struct):
    """A line of a history: an event, its payload as JSON as it was written."""

    position: int
    stream: str
    version: int
    event_id: str
    type: str
    schema: int
    recorded_at: int
    occurred_at: int
    actor: str
    causation: int | None
    correlation: str
    traceparent: str
    payload: msgspec.Raw


class Body(msgspec.Struct):
    """A line of a history's bodies."""

    digest: str
    body: str


def names() -> list[str]:
    """Name the histories."""
    return sorted(path.stem for path in FOLDER.glob("*.jsonl"))


def with_bodies() -> list[str]:
    """Name the histories whose bodies were kept too, so that decisions can be made again."""
    return sorted(path.stem for path in BODIES.glob("*.jsonl"))


def events_in(path: Path) -> list[Event]:
    """Read a history."""
    return [_event(line) for line in path.read_bytes().splitlines()]


def history(name: str) -> list[Event]:
    """Read a history by its name."""
    return events_in(FOLDER / f"{name}.jsonl")


def log_of(name: str) -> FrozenLog:
    """Return a history as a log, with the bodies that were kept of it."""
    log = FrozenLog(history(name))
    log.take_bodies(BODIES / f"{name}.jsonl")
    return log


class FrozenLog(MemoryLog):
    """A log that has these events just as they were written."""

    def __init__(self, events: list[Event]) -> None:
        super().__init__(lambda: events[-1].recorded_at)
        for event in events:
            assert event.position == Position(len(self._events) + 1), "a history has no hole"
            self._events.append(event)
            self._streams[event.stream].append(event)

    def take_bodies(self, path: Path) -> None:
        """Have these bodies too."""
        for line in path.read_bytes().splitlines():
            body = msgspec.json.decode(line, type=Body)
            self._blobs[Digest(body.digest)] = body.body.encode()


def _event(line: bytes) -> Event:
    read = msgspec.json.decode(line, type=Line)
    fields = {field: getattr(read, field) for field in read.__struct_fields__}
    return Event(**{**fields, "payload": bytes(read.payload)})
