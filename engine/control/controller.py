"""Control repositories: what their commits declare is put in force, all of it or nothing."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

import anyio.to_thread
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from engine.admission import (
    Objection,
    Roots,
    check_references,
    check_roots,
    governors,
    streams_of,
    users_of,
)
from engine.control.configuration import read_configuration
from engine.decide.control import Control, Plan, plan
from engine.ports import Clock, RenderRefused, Tree
from engine.process.supervise import TryLater
from engine.resources.model import RepositorySpec
from engine.resources.parse import Located, Problem, Refused, field_name
from engine.telemetry import spans
from engine.telemetry.log import link_to
from events.catalog import ConfigurationApplied, ConfigurationRefused, Fact, Withdrawn
from events.event import Actor, NewEvent, Position, StreamName, Version
from events.log import EventLog, WrongVersion
from events.vocabulary import ConfigurationProblem
from projections.commits import COMMITS, commit_key
from projections.declared import DECLARED, DeclaredDocument
from projections.projection import Reader
from projections.sources import SOURCES, Configuration, SourceDocument
from projections.views import Views, read_all

logger = logging.getLogger(__name__)
ACTOR = Actor("engine:control")
TRIES = 20
MAX_PROBLEMS = 20
_LONGEST = 500


class Trees(Protocol):
    """The commits of the repositories that are followed now."""

    async def tree(self, repository: str, commit: str) -> Tree:
        """Return a commit of a repository's stream; raises `RenderRefused` without it."""
        ...

    async def changes(
        self, repository: str, old: str, new: str, paths: Collection[str]
    ) -> Mapping[str, str]:
        """Name the newest commit after `old` that changed each path, as far as can be told."""
        ...


class Busy(TryLater):
    """Others wrote to the same resources all the time."""

    code = "busy"


class Credit(Struct, frozen=True):
    """Whose change it is: the commit, its author's pseudonym, and the event that told of it."""

    commit: str
    author: Actor
    cause: Position


class Standing(Struct, frozen=True):
    """What is known of a control repository at one position: its commit, and how to read it."""

    stream: StreamName
    declared: int
    spec: RepositorySpec
    source: SourceDocument

    @property
    def configuration(self) -> Configuration:
        """What of it is in force, and what is refused."""
        return self.source.configuration or Configuration()

    @property
    def is_settled(self) -> bool:
        """Whether this commit, read in this way, is in force already."""
        known = self.configuration
        return (
            known.refused is None
            and known.commit == self.source.commit
            and known.declared >= self.declared
        )


