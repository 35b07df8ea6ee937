"""How far a long piece of work is, how fast it goes and how long it will take."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from engine.ports import Clock


class Progress(Struct, frozen=True):
    """`done` of `total` events, `rate` a second, `left` seconds to go."""

    done: int
    total: int
    rate: float
    left: float

    def __str__(self) -> str:
        share = 100 * self.done // max(1, self.total)
        return (
            f"{self.done:,} of {self.total:,} events ({share} %), {self.rate:,.0f}/s, "
            f"{self.left:.0f} s left"
        )


class Meter:
    """Tells `report` of progress, at most once in `every` seconds."""

    def __init__(
        self, total: int, report: Callable[[Progress], None], clock: Clock, every: float = 1.0
    ) -> None:
        self._total, self._report, self._clock, self._every = total, report, clock, every
        self._began = self._told = clock.monotonic()

    def at(self, done: int) -> None:
        """Say how many events are done."""
        now = self._clock.monotonic()
        if now - self._told >= self._every:
            self._told = now
            rate = done / (now - self._began)
            self._report(Progress(done, self._total, rate, (self._total - done) / max(rate, 1e-9)))
