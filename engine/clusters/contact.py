"""Whether a cluster answers at all: told apart from one kind that cannot be read.

One small request is repeated. A cluster counts as lost when it has failed for a while, so that a
blip is no event, and as connected again with the first answer.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import msgspec
from msgspec import Struct

from engine.bounded import MIB
from engine.clusters.backoff import Backoff, Bell
from engine.clusters.connect import Connection, Unreachable
from engine.clusters.settings import ClusterSettings
from engine.clusters.status import explain, printable
from engine.ports import Clock

_WITHHELD = 4
"""Times in a row that the version may be refused, before that counts as an answer."""


class _Version(Struct, rename="camel"):
    git_version: str


_decoder = msgspec.json.Decoder(_Version)


class Contact:
    """Keeps asking. `answered` is told each time; `connected` and `lost` when that changes."""

    def __init__(
        self,
        connection: Connection,
        clock: Clock,
        settings: ClusterSettings,
        *,
        connected: Callable[[str], None],
        lost: Callable[[str, str], None],
        answered: Callable[[], None],
    ) -> None:
        self._connection, self._clock, self._settings = connection, clock, settings
        self._connected, self._lost, self._answered = connected, lost, answered
        self._bell = Bell(clock)
        self._lock = anyio.Lock()
        self._settled_at: float | None = None
        self._is_alive = False
        self._withheld = 0
        self.is_connected = False

    def trouble(self) -> None:
        """Say that a request had no answer: look now."""
        self._bell.ring()

    async def alive(self) -> bool:
        """Whether the cluster answers, now: an answer from before does not count."""
        asked = self._clock.monotonic()
        async with self._lock:
            # Many kinds fail at once, and one answer is good for all who asked before it.
            if self._settled_at is None or self._settled_at < asked:
                try:
                    await self._ask()
                except Unreachable:
                    self.trouble()
            return self._is_alive

    async def run(self) -> None:
        """Ask for ever."""
        backoff = Backoff(self._clock, self._settings)
        since: float | None = None
        told = False
        while True:
            try:
                version = await self._ask()
            except Unreachable as error:
                now = self._clock.monotonic()
                since = now if since is None else since
                if not told and now - since >= self._settings.loss_grace:
                    told, self.is_connected = True, False
                    self._lost(error.code, error.message)
                left = since + self._settings.loss_grace - now
                wait = backoff.next()
                await self._clock.sleep(wait if told else max(min(wait, left), 0.05))
                continue
            backoff.reset()
            since, told = None, False
            if not self.is_connected:
                self.is_connected = True
                self._connected(version)
            self._answered()
            await self._bell.wait(self._settings.probe_interval)

    async def _ask(self) -> str:
        """Ask for the version, which is "" where the cluster keeps it to itself."""
        self._is_alive = False
        try:
            version = await self._version()
            self._is_alive = True
        finally:
            self._settled_at = self._clock.monotonic()
        return version

    async def _version(self) -> str:
        response = await self._connection.request(
            "GET", "/version", timeout=self._settings.probe_timeout, limit=MIB, urgent=True
        )
        if response.status == 401:
            raise Unreachable("unauthorised", f"The cluster refuses us: {explain(response)}")
        if response.status >= 500:
            raise Unreachable("unavailable", f"The cluster is not available: {explain(response)}")
        if response.status == 403 and self._withheld < _WITHHELD:
            # A server that starts refuses everything until it has read its own rules.
            self._withheld += 1
            raise Unreachable(
                "forbidden", f"The cluster withholds its version: {explain(response)}"
            )
        self._withheld = 0
        version = ""
        # A cluster may keep its version to itself; any other answer still is one.
        if response.is_success:
            try:
                version = printable(_decoder.decode(response.body).git_version)[:100]
            except (msgspec.MsgspecError, RecursionError):
                raise Unreachable(
                    "garbage", "What answers is no Kubernetes API: /version cannot be read."
                ) from None
        return version
