"""Finds out what a commit means: which applications it touches, and what they render to."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Protocol

import anyio
import msgspec
from msgspec import Struct

from engine.decide.assignment import application_spec
from engine.ports import Clock, Owner, Renderer, RenderRefused, Tree
from engine.telemetry import spans
from engine.telemetry.instruments import RENDER_DURATION
from engine.telemetry.log import link_to
from events.catalog import DesiredRendered, Fact, RenderFailed, RevisionResolved
from events.event import Actor, Blob, Digest, NewEvent, Position, StreamName, blob
from events.log import EventLog
from projections.declared import DECLARED, DeclaredDocument
from projections.desired import DESIRED, DesiredDocument
from projections.projection import Reader
from projections.sources import SOURCES, SourceDocument
from projections.views import Views, read_all

logger = logging.getLogger(__name__)
ACTOR = Actor("engine:renderer")
_WIDTH = 2
"""How many applications of one repository render at the same time: rendering is CPU's work."""

_PORTION, _PORTION_BYTES = 50, 4 * 1024 * 1024
"""How many renders, or bytes of bodies, go into the log together."""


class Trees(Protocol):
    """The commits of the repositories that are followed now."""

    async def tree(self, repository: str, commit: str) -> Tree:
        """Return a commit of a repository's stream; raises `RenderRefused` without it."""
        ...


class Evaluated(Struct, frozen=True):
    """What a commit means for one application: a fact and its bodies, or nothing new."""

    application: DeclaredDocument
    fact: Fact | None
    blobs: tuple[Blob, ...] = ()


