"""Which target is worked on next: each at most once at a time, no cluster at another's cost.

A target that is added while it waits is not added twice; one that is added while it is worked on
comes again afterwards. Clusters take turns, each with a limit of its own, so that one that hangs
takes nobody else's place; what a person asked for goes to the front of its cluster's line. A
target that takes long is no longer counted in the total, lest clusters that hang take all of it.

An application has a limit too. A target that comes up when its application has all its places
taken is set aside, out of its cluster's way; those set aside and the lines are served by turns.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict, deque

import anyio
from msgspec import Struct

from engine.ports import Clock
from engine.telemetry.spans import Cause
from projections.fold import TargetId

MICROS = 1_000_000
_PATIENCE = 5.0
"""Seconds that a target at work counts in the total: one that takes longer waits itself."""
_SLACK = 0.001
"""Seconds that an alarm may be early by: less than it can be set for."""
_SPARE = 100
"""Times in the heap that nobody waits for any more, beside as many as are waited for."""
_CAUSES = 16
"""Events that are kept as the reasons why one target waits."""
_SET_BACK, _LONGEST = 1.0, 60.0
"""Seconds: by how much a clock is set back, and not merely slewed; and the longest sleep."""


class Call(Struct):
    """Since when (UTC microseconds) a target waits for its turn, and because of what."""

    since: int
    causes: list[Cause]


class TargetQueue:
    """A queue of targets with coalescing, delays and fairness between clusters.

    At most `total` are worked on at a time, `per_cluster` of one cluster, `per_application` of
    one application.
    """

    def __init__(self, clock: Clock, *, total: int, per_cluster: int, per_application: int) -> None:
        self._clock = clock
        self._total = total
        self._per_cluster, self._per_application = per_cluster, per_application
        self._lines: dict[str, deque[TargetId]] = {}
        self._turns: OrderedDict[str, None] = OrderedDict()
        self._aside: dict[str, OrderedDict[TargetId, None]] = {}
        self._freed: OrderedDict[str, None] = OrderedDict()
        self._aside_first = False
        self._waiting: set[TargetId] = set()
        self._working: set[TargetId] = set()
        self._counted: OrderedDict[TargetId, float] = OrderedDict()
        self._is_full = False
        self._again: dict[TargetId, bool] = {}
        self._calls: dict[TargetId, Call] = {}
        self._taken: dict[TargetId, Call] = {}
        self._busy: Counter[str] = Counter()
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
            self._again[target] = first or self._again.get(target, False)
            return
        if target in self._waiting and not first:
            return
        aside = self._aside.get(target.app_stream)
        if aside is not None and target in aside:
            aside.move_to_end(target, last=False)
            return
        line = self._lines.setdefault(target.cluster_stream, deque())
        if target in self._waiting:
            line.remove(target)
        line.appendleft(target) if first else line.append(target)
        self._turns.setdefault(target.cluster_stream)
        self._waiting.add(target)
        self._signal()

    def add_at(self, target: TargetId, when: int) -> None:
        """Ask for a target to be looked at at a time (UTC microseconds), or at an earlier one."""
        due = self._due.get(target)
        if due is not None and due <= when:
            return
        self._due[target] = when
        heapq.heappush(self._later, (when, target))
        if len(self._later) > 2 * len(self._due) + _SPARE:
            # What was asked for earlier in the end stays in the heap until its time comes.
            self._later = [(when, target) for target, when in self._due.items()]
            heapq.heapify(self._later)
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
        self._let_go(target)
        self._release(target.cluster_stream)
        if target in self._again:
            self.add(target, first=self._again.pop(target))
        self._signal()

    async def run_timers(self) -> None:
        """Add targets when their time comes; run for as long as the queue is used."""
        now, at = self._clock.now(), self._clock.monotonic()
        while True:
            self._sooner = anyio.Event()
            expected = now + (self._clock.monotonic() - at) * MICROS
            now, at = self._clock.now(), self._clock.monotonic()
            if expected - now > _SET_BACK * MICROS:
                self._move(int(now - expected))
            while self._later and self._later[0][0] <= now:
                when, target = heapq.heappop(self._later)
                if self._due.get(target) == when:
                    del self._due[target]
                    self.add(target)
            if self._let_go_of_late():
                self._is_full = False
                self._signal()
            waits: list[float] = []
            if self._later:
                # Looked at in between: the clock may be set meanwhile.
                waits.append(min((self._later[0][0] - now) / MICROS, _LONGEST))
            if self._counted and (self._is_full or self._aside):
                late = next(iter(self._counted.values())) + _PATIENCE
                waits.append(late - self._clock.monotonic())
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    if waits:
                        group.start_soon(self._alarm, min(waits), scope)
                    await self._sooner.wait()
                    scope.cancel()

    def _move(self, by: int) -> None:
        """Have everything wait as long as it was to, though the clock was set back."""
        self._due = {target: when + by for target, when in self._due.items()}
        self._later = [(when, target) for target, when in self._due.items()]
        heapq.heapify(self._later)

    async def _alarm(self, seconds: float, scope: anyio.CancelScope) -> None:
        await self._clock.sleep(max(seconds, 0.0))
        scope.cancel()

    def _next(self) -> TargetId | None:
        self._let_go_of_late()
        if len(self._counted) >= self._total:
            self._is_full = True
            self._sooner.set()
            return None
        sources = (self._from_lines, self._from_aside)
        for source in reversed(sources) if self._aside_first else sources:
            target = source()
            if target is not None:
                self._aside_first = not self._aside_first
                self._waiting.discard(target)
                self._working.add(target)
                self._counted[target] = self._clock.monotonic()
                self._taken[target] = self._calls.pop(target)
                self._busy.update((target.cluster_stream, target.app_stream))
                return target
        return None

    def _let_go_of_late(self) -> bool:
        """Count those that take long no longer; return whether there were any."""
        past = self._clock.monotonic() - _PATIENCE + _SLACK
        found = False
        while self._counted and next(iter(self._counted.values())) <= past:
            self._let_go(next(iter(self._counted)))
            found = True
        return found

    def _let_go(self, target: TargetId) -> None:
        """Give the place in the total and in the application to others; the cluster's is kept."""
        if self._counted.pop(target, None) is None:
            return
        self._release(target.app_stream)
        if target.app_stream in self._aside:
            self._freed.setdefault(target.app_stream)

    def _release(self, stream: str) -> None:
        self._busy[stream] -= 1
        if not self._busy[stream]:
            del self._busy[stream]

    def _from_lines(self) -> TargetId | None:
        """Take the next target of the next cluster that has a place, its application too."""
        for _ in range(len(self._turns)):
            cluster, _ = self._turns.popitem(last=False)
            line = self._lines[cluster]
            target = None
            if self._busy[cluster] < self._per_cluster:
                target = self._from_line(line)
            if line:
                self._turns[cluster] = None
            else:
                del self._lines[cluster]
            if target is not None:
                return target
        return None

    def _from_line(self, line: deque[TargetId]) -> TargetId | None:
        while line:
            target = line.popleft()
            if self._busy[target.app_stream] < self._per_application:
                return target
            self._aside.setdefault(target.app_stream, OrderedDict())[target] = None
            self._sooner.set()
        return None

    def _from_aside(self) -> TargetId | None:
        """Take a target that was set aside, whose application and cluster have a place now."""
        for application in list(self._freed):
            if self._busy[application] >= self._per_application:
                del self._freed[application]
                continue
            aside = self._aside[application]
            # Few clusters can be full, and each has one target of an application at most.
            places = (t for t in aside if self._busy[t.cluster_stream] < self._per_cluster)
            target = next(places, None)
            if target is None:
                continue
            del aside[target], self._freed[application]
            if not aside:
                del self._aside[application]
            elif self._busy[application] + 1 < self._per_application:
                self._freed[application] = None
            return target
        return None

    def _signal(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
