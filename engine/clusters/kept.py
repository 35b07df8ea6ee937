"""Kept forms at hand: the last used ones in memory, the others in the log's blobs."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Collection

from engine.clusters.backoff import Backoff
from engine.clusters.settings import ClusterSettings
from engine.objects.identity import ObjectRefused
from engine.objects.kept import Kept
from engine.ports import Clock
from events.event import Blob, Digest, blob
from events.log import EventLog, LogUnavailable

_logger = logging.getLogger(__name__)


class KeptForms:
    """Kept forms by digest."""

    def __init__(self, log: EventLog, clock: Clock, settings: ClusterSettings) -> None:
        self._log, self._clock, self._settings = log, clock, settings
        self._forms: OrderedDict[str, Kept] = OrderedDict()

    def put(self, kept: Kept) -> Blob:
        """Remember a kept form; return the blob that it is stored as."""
        stored = blob(kept.encode())
        self._remember(stored.digest, kept)
        return stored

    async def get(self, digest: str | None) -> Kept | None:
        """Return a kept form; None where there is none, or where it cannot be read any more."""
        if digest is None:
            return None
        if digest not in self._forms:
            await self.load([digest])
        kept = self._forms.get(digest)
        if kept is not None:
            self._forms.move_to_end(digest)
        return kept

    async def load(self, digests: Collection[str]) -> None:
        """Have these at hand, as far as the log has them; waits while it cannot be reached."""
        wanted = [Digest(digest) for digest in set(digests) if digest not in self._forms]
        if not wanted:
            return
        backoff = Backoff(self._clock, self._settings)
        while True:
            try:
                bodies = await self._log.blobs(wanted)
            except LogUnavailable:
                await self._clock.sleep(backoff.next())
            else:
                break
        for digest in wanted:
            body = bodies.get(digest)
            if body is None:
                _logger.warning("the kept form %s is not in the log", digest)
                continue
            try:
                self._remember(digest, Kept.decode(body))
            except (ObjectRefused, ValueError) as error:
                _logger.warning("the kept form %s cannot be read: %s", digest, error)

    def _remember(self, digest: str, kept: Kept) -> None:
        self._forms[digest] = kept
        self._forms.move_to_end(digest)
        while len(self._forms) > self._settings.kept_forms:
            self._forms.popitem(last=False)