class Resolver:
    """Resolves repositories, one pass at a time each."""

    def __init__(
        self, log: EventLog, views: Views, trees: Trees, renderer: Renderer, clock: Clock
    ) -> None:
        self._log, self._views, self._trees = log, views, trees
        self._renderer, self._clock = renderer, clock

    async def resolve(self, repository: StreamName, *, retry_failed: bool = False) -> None:
        """Bring every application of a repository to the commit that its ref names.

        `retry_failed` renders again what failed, though nothing that it depends on changed.
        """
        async with self._views.snapshot() as reader:
            found = await reader.get(SOURCES, repository)
            if found is None or not found.document.commit:
                return
            source = found.document
            applications = await _applications(reader, repository)
            keys = [_stream(application) for application in applications]
            desired = await reader.get_many(DESIRED, keys)
        is_new = source.resolved != source.commit
        todo: list[tuple[DeclaredDocument, DesiredDocument]] = []
        for application in applications:
            stored = desired.get(_stream(application))
            known = stored.document if stored else DesiredDocument()
            if is_new or _is_due(application, known, retry_failed):
                todo.append((application, known))
        if not todo and not is_new:
            return
        said: spans.Attributes = {
            "vcs.repository.name": repository.partition("/")[2],
            "vcs.ref.head.name": source.ref,
            "vcs.ref.head.revision": source.commit,
            "trueup.applications": len(todo),
        }
        with spans.span("resolve", said, root=True):
            declared = [application.position for application, _ in todo]
            await link_to(self._log, [source.moved, *declared])
            await self._resolve(repository, source, todo, is_new, retry_failed)

    async def _resolve(
        self,
        repository: StreamName,
        source: SourceDocument,
        todo: list[tuple[DeclaredDocument, DesiredDocument]],
        is_new: bool,
        retry_failed: bool,
    ) -> None:
        tree = await self._trees.tree(repository, source.commit)
        evaluated: list[Evaluated] = []
        width = anyio.Semaphore(_WIDTH)

        async def one(application: DeclaredDocument, known: DesiredDocument) -> None:
            said = {"trueup.application": f"{application.project}/{application.name}"}
            async with width:
                began = self._clock.monotonic()
                labels: dict[str, str | int] = {}
                with spans.span("render", said) as span:
                    found = await self._evaluate(tree, application, known, retry_failed)
                    if isinstance(found.fact, RenderFailed):
                        spans.failed(span, found.fact.code)
                        labels["error.type"] = found.fact.code
                    elif isinstance(found.fact, DesiredRendered):
                        spans.annotate(
                            {
                                "trueup.renderer": found.fact.renderer,
                                "trueup.objects": found.fact.count,
                            }
                        )
                RENDER_DURATION.record(self._clock.monotonic() - began, labels)
                evaluated.append(found)

        async with anyio.create_task_group() as group:
            for application, known in todo:
                group.start_soon(one, application, known)
        last = Position(0)
        rendered: list[str] = []
        failed: list[str] = []
        for some in _portions(sorted(evaluated, key=lambda item: _stream(item.application))):
            events: list[NewEvent] = []
            for item in some:
                assert item.fact is not None
                name = f"{item.application.project}/{item.application.name}"
                (failed if isinstance(item.fact, RenderFailed) else rendered).append(name)
                events.append(self._event(_stream(item.application), item.fact, source, name))
            bodies = {body.digest: body for item in some for body in item.blobs}
            last = (await self._log.append(events, list(bodies.values()))).last
        if is_new:
            fact = RevisionResolved(source.commit, tuple(rendered), tuple(failed))
            event = self._event(repository, fact, source, "")
            last = (await self._log.append([event])).last
        if last:
            await self._views.reached(last)

    def _event(self, stream: StreamName, fact: Fact, source: SourceDocument, name: str) -> NewEvent:
        return NewEvent(
            event_id=self._clock.event_id(),
            stream=stream,
            fact=fact,
            actor=ACTOR,
            occurred_at=self._clock.now(),
            causation=Position(source.moved),
            correlation=f"{name}@{source.commit[:12]}" if name else source.commit,
        )

    async def _evaluate(
        self,
        tree: Tree,
        application: DeclaredDocument,
        known: DesiredDocument,
        retry_failed: bool,
    ) -> Evaluated:
        spec = application_spec(application)
        owner = Owner(self._log.log_id, application.project, application.name)
        inputs = ""
        is_declared_anew = _evaluated(known) < application.position
        try:
            inputs = await self._renderer.inputs(tree, spec.source.path, spec.render, owner)
            failed_inputs = known.failure.inputs if known.failure else None
            if inputs == failed_inputs and not is_declared_anew and not retry_failed:
                return Evaluated(application, None)
            if inputs == known.inputs and known.position:
                if not is_declared_anew and known.failure is None:
                    return Evaluated(application, None)
                return Evaluated(application, _again(known, tree.commit, application.position))
            render = await self._renderer.render(tree, spec.source.path, spec.render, owner)
        except RenderRefused as refused:
            return self._failed(tree.commit, application, known, inputs, refused)
        listing = blob(msgspec.json.encode(render.objects))
        fact = DesiredRendered(
            commit=tree.commit,
            declared=application.position,
            inputs=inputs,
            renderer=render.renderer,
            objects=listing.digest,
            count=len(render.objects),
            after_failure=known.failure is not None,
        )
        bodies = [Blob(Digest(digest), body) for digest, body in render.bodies.items()]
        return Evaluated(application, fact, (listing, *bodies))

    def _failed(
        self,
        commit: str,
        application: DeclaredDocument,
        known: DesiredDocument,
        inputs: str,
        refused: RenderRefused,
    ) -> Evaluated:
        failure = known.failure
        same = failure is not None and (
            (failure.code, failure.message, failure.file, failure.inputs)
            == (refused.code, refused.message, refused.file, inputs)
        )
        if same and _evaluated(known) >= application.position:
            return Evaluated(application, None)
        return Evaluated(
            application,
            RenderFailed(
                commit=commit,
                declared=application.position,
                inputs=inputs,
                code=refused.code,
                message=refused.message,
                file=refused.file,
                document=refused.document,
                line=refused.line,
            ),
        )


def _portions(evaluated: Iterable[Evaluated]) -> Iterator[list[Evaluated]]:
    """Divide what is news into appends: a few at a time are as durable as each by itself."""
    portion: list[Evaluated] = []
    size = 0
    for item in evaluated:
        if item.fact is None:
            continue
        portion.append(item)
        size += sum(len(body.body) for body in item.blobs)
        if len(portion) == _PORTION or size >= _PORTION_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _again(known: DesiredDocument, commit: str, declared: int) -> DesiredRendered:
    """Return a render whose inputs did not change, for another commit or declaration."""
    return DesiredRendered(
        commit=commit,
        declared=declared,
        inputs=known.inputs,
        renderer=known.renderer,
        objects=known.objects,
        count=known.count,
        after_failure=known.failure is not None,
    )


def _evaluated(known: DesiredDocument) -> int:
    return max(known.declared, known.failure.declared if known.failure else 0)


def _is_due(application: DeclaredDocument, known: DesiredDocument, retry_failed: bool) -> bool:
    return _evaluated(known) < application.position or (retry_failed and known.failure is not None)


def _stream(application: DeclaredDocument) -> StreamName:
    return StreamName(f"app/{application.project}/{application.name}")


async def _applications(reader: Reader, repository: str) -> list[DeclaredDocument]:
    found = await read_all(reader, DECLARED, where={"repository": repository})
    return [item.document for item in found]
