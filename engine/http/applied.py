"""What applying resources came to; also told again, out of the log, for a repeated request."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from engine.http.problem import Refusal
from engine.resources.model import Resource
from engine.resources.record import declared, kind_of, stream_of
from events.catalog import Declared, Fact
from events.codec import fact_of
from events.event import START, Event, Position
from events.log import EventLog


class Applied(Struct, frozen=True):
    """What applying one resource came to: created, configured or unchanged; and where it says."""

    kind: str
    project: str
    name: str
    result: str
    position: int


class AppliedAll(Struct, frozen=True):
    """What applying came to, resource by resource."""

    position: int
    results: list[Applied]


async def applied_before(
    log: EventLog, resources: Sequence[Resource], before: Sequence[Event]
) -> AppliedAll:
    """Return what a request with these resources was answered when it wrote `before`."""
    wrote = {event.stream: event.position for event in before}
    results = []
    for resource in resources:
        name = stream_of(resource)
        was, at = await _state(log, resource, before[0].position)
        result = "unchanged"
        if name in wrote:
            result, at = ("configured" if isinstance(was, Declared) else "created"), wrote[name]
        elif not _says(was, declared(resource)):
            raise Refusal(422, "key-reused", f"the first request with this key did not name {name}")
        metadata = resource.metadata
        results.append(Applied(kind_of(resource), metadata.project, metadata.name, result, at))
    return AppliedAll(max(result.position for result in results), results)


async def _state(
    log: EventLog, resource: Resource, before: Position
) -> tuple[Fact | None, Position]:
    """Return the last word on a resource before a position, and where it stands."""
    last: Event | None = None
    after = START
    while page := await log.read(
        after, stream=stream_of(resource), types=["Declared", "Withdrawn"]
    ):
        earlier = [event for event in page if event.position < before]
        last = earlier[-1] if earlier else last
        after = page[-1].position
        if len(earlier) < len(page):
            break
    return (fact_of(last), last.position) if last else (None, START)


def _says(was: Fact | None, wanted: Declared) -> bool:
    """Whether a resource was declared in these words, whoever declared it."""
    return isinstance(was, Declared) and (was.spec, was.labels) == (wanted.spec, wanted.labels)
