"""Which target is worked on next: each at most once at a time, no cluster at another's cost.

A target that is added while it waits is not added twice; one that is added while it is worked on
comes again afterwards. Clusters take turns, each with a limit of its own, so that one that hangs
takes nobody else's place; what a person asked for goes to the front of its cluster's line.
"""

from __future__ import annotations

import heapq
from collections import deque

import anyio
from msgspec import Struct

from engine.ports import Clock
from engine.telemetry.spans import Cause
from projections.fold import TargetId

MICROS = 1_000_000
_CAUSES = 16
"""Events that are kept as the reasons why one target waits."""


class Call(Struct):
    """Since when (UTC microseconds) a target waits for its turn, and because of what."""

    since: int
    causes: list[Cause]


class TargetQueue:
    """A queue of targets with coalescing, delays and fairness between clusters."""

    def __init__(self, clock: Clock, *, total: int, per_cluster: int) -> None:
        self._clock = clock
        self._total, self._per_cluster = total, per_cluster
        self._lines: dict[str, deque[TargetId]] = {}
        self._turns: deque[str] = deque()
        self._waiting: set[TargetId] = set()
        self._working: set[TargetId] = set()
        self._again: set[TargetId] = set()
        self._calls: dict[TargetId, Call] = {}
        self._taken: dict[TargetId, Call] = {}
        self._busy: dict[str, int] = {}
        self._later: list[tuple[int, TargetId]] = []
        self._due: dict[TargetId, int] = {}
        self._changed = anyio.Event()
        self._sooner = anyio.Event()

    @property
    def depth(self) -> int:
        """How many targets wait."""
        return len(self._waiting)

    @property
    def working(self) -> int:
        """How many targets are worked on."""
        return len(self._working)

    def add(self, target: TargetId, *, first: bool = False, cause: Cause | None = None) -> None:
        """Ask for a target to be looked at as soon as its turn comes, because of an event."""
        call = self._calls.get(target)
        if call is None:
            call = self._calls[target] = Call(self._clock.now(), [])
        if cause is not None and len(call.causes) < _CAUSES:
            call.causes.append(cause)
        if target in self._working:
            self._again.add(target)
            return
        if target in self._waiting and not first:
            return
        line = self._lines.setdefault(target.cluster_stream, deque())
        if target in self._waiting:
            line.remove(target)
        if not line:
            self._turns.append(target.cluster_stream)
        line.appendleft(target) if first else line.append(target)
        self._waiting.add(target)
        self._signal()

    def add_at(self, target: TargetId, when: int) -> None:
        """Ask for a target to be looked at at a time (UTC microseconds), or at an earlier one."""
        due = self._due.get(target)
        if due is not None and due <= when:
            return
        self._due[target] = when
        heapq.heappush(self._later, (when, target))
        self._sooner.set()

    async def take(self) -> TargetId:
        """Wait for the next target and mark it as worked on; call `done` afterwards."""
        while True:
            target = self._next()
            if target is not None:
                return target
            await self._changed.wait()

    def call(self, target: TargetId) -> Call:
        """Return why a target that is worked on was waiting."""
        return self._taken[target]

    def done(self, target: TargetId) -> None:
        """Say that a target is no longer worked on."""
        self._working.discard(target)
        del self._taken[target]
        self._busy[target.cluster_stream] -= 1
        if target in self._again:
            self._again.discard(target)
            self.add(target)
        self._signal()

    async def run_timers(self) -> None:
        """Add targets when their time comes; run for as long as the queue is used."""
        while True:
            self._sooner = anyio.Event()
            now = self._clock.now()
            while self._later and self._later[0][0] <= now:
                when, target = heapq.heappop(self._later)
                if self._due.get(target) == when:
                    del self._due[target]
                    self.add(target)
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    if self._later:
                        group.start_soon(self._alarm, (self._later[0][0] - now) / MICROS, scope)
                    await self._sooner.wait()
                    scope.cancel()

    async def _alarm(self, seconds: float, scope: anyio.CancelScope) -> None:
        await self._clock.sleep(max(seconds, 0.0))
        scope.cancel()

    def _next(self) -> TargetId | None:
        if len(self._working) >= self._total:
            return None
        for _ in range(len(self._turns)):
            cluster = self._turns.popleft()
            line = self._lines[cluster]
            if not line:
                continue
            if self._busy.get(cluster, 0) >= self._per_cluster:
                self._turns.append(cluster)
                continue
            target = line.popleft()
            if line:
                self._turns.append(cluster)
            self._waiting.discard(target)
            self._working.add(target)
            self._taken[target] = self._calls.pop(target)
            self._busy[cluster] = self._busy.get(cluster, 0) + 1
            return target
        return None

    def _signal(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
