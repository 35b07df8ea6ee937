"""Follows one declared repository: looks, compares with what is recorded, records the news."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import anyio
from msgspec import Struct
from msgspec.structs import replace

from engine.people import People
from engine.ports import Clock
from engine.resources.model import GitRef
from engine.sources.failure import SourceError
from engine.sources.fetch import Tip
from engine.sources.history import CommitInfo
from engine.sources.mirror import Mirror
from engine.telemetry import spans
from engine.telemetry.instruments import FETCH_DURATION
from engine.telemetry.log import link_to
from events.catalog import (
    CommitSeen,
    Fact,
    RefMoved,
    SourceChecked,
    SourceFailed,
    SourceRecovered,
)
from events.event import Actor, Micros, NewEvent, Position, StreamName
from events.log import EventLog, LogUnavailable
from events.vocabulary import SealedActor

logger = logging.getLogger(__name__)
ACTOR = Actor("engine:sources")
_JITTER = 0.1
_SLOWEST = 300.0
"""The longest wait, in seconds, between looks at a repository that cannot be read."""


class SourceState(Struct, frozen=True):
    """What was last recorded of a repository; "" where nothing was."""

    ref: str = ""
    commit: str = ""
    failure_code: str = ""
    failure_message: str = ""


class Followed(Struct, frozen=True):
    """What is followed, every `interval` seconds; one look records `commits` commits at most."""

    stream: StreamName
    ref: GitRef
    interval: float
    commits: int = 1000


class RepositoryFollower:
    """Appends what happens to one repository.

    `state` is what the log says of it: of another URL's past nothing should be in it.
    """

    def __init__(
        self,
        followed: Followed,
        mirror: Mirror,
        log: EventLog,
        clock: Clock,
        state: SourceState,
        people: People,
    ) -> None:
        self._followed, self._mirror, self._log, self._clock = followed, mirror, log, clock
        self._people = people
        self._state = state
        self._requested: list[Position] = []
        self._poked = anyio.Event()
        self._unwritten: tuple[list[NewEvent], SourceState] | None = None
        self._failures = 0

    @property
    def state(self) -> SourceState:
        """What is recorded by now."""
        return self._state

    def poke(self, requested: Position | None = None) -> None:
        """Ask for a look now; `requested` is the event that asked, and is answered in the log."""
        if requested is not None and requested not in self._requested:
            self._requested.append(requested)
        self._poked.set()

    async def run(self) -> None:
        """Look at the interval, give or take a tenth, and whenever poked; for ever."""
        while True:
            self._poked = anyio.Event()
            requested, self._requested = self._requested, []
            try:
                await self._look(requested)
            except LogUnavailable:
                logger.warning("the log is away; %s waits", self._followed.stream)
                self._failures += 1
                self._requested = requested + self._requested
            await self._wait()

    async def check(self, requested: Position | None = None) -> None:
        """Look once. Raises what the log raises; what the repository does is recorded instead."""
        await self._look([] if requested is None else [requested])

    async def _look(self, requested: Sequence[Position]) -> None:
        if self._unwritten is not None:
            # An append whose end is unknown: the same events again, before anything else.
            await self._write(*self._unwritten)
        name = self._followed.stream.partition("/")[2]
        with spans.span("fetch", {"vcs.repository.name": name}, root=True) as span:
            await link_to(self._log, requested, "request")
            began = self._clock.monotonic()
            labels: dict[str, str | int] = {}
            try:
                tip = await self._mirror.fetch(self._followed.ref)
                news = await self._news(tip, requested)
            except SourceError as error:
                self._failures += 1
                spans.failed(span, error.code)
                labels["error.type"] = error.code
                news = self._failed(error, requested)
            else:
                self._failures = 0
                spans.annotate({"vcs.ref.head.name": tip.ref, "vcs.ref.head.revision": tip.commit})
            FETCH_DURATION.record(self._clock.monotonic() - began, labels)
            await self._write(*news)

    async def _news(
        self, tip: Tip, requested: Sequence[Position]
    ) -> tuple[list[NewEvent], SourceState]:
        """Say what is new since the recorded state."""
        known = self._state
        events: list[NewEvent] = []
        if tip.rebuilt and not known.failure_code:
            failure = SourceFailed("mirror-broken", "the mirror was damaged, and was cloned again")
            events.append(self._event(failure))
        if tip.rebuilt or known.failure_code:
            events.append(self._event(SourceRecovered()))
        if (tip.ref, tip.commit) != (known.ref, known.commit):
            events += await self._moved(tip, requested)
        events += self._answers(requested, tip.commit, "")
        return events, SourceState(tip.ref, tip.commit)

    async def _moved(self, tip: Tip, requested: Sequence[Position]) -> list[NewEvent]:
        known, mirror = self._state, self._mirror
        same_ref = known.ref == tip.ref
        old = known.commit if same_ref else None
        new = await mirror.new_commits(old or None, tip.commit, self._followed.commits)
        forced = bool(known.commit) and not await mirror.is_ancestor(known.commit, tip.commit)
        moved = RefMoved(tip.ref, tip.commit, known.commit, forced, new.skipped)
        cause = requested[-1] if requested else None
        last = self._event(moved, causation=cause)
        story = str(last.event_id)
        sealed = await self._people.seal(
            {actor: person for info in new.commits for actor, person in info.people.items()}
        )
        events = [
            self._event(
                _seen(info, sealed),
                actor=info.author,
                at=Micros(info.committed_at),
                causation=cause,
                correlation=story,
            )
            for info in new.commits
        ]
        return [*events, _with_story(last, story)]

    def _failed(
        self, error: SourceError, requested: Sequence[Position]
    ) -> tuple[list[NewEvent], SourceState]:
        known = self._state
        events: list[NewEvent] = []
        if (error.code, error.message) != (known.failure_code, known.failure_message):
            events.append(self._event(SourceFailed(error.code, error.message)))
        events += self._answers(requested, known.commit, error.code)
        state = replace(known, failure_code=error.code, failure_message=error.message)
        return events, state

    def _answers(self, requested: Sequence[Position], commit: str, failed: str) -> list[NewEvent]:
        return [
            self._event(SourceChecked(position, commit, failed), causation=position)
            for position in sorted(requested)
        ]

    async def _write(self, events: list[NewEvent], state: SourceState) -> None:
        self._unwritten = (events, state)
        if events:
            await self._log.append(events)
        self._unwritten, self._state = None, state

    def _event(
        self,
        fact: Fact,
        *,
        actor: Actor = ACTOR,
        at: Micros | None = None,
        causation: Position | None = None,
        correlation: str = "",
    ) -> NewEvent:
        return NewEvent(
            event_id=self._clock.event_id(),
            stream=self._followed.stream,
            fact=fact,
            actor=actor,
            occurred_at=self._clock.now() if at is None else at,
            causation=causation,
            correlation=correlation,
        )

    async def _wait(self) -> None:
        seconds = self._followed.interval
        if self._failures:
            seconds = max(seconds, min(_SLOWEST, seconds * 2.0 ** min(self._failures, 16)))
        seconds *= 1 - _JITTER + 2 * _JITTER * self._clock.random()
        async with anyio.create_task_group() as group:
            group.start_soon(self._sleep, seconds, group.cancel_scope)
            await self._poked.wait()
            group.cancel_scope.cancel()

    async def _sleep(self, seconds: float, scope: anyio.CancelScope) -> None:
        await self._clock.sleep(seconds)
        scope.cancel()


def _seen(info: CommitInfo, sealed: Mapping[Actor, str]) -> CommitSeen:
    committer = None
    if info.committer != info.author:
        committer = SealedActor(info.committer, sealed.get(info.committer, ""))
    return CommitSeen(
        info.commit,
        info.parents,
        info.subject,
        info.committed_at,
        sealed.get(info.author, ""),
        committer,
    )


def _with_story(event: NewEvent, story: str) -> NewEvent:
    return replace(event, correlation=story)
