"""An engine that does not sign holds the signer to what it published: it keeps the last head too.

It needs public keys only. The first ones it takes from the log (so a first start trusts what it
finds); a further one only where a head bears the signature of one that it knows as well.
"""

from __future__ import annotations

import logging

import anyio
import asyncpg

from engine.ports import Clock
from engine.settings import Settings
from engine.signing.setup import heads_of, remember, remembered, trusted_keys
from events.log import EventLog, LogError, LogUnavailable
from events.note import NoteWrong, VerifierKey, open_checkpoint
from events.proofs import Proofs, origin_of, recorded_keys
from events.signer import HeadStore, check_head, known_head

_log = logging.getLogger(__name__)


class Witness:
    """Keeps the newest published head beside an engine, in `store`; build it with `witness`."""

    def __init__(
        self, settings: Settings, proofs: Proofs, log: EventLog, store: HeadStore, size: int
    ) -> None:
        self._settings, self._proofs, self._log = settings, proofs, log
        self._store, self._size = store, size

    async def run(self) -> None:
        """Look every `checkpoint_interval`, until cancelled; say what is wrong, and wait."""
        said = ""
        while True:
            try:
                await self.step()
                said = ""
            except LogError as error:
                if str(error) != said:
                    _log.warning("the last head cannot be kept here: %s", error)
                said = str(error)
            await anyio.sleep(self._settings.checkpoint_interval)

    async def step(self) -> bool:
        """Keep what was published, where it is new; return whether it was.

        Raises `LogUnavailable`, and `HeadRefused`'s siblings for a head of nobody that is known.
        """
        published = await self._proofs.published()
        if published is None or published.size <= self._size:
            return False
        keys = self._keys() or list(await recorded_keys(self._log))
        try:
            checkpoint = open_checkpoint(published.note, keys)
        except NoteWrong as error:
            raise LogUnavailable(
                f"the checkpoint of {published.size} events is not signed by a key that is trusted "
                f"here: {error}; see {self._settings.directory / 'checkpoints' / 'keys'}"
            ) from error
        remember(self._settings, await self._signers(published.note))
        await self._store.put(published.note)
        self._size = checkpoint.size
        return True

    async def _signers(self, note: str) -> list[VerifierKey]:
        """Return those of the keys in the log that signed this note."""
        signed: list[VerifierKey] = []
        for key in await recorded_keys(self._log):
            try:
                open_checkpoint(note, [key])
            except NoteWrong:
                continue
            signed.append(key)
        return signed

    def _keys(self) -> list[VerifierKey]:
        return remembered(self._settings)


async def witness(
    settings: Settings, pool: asyncpg.Pool[asyncpg.Record], log: EventLog, clock: Clock
) -> Witness:
    """Make sure that the log extends the last head that is known here, and keep heads from then on.

    Reads no private key and writes nothing before. Raises `HeadRefused`, `LogUnavailable`.
    """
    heads, proofs, size = heads_of(settings, clock), Proofs(pool, log), 0
    keys = trusted_keys(settings, []) or {key.raw for key in await recorded_keys(log)}
    known = await known_head(heads, keys) if keys else None
    if known is not None:
        await check_head(proofs, log, await origin_of(log), known)
        size = known.checkpoint.size
    # What lies elsewhere is the signer's to write.
    return Witness(settings, proofs, log, heads[0], size)
