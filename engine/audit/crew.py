"""Verifies the bundles of an export: in this process, or a large one in several at once."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from types import TracebackType

from engine.audit import layout
from engine.audit.bundle import Bundles, Checked
from engine.audit.fault import Fault
from events.tiles import WIDTH

_CHUNK = 32
"""Bundles that a process takes at once: 8,192 events."""
_SMALL = 8 * _CHUNK
"""Bundles up to which processes would take longer to start than they save."""
_here: Bundles | None = None


class Crew:
    """Verifies every bundle of an export of `size` events, and hands them out in order.

    What is not taken yet is bounded: two chunks a process.
    """

    def __init__(self, folder: Path, size: int, processes: int) -> None:
        self._folder, self._size = folder, size
        self._processes = processes if size > _SMALL * WIDTH else 1
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Crew:
        """Start the processes, if there are to be any."""
        if self._processes > 1:
            self._pool = ProcessPoolExecutor(
                self._processes,
                multiprocessing.get_context("spawn"),
                _begin,
                (self._folder, self._size),
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End them."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def bundles(self) -> Iterator[Checked]:
        """Yield what each bundle came to, in the order of positions; raises `Fault`."""
        if self._pool is None:
            bundles = Bundles(self._folder, self._size)
            for index, width in layout.bundles_of(self._size):
                yield bundles.check(index, width)
            return
        yield from self._spread(self._pool)

    def _spread(self, pool: ProcessPoolExecutor) -> Iterator[Checked]:
        waiting: deque[Future[tuple[list[Checked], Fault | None]]] = deque()
        count = -(-self._size // WIDTH)
        for first in range(0, count, _CHUNK):
            waiting.append(pool.submit(_chunk, first, min(_CHUNK, count - first), self._size))
            if len(waiting) > 2 * self._processes:
                yield from _taken(waiting.popleft())
        while waiting:
            yield from _taken(waiting.popleft())


def _taken(future: Future[tuple[list[Checked], Fault | None]]) -> Iterator[Checked]:
    """Yield what was right before a fault, so that one that is met earlier comes out first."""
    checked, fault = future.result()
    yield from checked
    if fault is not None:
        raise fault


def _begin(folder: Path, size: int) -> None:
    """Prepare a process of the crew."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it is told, and ends it
    global _here
    _here = Bundles(folder, size)


def _chunk(first: int, count: int, size: int) -> tuple[list[Checked], Fault | None]:
    """Verify some bundles: in a process of the crew."""
    assert _here is not None
    checked: list[Checked] = []
    try:
        for index in range(first, first + count):
            width = min(WIDTH, size - index * WIDTH)
            checked.append(_here.check(index, width))
    except Fault as fault:
        return checked, fault
    return checked, None