class Controller:
    """Brings what is declared to what control repositories say; one repository at a time."""

    def __init__(
        self, log: EventLog, views: Views, trees: Trees, roots: Roots, clock: Clock
    ) -> None:
        self._log, self._views, self._trees = log, views, trees
        self._roots, self._clock = roots, clock
        self.refused: set[StreamName] = set()
        """The repositories whose last commit is refused: look again when others change."""

    async def look(self, repository: StreamName) -> None:
        """Put a repository's last commit in force, or record why it cannot be.

        Does nothing where it is no control repository. Raises `Unreadable` or `Busy`, after which
        it is to be tried again.
        """
        async with self._views.snapshot() as reader:
            standing = await _standing(reader, repository)
        if standing is None or standing.is_settled:
            self.refused.discard(repository)
            return
        said = {
            "vcs.repository.name": repository.partition("/")[2],
            "vcs.ref.head.revision": standing.source.commit,
        }
        with spans.span("configure", said, root=True):
            await link_to(self._log, [standing.source.moved])
            await self._follow(standing)

    async def _follow(self, standing: Standing) -> None:
        repository = standing.stream
        try:
            tree = await self._trees.tree(repository, standing.source.commit)
            wanted = await read_configuration(tree, standing.spec.control_path)
        except RenderRefused as missing:
            logger.info("%s waits: %s", repository, missing.message)
            return
        except Refused as refused:
            await self._refuse(standing, refused.problems)
            return
        # Links on the way are followed, which may take a disk's time.
        outside = await anyio.to_thread.run_sync(_outside, self._roots, wanted)
        if outside:
            await self._refuse(standing, outside)
            return
        await self._take(standing, wanted)

    async def _take(self, standing: Standing, wanted: Sequence[Located]) -> None:
        before: Plan | None = None
        versions: dict[StreamName, Version] = {}
        for _ in range(TRIES):
            await self._views.reached(await self._log.head())
            async with self._views.snapshot() as reader:
                now = await _standing(reader, standing.stream)
                if now is None or _read_by(now) != _read_by(standing):
                    return  # It moved on, and whoever moved it asked for another look.
                found = await self._plan(reader, now, wanted)
            if found.problems:
                await self._refuse(now, found.problems)
                return
            # The versions were read before this plan was made, or it is made once more.
            if before is not None and found == before:
                try:
                    await self._append(now, found, len(wanted), versions)
                except WrongVersion:
                    pass
                else:
                    self.refused.discard(standing.stream)
                    return
            before = found
            streams = {standing.stream, *(change.stream for change in found.changes)}
            versions = {name: await self._log.version(name) for name in streams}
        raise Busy(f"others write to what {standing.stream} declares all the time")

    async def _plan(self, reader: Reader, standing: Standing, wanted: Sequence[Located]) -> Plan:
        own = await read_all(reader, DECLARED, where={"owner": standing.stream})
        resources = [item.resource for item in wanted]
        known: dict[str, DeclaredDocument] = {item.key: item.document for item in own}
        others = await reader.get_many(DECLARED, streams_of(resources))
        known |= {key: item.document for key, item in others.items()}
        owners = {document.owner for document in known.values()} - {""}
        control = Control(
            stream=standing.stream,
            commit=standing.source.commit,
            place=standing.spec.control_path,
            allow_empty=standing.spec.control_allow_empty,
        )
        governing = await governors(reader, owners)
        found = await anyio.to_thread.run_sync(plan, control, wanted, known, governing)
        objections = await check_references(reader, resources, found.leaving)
        problems = [
            *found.problems,
            *_placed(objections, wanted),
            *await _in_use(reader, found, resources_besides=streams_of(resources)),
        ]
        return replace(found, problems=tuple(problems))

    async def _append(
        self,
        standing: Standing,
        found: Plan,
        resources: int,
        versions: dict[StreamName, Version],
    ) -> None:
        withdrawn = len(found.leaving)
        last = ConfigurationApplied(
            commit=standing.source.commit,
            declared=standing.declared,
            resources=resources,
            changed=len(found.changes) - withdrawn,
            withdrawn=withdrawn,
            after_refusal=standing.configuration.refused is not None,
        )
        known = standing.configuration
        if not found.changes and known.commit == last.commit and known.refused is None:
            return  # Another way of reading that says the same.
        credit = await self._credits(standing, {change.file for change in found.changes})
        events = [
            replace(
                self._event(
                    standing,
                    change.stream,
                    replace(change.fact, commit=credit[change.file].commit),
                    credit[change.file].author,
                    versions[change.stream],
                ),
                causation=credit[change.file].cause,
            )
            for change in found.changes
        ]
        own = Version(
            versions[standing.stream] + sum(event.stream == standing.stream for event in events)
        )
        events.append(self._event(standing, standing.stream, last, ACTOR, own))
        appended = await self._log.append(events)
        await self._views.reached(appended.last)

    async def _credits(self, standing: Standing, files: set[str]) -> dict[str, Credit]:
        """Say for each file which commit changed it last since the one that is in force."""
        project = standing.stream.split("/", 2)[1]
        tip = standing.source.commit
        told: Mapping[str, str] = {}
        if files and standing.configuration.commit:
            old = standing.configuration.commit
            told = await self._trees.changes(standing.stream, old, tip, files)
        keys = {commit_key(project, commit) for commit in (tip, *told.values())}
        async with self._views.snapshot() as reader:
            commits = await reader.get_many(COMMITS, keys)

        def credit(commit: str) -> Credit:
            found = commits.get(commit_key(project, commit))
            if found is None or not found.document.position:
                # Only a ref named it: its author is not known.
                return Credit(tip, ACTOR, Position(standing.source.moved))
            document = found.document
            return Credit(commit, Actor(document.author), Position(document.position))

        return {file: credit(told.get(file, tip)) for file in files}

    async def _refuse(self, standing: Standing, problems: Sequence[Problem]) -> None:
        """Say why a commit is not in force, unless that is what was said last."""
        self.refused.add(standing.stream)
        fact = ConfigurationRefused(
            commit=standing.source.commit,
            declared=standing.declared,
            problems=tuple(map(_recorded, problems[:MAX_PROBLEMS])),
            omitted=max(0, len(problems) - MAX_PROBLEMS),
        )
        before = standing.configuration.refused
        if before is not None and (before.commit, before.problems, before.omitted) == (
            fact.commit,
            fact.problems,
            fact.omitted,
        ):
            return
        event = self._event(standing, standing.stream, fact, ACTOR, None)
        appended = await self._log.append([event])
        await self._views.reached(appended.last)

    def _event(
        self,
        standing: Standing,
        stream: StreamName,
        fact: Fact,
        actor: Actor,
        expected: Version | None,
    ) -> NewEvent:
        return NewEvent(
            event_id=self._clock.event_id(),
            stream=stream,
            fact=fact,
            actor=actor,
            occurred_at=self._clock.now(),
            expected=expected,
            causation=Position(standing.source.moved),
            correlation=standing.source.commit,
        )


