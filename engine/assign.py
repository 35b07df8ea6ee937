"""Keeps the targets in step with what is declared: which application goes to which cluster."""

from __future__ import annotations

import logging

from engine.decide.assignment import assignments
from engine.ports import Clock
from events.event import Actor, NewEvent, Position
from events.log import EventLog
from projections.declared import DECLARED, DeclaredDocument
from projections.projection import Reader
from projections.targets import TARGETS, TargetDocument
from projections.views import Views, read_all

logger = logging.getLogger(__name__)
ACTOR = Actor("engine:assigner")
_BATCH = 1000


class Assigner:
    """Appends assignments; one at a time, so that none is made twice."""

    def __init__(self, log: EventLog, views: Views, clock: Clock) -> None:
        self._log, self._views, self._clock = log, views, clock

    async def declared(self, stream: str) -> None:
        """Follow up on a declaration or withdrawal of an application or a cluster."""
        kind, project, _ = stream.split("/", 2)
        async with self._views.snapshot() as reader:
            clusters = await _declared(reader, "Cluster", project)
            if kind == "cluster":
                applications = await _declared(reader, "Application", project)
            else:
                found = await reader.get(DECLARED, stream)
                applications = [found.document] if found else []
            known = {
                application.name: await _targets(reader, application)
                for application in applications
            }
        events = [
            NewEvent(
                event_id=self._clock.event_id(),
                stream=change.target.stream,
                fact=change.fact,
                actor=ACTOR,
                occurred_at=self._clock.now(),
                causation=Position(application.position),
            )
            for application in applications
            for change in assignments(application, clusters, known[application.name])
        ]
        for start in range(0, len(events), _BATCH):
            appended = await self._log.append(events[start : start + _BATCH])
            await self._views.reached(appended.last)


async def _declared(reader: Reader, kind: str, project: str) -> list[DeclaredDocument]:
    found = await read_all(reader, DECLARED, where={"kind": kind})
    return [item.document for item in found if item.document.project == project]


async def _targets(reader: Reader, application: DeclaredDocument) -> list[TargetDocument]:
    stream = f"app/{application.project}/{application.name}"
    found = await read_all(reader, TARGETS, where={"application": stream})
    return [item.document for item in found]
