"""Kept forms at hand: the last used ones in memory, the others in the log's blobs.

Of most objects nothing is compared for hours, so that most forms lie packed, at a fortieth of what
one takes that is ready for a comparison. Both are bounded by bytes, and a form that is in neither
is read again: that costs a round trip, and is never taken for there being none.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Collection, Mapping
from weakref import WeakValueDictionary

from engine.bounded import Bounded
from engine.clusters.backoff import Backoff
from engine.clusters.settings import ClusterSettings
from engine.objects.identity import ObjectRefused
from engine.objects.kept import Kept
from engine.ports import Clock
from engine.telemetry.instruments import KEPT_FORMS_READ
from events.event import Blob, Digest, blob
from events.log import EventLog, LogUnavailable

_READY_TIMES = 24
"""How much more a form takes that is ready for comparisons than its JSON, at most; a test counts.
Measured: 21 times of a Deployment, 16 of a ServiceAccount."""
_LEVEL = 1

_logger = logging.getLogger(__name__)


class KeptForms:
    """Kept forms by digest."""

    def __init__(self, log: EventLog, clock: Clock, settings: ClusterSettings) -> None:
        self._log, self._clock, self._settings = log, clock, settings
        self._ready: Bounded[str, Kept] = Bounded(settings.kept_bytes * 2 // 3)
        self._packed: Bounded[str, bytes] = Bounded(settings.kept_bytes // 3)
        # What is yet to be appended is not in the log: as long as somebody is about to do that,
        # he holds the blob, and so it is found here, whatever there is room for.
        self._afoot: WeakValueDictionary[str, Blob] = WeakValueDictionary()

    @property
    def weight(self) -> int:
        """What is in memory, in bytes, about."""
        return self._ready.weight + self._packed.weight

    def put(self, kept: Kept) -> Blob:
        """Remember a kept form; return the blob that it is stored as."""
        made = blob(kept.encode())
        # The earlier one of two alike, lest the end of the later one's holder hides it.
        stored = self._afoot.setdefault(made.digest, made)
        self._pack(stored.digest, stored.body)
        return stored

    def supersede(self, digest: str | None, by: str | None) -> None:
        """Let a form go that an object has another for now.

        Where it is another cluster's still, and is needed there, it is read again.
        """
        if digest is not None and digest != by:
            self._ready.drop(digest)
            self._packed.drop(digest)

    async def get(self, digest: str | None) -> Kept | None:
        """Return a kept form; None where there is none, or where it cannot be read any more.

        Waits while it is only in the log, and that cannot be reached.
        """
        if digest is None:
            return None
        kept = self._ready.get(digest)
        if kept is not None:
            return kept
        body = self._at_hand(digest)
        if body is None:
            body = (await self._read([Digest(digest)])).get(Digest(digest))
        if body is None:
            return None
        try:
            kept = Kept.decode(body)
        except (ObjectRefused, ValueError) as error:
            _logger.warning("the kept form %s cannot be read: %s", digest, error)
            return None
        self._ready.put(digest, kept, _READY_TIMES * len(body))
        return kept

    async def load(self, digests: Collection[str]) -> None:
        """Have these at hand, as far as there is room; waits while the log cannot be reached."""
        wanted = [Digest(digest) for digest in set(digests) if not self._is_at_hand(digest)]
        if wanted:
            await self._read(wanted)

    async def _read(self, wanted: Collection[Digest]) -> Mapping[Digest, bytes]:
        KEPT_FORMS_READ.add(len(wanted))
        backoff = Backoff(self._clock, self._settings)
        while True:
            try:
                bodies = await self._log.blobs(wanted)
            except LogUnavailable:
                await self._clock.sleep(backoff.next())
            else:
                break
        for digest in wanted:
            if digest in bodies:
                self._pack(digest, bodies[digest])
            else:
                _logger.warning("the kept form %s is not in the log", digest)
        return bodies

    def _is_at_hand(self, digest: str) -> bool:
        return digest in self._ready or digest in self._packed or digest in self._afoot

    def _at_hand(self, digest: str) -> bytes | None:
        """Return a form's bytes without asking the log."""
        packed = self._packed.get(digest)
        if packed is not None:
            return zlib.decompress(packed)
        stored = self._afoot.get(digest)
        return stored.body if stored is not None else None

    def _pack(self, digest: str, body: bytes) -> None:
        if digest not in self._packed:
            packed = zlib.compress(body, _LEVEL)
            self._packed.put(digest, packed, len(packed))
