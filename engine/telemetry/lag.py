"""How far the views are behind the log, told from what this engine itself appends and folds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from msgspec import Struct

from engine.telemetry import instruments

_WINDOW = 0.25
"""Seconds of appends that are timed as one."""
_MARKS = 4096


class _Mark(Struct):
    """What was appended up to `last`, the first of it `since` (monotonic seconds)."""

    last: int
    since: float


class Lag:
    """Remembers when what is not folded yet was appended. `monotonic` gives seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._folded: Callable[[], int] = lambda: 0
        self._marks: deque[_Mark] = deque()
        self._head = 0

    def tell(self, folded: Callable[[], int]) -> None:
        """Have the gauges ask here; `folded` returns the position that the views have reached."""
        self._folded = folded
        instruments.LOG_POSITION.ask(lambda: [(self.head, {})])
        instruments.PROJECTION_LAG.ask(lambda: [(self.events, {})])
        instruments.PROJECTION_AGE.ask(lambda: [(self.age, {})])

    def appended(self, last: int) -> None:
        """Note that the log has grown up to a position."""
        self._head = max(self._head, last)
        self._drop()
        now = self._monotonic()
        newest = self._marks[-1] if self._marks else None
        if newest and (now - newest.since < _WINDOW or len(self._marks) >= _MARKS):
            newest.last = max(newest.last, last)
        elif last > self._folded():
            self._marks.append(_Mark(last, now))

    @property
    def head(self) -> int:
        """The last position that is known of."""
        return max(self._head, self._folded())

    @property
    def events(self) -> int:
        """How many events are not folded yet."""
        return self.head - self._folded()

    @property
    def age(self) -> float:
        """How many seconds the oldest of them has waited; 0 where there is none."""
        # Asked from the exporter's thread, too: so nothing is changed here, and a copy is read.
        folded = self._folded()
        since = next((mark.since for mark in tuple(self._marks) if mark.last > folded), None)
        return 0.0 if since is None else self._monotonic() - since

    def _drop(self) -> None:
        folded = self._folded()
        while self._marks and self._marks[0].last <= folded:
            self._marks.popleft()
