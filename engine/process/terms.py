"""Leading in terms: whoever loses the lease, or the database, stands by and may lead again.

A term is everything that an engine does under one lease. It ends in order when the engine is told
to stop; it breaks off when the lease is lost or the database cannot be reached, and then the next
one begins by waiting for the lease: nothing that was begun before is gone on with.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import anyio

from engine.ports import Clock
from events.log import LogUnavailable
from projections.errors import FencedOut, ViewsUnavailable
from projections.lease import LeaseLost

logger = logging.getLogger(__name__)
_FIRST_PAUSE, _LAST_PAUSE = 0.5, 10.0
"""Seconds between terms: doubled while none gets so far as to lead."""
_PASSING = (LeaseLost, FencedOut, LogUnavailable, ViewsUnavailable, TimeoutError)
"""What ends a term and not the engine."""


class Stop:
    """Ends the work first, and what it stands on after it; before there is work, all at once.

    What lasts from term to term is kept here too.
    """

    def __init__(self) -> None:
        self.everything = anyio.CancelScope()
        self.asked = False
        self.has_led = False
        self.port = 0
        """The port that was served on first, where any would do: it stays the same."""
        self._work: anyio.CancelScope | None = None

    def ask(self) -> None:
        """Stop."""
        self.asked = True
        (self._work or self.everything).cancel()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Say that there is work, for as long as the block lasts: it ends when we are to stop."""
        with anyio.CancelScope() as self._work:
            self.has_led = True
            if self.asked:
                self._work.cancel()
            try:
                yield
            finally:
                self._work = None

    async def on_signal(self) -> None:
        """Stop at SIGTERM or SIGINT."""
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                logger.info("stopping", extra={"signal": signal.Signals(number).name})
                self.ask()

    async def on_cancel(self) -> None:
        """Stop when the caller is cancelled."""
        try:
            await anyio.sleep_forever()
        finally:
            self.ask()


async def lead(term: Callable[[], Awaitable[None]], stop: Stop, clock: Clock) -> None:
    """Lead term after term until one ends in order, because we are to stop.

    Raises what keeps the first one from leading, and whatever does not pass by itself.
    """
    pause = _FIRST_PAUSE
    while True:
        stop.has_led, led_before = False, stop.has_led
        try:
            await term()
            return
        except Exception as error:
            leaves = list(_leaves(error))
            if not all(isinstance(leaf, _PASSING) for leaf in leaves):
                raise
            if stop.asked:
                # What cannot be reached cannot be told that we stop, either.
                logger.warning("stopped without a last word", extra={"error": str(leaves[0])})
                return
            if stop.has_led:
                pause = _FIRST_PAUSE
            elif not led_before:
                raise
            stop.has_led = True
            logger.warning(
                "no longer leading, standing by",
                extra={"error": str(leaves[0]), "seconds": pause},
            )
        await clock.sleep(pause)
        pause = min(2 * pause, _LAST_PAUSE)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
