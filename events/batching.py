"""What a batch of appends comes to: which are in, where, and which are refused.

Pure. Every log decides here, so that all keep the same promises. Commands are taken one after the
other, as if each had been alone; one that is refused leaves no trace in those after it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from events.codec import encode, type_of
from events.event import ABSENT, Actor, Blob, EventId, NewEvent, Position, StreamName, Version
from events.limits import MAX_BYTES, MAX_PAYLOAD, REMEMBERED, check_blobs, check_events, made_at
from events.log import Appended, IdReused, LogError, WrongVersion

Content = tuple[StreamName, str, int, Actor, Position | None, str, bytes]
"""What an event says, by which a retry is told from another event of the same id.

When it was said and in which trace are left out: a retry that was put together afresh is still a
retry. So is the expected version, which is a condition and no content.
"""


class Prepared(Struct, frozen=True, gc=False):
    """An event ready to be written."""

    new: NewEvent
    type: str
    schema: int
    payload: bytes


class Command(Struct, frozen=True, gc=False):
    """One append: all of its events or none. `size` is in bytes, bodies included."""

    events: tuple[Prepared, ...]
    blobs: tuple[Blob, ...]
    size: int


class Known(Struct, frozen=True):
    """An event that an id stands for already."""

    position: Position
    version: Version
    content: Content


class State(Struct, frozen=True):
    """What a decision is made on: the log at one position.

    `now` is in UTC microseconds. A stream that is not in `versions` has no event, and an id that
    is not in `ids` is new.
    """

    position: Position
    now: int
    versions: Mapping[StreamName, Version]
    ids: Mapping[EventId, Known]


class Row(Struct, frozen=True, gc=False):
    """An event at its place."""

    position: Position
    version: Version
    prepared: Prepared

    @property
    def content(self) -> Content:
        """What it says."""
        item = self.prepared
        new = item.new
        said = (new.stream, item.type, item.schema, new.actor, new.causation, new.correlation)
        return *said, item.payload


class Head(Struct, frozen=True, gc=False):
    """Where a stream was, and where it goes."""

    base: Version
    version: Version
    position: Position


class Decision(Struct, frozen=True):
    """What is to be written, and what each command is told, in the order of the commands."""

    rows: list[Row]
    heads: dict[StreamName, Head]
    outcomes: list[Appended | LogError]


def prepare(events: Sequence[NewEvent], blobs: Collection[Blob]) -> Command:
    """Encode and check an append. Raises ValueError for one that no log could hold."""
    check_events(events)
    check_blobs(blobs)
    prepared = tuple(_prepare(event) for event in events)
    size = sum(len(item.payload) for item in prepared) + sum(len(blob.body) for blob in blobs)
    if size > MAX_BYTES:
        raise ValueError(f"an append of {size} bytes; at most {MAX_BYTES}: split it")
    return Command(prepared, tuple(blobs), size)


def _prepare(event: NewEvent) -> Prepared:
    payload = encode(event.fact)
    name, schema = type_of(event.fact)
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(
            f"{name} on {event.stream} has {len(payload)} bytes; at most {MAX_PAYLOAD}: "
            "split it, or keep its bodies as blobs"
        )
    return Prepared(event, name, schema, payload)


def decide(commands: Sequence[Command], state: State) -> Decision:
    """Give every event of every command its position and version, or refuse the command."""
    rows: list[Row] = []
    versions = dict(state.versions)
    ids: dict[EventId, Known | Row] = dict(state.ids)
    outcomes: list[Appended | LogError] = []
    all_new = not ids and _distinct(commands)
    for command in commands:
        outcome = None if all_new else _retried(command, ids)
        if outcome is None:
            placed = _place(command, versions, state.position + len(rows), state.now)
            if isinstance(placed, LogError):
                outcome = placed
            else:
                rows += placed
                if not all_new:
                    ids.update((row.prepared.new.event_id, row) for row in placed)
                outcome = Appended(
                    tuple([row.position for row in placed]), tuple([row.version for row in placed])
                )
        outcomes.append(outcome)
    return Decision(rows, _heads(rows, state.versions), outcomes)


def needed(commands: Sequence[Command]) -> dict[StreamName, Version | None]:
    """Return the version that each stream must have before these commands; None for any.

    What the first event says that expects something; whether the others agree is for `decide`.
    """
    found: dict[StreamName, Version | None] = {}
    before: dict[StreamName, int] = {}
    for command in commands:
        for item in command.events:
            new = item.new
            number = before.get(new.stream, 0)
            before[new.stream] = number + 1
            if found.setdefault(new.stream, None) is None and new.expected is not None:
                found[new.stream] = Version(new.expected - number)
    return found


def _distinct(commands: Sequence[Command]) -> bool:
    """Whether no id comes twice, as is nearly always so: then nobody can be retrying."""
    ids = [item.new.event_id for command in commands for item in command.events]
    return len(set(ids)) == len(ids)


def _retried(command: Command, ids: Mapping[EventId, Known | Row]) -> Appended | LogError | None:
    """Answer a command that was here before; None for a new one."""
    known = [ids.get(item.new.event_id) for item in command.events]
    if not any(known):
        return None
    positions, versions = [], []
    for item, before in zip(command.events, known, strict=True):
        if before is None:
            return IdReused(
                f"event {item.new.event_id} is new, and others of its append were appended before: "
                "append the same events again, or new ones under new ids"
            )
        if before.content != Row(before.position, before.version, item).content:
            return IdReused(
                f"event id {item.new.event_id} was used before, at position {before.position}, "
                "for another event: give each event an id of its own"
            )
        positions.append(before.position)
        versions.append(before.version)
    return Appended(tuple(positions), tuple(versions))


def _place(
    command: Command, versions: dict[StreamName, Version], after: int, now: int
) -> list[Row] | LogError:
    """Place the events of a command behind `after`, or refuse it and leave `versions` alone."""
    oldest = min([item.new.event_id for item in command.events])  # UUIDv7s sort by their time
    if made_at(oldest) < now // 1000 - REMEMBERED:
        return IdReused(
            f"event id {oldest} was made more than seven days ago, so whether it was "
            "used is no longer known: look whether the event is there, else use a new id"
        )
    rows: list[Row] = []
    ahead: dict[StreamName, Version] = {}
    for item in command.events:
        new = item.new
        stream = new.stream
        before = ahead.get(stream) or versions.get(stream, ABSENT)
        if new.expected is not None and new.expected != before:
            return WrongVersion(stream, new.expected, before)
        after += 1
        ahead[stream] = version = Version(before + 1)
        rows.append(Row(Position(after), version, item))
    versions.update(ahead)
    return rows


def _heads(rows: list[Row], before: Mapping[StreamName, Version]) -> dict[StreamName, Head]:
    last = {row.prepared.new.stream: row for row in rows}
    return {
        stream: Head(before.get(stream, ABSENT), row.version, row.position)
        for stream, row in last.items()
    }
