"""Keeps the targets in step with what is declared: which application goes to which cluster."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from engine.decide.assignment import assignments
from engine.ports import Clock
from engine.telemetry import spans
from engine.telemetry.log import link_to
from events.event import Actor, NewEvent, Position
from events.log import EventLog
from projections.declared import DECLARED, DeclaredDocument
from projections.projection import Reader
from projections.targets import TARGETS
from projections.views import Views, read_all, read_among

logger = logging.getLogger(__name__)
ACTOR = Actor("engine:assigner")
_BATCH = 1000
_CLUSTERS = {"kind": "Cluster"}


class Assigner:
    """Appends assignments; one at a time, so that none is made twice."""

    def __init__(self, log: EventLog, views: Views, clock: Clock) -> None:
        self._log, self._views, self._clock = log, views, clock

    async def declared(self, streams: Sequence[str]) -> None:
        """Follow up on declarations and withdrawals of applications and clusters."""
        async with self._views.snapshot() as reader:
            clusters = [item.document for item in await read_all(reader, DECLARED, where=_CLUSTERS)]
            applications = await _applications(reader, streams)
            found = await read_among(reader, TARGETS, "application", applications)
            known = {stream: [item.document for item in some] for stream, some in found.items()}
        events = [
            NewEvent(
                event_id=self._clock.event_id(),
                stream=change.target.stream,
                fact=change.fact,
                actor=ACTOR,
                occurred_at=self._clock.now(),
                causation=Position(application.position),
            )
            for stream, application in applications.items()
            for change in assignments(application, clusters, known[stream])
        ]
        if not events:
            return
        with spans.span("assign", {"trueup.targets": len(events)}, root=True):
            await link_to(self._log, {event.causation or 0 for event in events})
            for start in range(0, len(events), _BATCH):
                appended = await self._log.append(events[start : start + _BATCH])
                await self._views.reached(appended.last)


async def _applications(reader: Reader, streams: Iterable[str]) -> dict[str, DeclaredDocument]:
    """Return what is to be looked at, by stream: where a cluster is named, all of its project."""
    projects = {stream.split("/", 2)[1] for stream in streams if stream.startswith("cluster/")}
    named = [stream for stream in streams if stream.startswith("app/")]
    found = list((await reader.get_many(DECLARED, named)).values())
    if projects:
        found += await read_all(reader, DECLARED, where={"kind": "Application"})
    return {
        item.key: item.document
        for item in found
        if item.key in named or item.document.project in projects
    }