async def _standing(reader: Reader, repository: StreamName) -> Standing | None:
    declared = await reader.get(DECLARED, repository)
    source = await reader.get(SOURCES, repository)
    if declared is None or declared.document.withdrawn or source is None:
        return None
    spec = msgspec.convert(declared.document.spec, RepositorySpec)
    if not spec.control or not source.document.commit:
        return None
    return Standing(repository, declared.document.position, spec, source.document)


def _read_by(standing: Standing) -> tuple[str, RepositorySpec]:
    return standing.source.commit, standing.spec


async def _in_use(
    reader: Reader, found: Plan, *, resources_besides: set[StreamName]
) -> list[Problem]:
    """Object to the end of what others still name; what comes or goes along is no other."""
    besides = resources_besides | found.leaving
    problems = []
    for change in found.changes:
        if not isinstance(change.fact, Withdrawn):
            continue
        users = await users_of(reader, change.fact.kind, change.stream, besides)
        if users:
            shown = ", ".join(users[:5]) + (f" and {len(users) - 5} more" if users[5:] else "")
            name = change.stream.split("/", 2)[2]
            message = f"no longer declares {change.fact.kind} {name}, which is named by {shown}"
            problems.append(Problem(change.file, 0, "", message, "change what names it first"))
    return problems


def _outside(roots: Roots, wanted: Sequence[Located]) -> list[Problem]:
    return _placed(check_roots(roots, [item.resource for item in wanted]), wanted)


def _placed(objections: Iterable[Objection], wanted: Sequence[Located]) -> list[Problem]:
    places = {id(item.resource): item for item in wanted}
    return [
        Problem(
            places[id(found.resource)].file,
            places[id(found.resource)].line_of(found.path),
            field_name(found.path),
            found.message,
            found.hint,
        )
        for found in objections
    ]


def _recorded(problem: Problem) -> ConfigurationProblem:
    return ConfigurationProblem(
        file=problem.file[:_LONGEST],
        line=problem.line,
        field=problem.field[:_LONGEST],
        message=problem.message[:_LONGEST],
        hint=problem.hint[:_LONGEST],
    )
