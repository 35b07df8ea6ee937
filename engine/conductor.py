"""Passes news on: each event, once the views have it, to whoever has to do something about it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import anyio
from msgspec import Struct

from engine.control.controller import Controller
from engine.decide.assignment import application_spec
from engine.ports import Clock
from engine.process.supervise import AWAY, GatheredWork, KeyedWork
from engine.reconcile.assign import Assigner
from engine.reconcile.reconciler import Reconciler
from engine.reconcile.resolve import Resolver
from engine.reconcile.triggers import all_targets, targets_of
from engine.telemetry.log import cause
from events.catalog import Declared, RefMoved, SourceChecked, SyncRequested, Withdrawn
from events.event import Event, Position, StreamName
from projections.declared import DECLARED, DeclaredDocument
from projections.fold import TargetId, target_of
from projections.projection import Reader
from projections.targets import TARGETS
from projections.views import Views, read_all

logger = logging.getLogger(__name__)
_RESOLVE_WIDTH = 4
_OUTAGE_RETRY = 1.0
"""Seconds between looks at a database that cannot be reached."""
_ASSIGN_MOST = 100
"""Declarations that are followed up together: so many are read in one snapshot."""


class News(Struct, frozen=True):
    """What the views have folded since: empty `events` with `missed` mean look at everything."""

    events: Sequence[Event]
    missed: bool = False


class Feed(Protocol):
    """Where news comes from."""

    def subscribe(self) -> AbstractAsyncContextManager[AsyncIterator[News]]:
        """Open a stream of news that starts now."""
        ...


class World(Protocol):
    """The repositories or clusters that are kept up for as long as they are declared."""

    async def put(self, stream: str, declared: DeclaredDocument) -> None:
        """Start following a resource, or follow it as it is declared now."""
        ...

    async def remove(self, stream: str) -> None:
        """Stop following a resource."""
        ...


class Sources(World, Protocol):
    """The repositories."""

    def poke(self, stream: str, requested: Position) -> None:
        """Look at a repository now, because an event at this position asked for it."""
        ...


class Notifications(World, Protocol):
    """The notifications."""

    def heard(self, events: Iterable[Event]) -> None:
        """Pass on what the views have folded."""
        ...

    def missed(self) -> None:
        """Look whether there is something to tell."""
        ...


class Conductor:
    """Starts what is declared and passes news on; run it once the views are caught up."""

    def __init__(
        self,
        feed: Feed,
        views: Views,
        sources: Sources,
        clusters: World,
        notifications: Notifications,
        resolver: Resolver,
        assigner: Assigner,
        controller: Controller,
        reconciler: Reconciler,
        clock: Clock,
    ) -> None:
        self._feed, self._views = feed, views
        self._sources, self._clusters = sources, clusters
        self._notifications = notifications
        self._resolver, self._reconciler = resolver, reconciler
        self._controller, self._clock = controller, clock
        self._retry_failed: set[StreamName] = set()
        self._assign = GatheredWork("assign", assigner.declared, most=_ASSIGN_MOST, clock=clock)
        self._control = KeyedWork("control", controller.look, width=1, clock=clock)
        self._resolve = KeyedWork("resolve", self._resolve_one, width=_RESOLVE_WIDTH, clock=clock)

    async def run(self) -> None:
        """Pass news on for ever."""
        async with self._feed.subscribe() as feed, anyio.create_task_group() as group:
            group.start_soon(self._assign.run)
            group.start_soon(self._control.run)
            group.start_soon(self._resolve.run)
            group.start_soon(self._reconciler.run)
            await self._everything()
            async for news in feed:
                try:
                    if news.missed:
                        await self._everything()
                        self._notifications.missed()
                    else:
                        await self._pass_on(news.events)
                        self._notifications.heard(news.events)
                except AWAY as error:
                    logger.warning("news could not be read", extra={"error": str(error)})
                    await self._everything_at_last()

    async def _everything_at_last(self) -> None:
        """Look at everything as soon as the database can be reached again."""
        while True:
            await self._clock.sleep(_OUTAGE_RETRY)
            with contextlib.suppress(*AWAY):
                await self._everything()
                self._notifications.missed()
                return

    async def _everything(self) -> None:
        """Start from the views: what is declared, and every target once."""
        async with self._views.snapshot() as reader:
            declared = await read_all(reader, DECLARED)
            targets = [target async for target in all_targets(reader)]
            asked = await read_all(reader, TARGETS, where={"request": "open"})
            requests = [
                (target_of(found.key), found.document.request)
                for found in asked
                if found.document.request
            ]
            pokes = [
                (await _repository(reader, target), Position(request.position))
                for target, request in requests
            ]
        for item in declared:
            await self._follow(item.key, item.document)
        for repository, position in pokes:
            self._poke(repository, position)
        for target in targets:
            self._reconciler.queue.add(target)

    async def _pass_on(self, events: Sequence[Event]) -> None:
        async with self._views.snapshot() as reader:
            changed = [
                event.stream
                for event in events
                if event.type in (Declared.__name__, Withdrawn.__name__)
            ]
            declared = await reader.get_many(DECLARED, changed)
            targets = [found async for found in targets_of(reader, events)]
            pokes = [
                (await _repository(reader, target_of(event.stream)), event.position)
                for event in events
                if event.type == SyncRequested.__name__
            ]
        for stream, found in declared.items():
            await self._follow(stream, found.document)
        if declared:
            # What was in the way of a control repository may have gone.
            for refused in self._controller.refused:
                self._control.add(refused)
        for event in events:
            if event.type == RefMoved.__name__:
                self._control.add(event.stream)
                self._resolve.add(event.stream)
            elif event.type == SourceChecked.__name__:
                self._retry_failed.add(event.stream)
                self._resolve.add(event.stream)
        for repository, position in pokes:
            self._poke(repository, position)
        for woken in targets:
            self._reconciler.queue.add(woken.target, first=woken.asked, cause=cause(woken.event))

    async def _follow(self, stream: str, declared: DeclaredDocument) -> None:
        """Do what a declaration, or its end, asks for."""
        match declared.kind:
            case "Repository":
                await _keep(self._sources, stream, declared)
                self._control.add(StreamName(stream))
                self._resolve.add(StreamName(stream))
            case "Cluster":
                await _keep(self._clusters, stream, declared)
                self._assign.add(stream)
            case "Notification":
                await _keep(self._notifications, stream, declared)
            case "Application":
                self._assign.add(stream)
                if not declared.withdrawn:
                    self._resolve.add(_repository_of(declared))

    def _poke(self, repository: StreamName | None, position: Position) -> None:
        if repository is not None:
            self._sources.poke(repository, position)

    async def _resolve_one(self, repository: StreamName) -> None:
        retry_failed = repository in self._retry_failed
        self._retry_failed.discard(repository)
        await self._resolver.resolve(repository, retry_failed=retry_failed)


async def _keep(world: World, stream: str, declared: DeclaredDocument) -> None:
    if declared.withdrawn:
        await world.remove(stream)
    else:
        await world.put(stream, declared)


async def _repository(reader: Reader, target: TargetId) -> StreamName | None:
    found = await reader.get(DECLARED, target.app_stream)
    if found is None or found.document.withdrawn:
        return None
    return _repository_of(found.document)


def _repository_of(application: DeclaredDocument) -> StreamName:
    name = application_spec(application).source.repository
    return StreamName(f"repo/{application.project}/{name}")
