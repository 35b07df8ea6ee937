"""Small views that several tests fold, and the events that they are folded from.

One event type serves: `parents` names the documents, `subject` says what is done to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from engine.process.clock import SystemClock
from events.catalog import CommitSeen, Fact, ProjectionParked, RefMoved
from events.event import Actor, Event, NewEvent, StreamName
from projections.batch import Group

CLOCK = SystemClock()


class Tally(Struct, frozen=True):
    """How often a key was named, and by whom last."""

    count: int
    last: str
    sum: int


class Tallies:
    """One document a key; several keys an event; `remove` takes away, `boom` cannot be folded."""

    name = "tallies"
    version = 1
    document: type[Tally] = Tally
    types = frozenset({CommitSeen.__name__})
    indexes: tuple[str, ...] = ("parity", "last", "size")
    snapshot_every = 3
    present_only: tuple[str, ...] = ()

    def keys(self, event: Event, fact: Fact) -> Iterable[str]:
        assert isinstance(fact, CommitSeen)
        if fact.subject == "unknowable":
            raise LookupError("no keys")
        return fact.parents

    def apply(self, key: str, document: Tally | None, event: Event, fact: Fact) -> Tally | None:
        assert isinstance(fact, CommitSeen)
        if fact.subject == "boom":
            raise ValueError(f"boom at {key}")
        if fact.subject == "remove":
            return None
        if fact.subject == "unstorable":
            return Tally(1, "\0", 0)
        before = document or Tally(0, "", 0)
        return Tally(before.count + 1, fact.commit, before.sum + event.position)

    def index(self, document: Tally) -> tuple[str | None, ...]:
        parity = "odd" if document.count % 2 else "even"
        return (parity, check(document.last), None if document.count < 3 else "big")

    def subject(self, key: str) -> str | None:
        return f"key/{key}"


def check(text: str) -> str:
    """Refuse what could not be stored, as a view's own code might."""
    if text == "\0":
        raise ValueError("unstorable")
    return text


class Heads(Struct, frozen=True):
    """The commit of a stream, and the fold of all positions."""

    commit: str
    trail: tuple[int, ...]


class Streams:
    """One document a stream, of two event types."""

    name = "streams"
    version = 1
    document: type[Heads] = Heads
    types = frozenset({CommitSeen.__name__, RefMoved.__name__})
    indexes: tuple[str, ...] = ()
    snapshot_every = 4
    present_only: tuple[str, ...] = ()

    def keys(self, event: Event, fact: Fact) -> Iterable[str]:
        return (event.stream,)

    def apply(self, key: str, document: Heads | None, event: Event, fact: Fact) -> Heads | None:
        assert isinstance(fact, CommitSeen | RefMoved)
        trail = document.trail if document else ()
        return Heads(fact.commit, (*trail[-4:], event.position))

    def index(self, document: Heads) -> tuple[str | None, ...]:
        return ()

    def subject(self, key: str) -> str | None:
        return None


class About:
    """Every event under its stream, and under the commits and keys that it names."""

    name = "about"
    version = 1
    types: frozenset[str] | None = None

    def subjects(self, event: Event, fact: Fact) -> Iterable[str]:
        yield event.stream
        if isinstance(fact, CommitSeen):
            if fact.subject == "unfiled":
                raise LookupError("no subjects")
            yield f"commit/{fact.commit}"
            # Keys that cannot be stored are no documents either.
            yield from (f"key/{key}" for key in fact.parents if "\0" not in key and len(key) < 500)
        if isinstance(fact, ProjectionParked):
            yield f"view/{fact.view}"


TALLIES, STREAMS, ABOUT = Tallies(), Streams(), About()


def toy_group() -> Group:
    """All toy views."""
    return Group([TALLIES, STREAMS], [ABOUT])


def named(keys: Sequence[str], what: str = "add", commit: str = "c", on: str = "a") -> NewEvent:
    """An event that names some documents of `tallies`."""
    return new(CommitSeen(commit, parents=tuple(keys), subject=what), on)


def moved(commit: str, on: str = "a") -> NewEvent:
    """An event that only `streams` and `about` want."""
    return new(RefMoved(ref="main", commit=commit), on)


def new(fact: Fact, on: str) -> NewEvent:
    return NewEvent(
        event_id=CLOCK.event_id(),
        stream=StreamName(f"repo/default/{on}"),
        fact=fact,
        actor=Actor("user:test"),
        occurred_at=CLOCK.now(),
    )
