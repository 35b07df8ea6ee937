"""What a seen object means: nothing, or a change of what counts, which becomes an event.

Lists, watches, single looks and our own applies all end here, in whatever order they come: for one
uid a lower resourceVersion never replaces a higher, and while a deed on an object is in flight its
events wait. `docs/difference.md`, "On each watch event", has the rules.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from engine.clusters.discovery import KindUnknown
from engine.clusters.glance import NOTHING, Glance, glance
from engine.clusters.kept import KeptForms
from engine.clusters.look import Eyes, Look, body_of, is_labelled, look
from engine.clusters.memory import Entry, Held, Memory
from engine.clusters.record import Recorder
from engine.clusters.wire import Meta, header, is_newer, is_older, object_of
from engine.objects.digest import change_digest
from engine.objects.foreign import foreign
from engine.objects.health_rules import HealthRules
from engine.objects.kept import Kept, compare_with, differences
from events.event import Blob
from events.vocabulary import Health, ObjectRef, Observation, Presence

_logger = logging.getLogger(__name__)

Fetch = Callable[[ObjectRef], Awaitable[bytes | None]]
"""GET an object; None where there is none."""
Reread = Callable[[ObjectRef, str], Awaitable[Kept | None]]
"""Ask the server, by a dry run, how it reads what was last applied to this object (of this uid).

None where it cannot be told.
"""


class Verdict(Struct, frozen=True):
    """An entry as it is to be, and the observation to record; None where nothing counts."""

    entry: Entry
    observation: Observation | None = None
    blobs: tuple[Blob, ...] = ()


class Observer:
    """Turns what was seen of one cluster's objects into what is remembered and recorded.

    `log_id` tells our objects; `watched` says whether a kind is watched in an API version.
    """

    def __init__(
        self,
        *,
        log_id: str,
        memory: Memory,
        kept: KeptForms,
        eyes: Eyes,
        recorder: Recorder,
        fetch: Fetch,
        reread: Reread,
        watched: Callable[[str, str], bool],
        foreign_allowed: Collection[str],
    ) -> None:
        self._log_id = log_id
        self._memory, self._kept, self._eyes = memory, kept, eyes
        self._recorder, self._fetch, self._reread = recorder, fetch, reread
        self._watched = watched
        self._foreign_allowed = frozenset(foreign_allowed)
        self.strays: dict[str, ObjectRef] = {}
        """Objects of ours outside the filter, or of which it is not known: by identity."""

    async def saw(self, api_version: str, kind: str, body: bytes, source: str) -> ObjectRef:
        """Take note of an object as it was sent. Raises `Garbage`, `ObjectRefused`.

        Where the object was applied in another API version than it was seen in, it is fetched in
        that one, which raises what fetching raises.
        """
        meta = header(body)
        ref = ObjectRef(api_version, kind, meta.namespace, meta.name)
        entry = self._memory.get(ref)
        if entry is None or entry.ref.api_version == api_version:
            await self._take(ref, meta, body, source)
        elif self.is_read_as(entry.ref, api_version) and _is_news(
            entry, meta.uid, meta.resource_version
        ):
            # What was applied in another version compares with nothing but that version.
            at, whole = await self._read(entry, ref)
            if whole is None:
                self._gone(entry, source)
            else:
                await self._take(at, header(whole), whole, source)
        return ref

    def kept_of(self, api_version: str, kind: str, bodies: Iterable[bytes]) -> list[str]:
        """Return the digests of the kept forms that these objects will be compared with."""
        digests: list[str] = []
        for body in bodies:
            meta = header(body)
            entry = self._memory.get(ObjectRef(api_version, kind, meta.namespace, meta.name))
            if (
                entry is not None
                and entry.kept is not None
                and _is_news(entry, meta.uid, meta.resource_version)
            ):
                digests.append(entry.kept)
        return digests

    def is_read_as(self, ref: ObjectRef, api_version: str) -> bool:
        """Whether a watch in this API version is the one that an object is followed by."""
        return ref.api_version == api_version or not self._watched(ref.api_version, ref.kind)

    async def left(self, api_version: str, kind: str, body: bytes) -> None:
        """Take note that an object left the filter: only a GET tells whether it is gone."""
        meta = header(body)
        ref = ObjectRef(api_version, kind, meta.namespace, meta.name)
        entry = self._memory.get(ref)
        if entry is None or entry.presence is Presence.ABSENT:
            return
        if entry.uid != meta.uid and not self._memory.hold(Held(ref, left=True)):
            # An earlier object of this name; the later one has been seen already.
            return
        await self.confirm(ref)

    async def confirm(self, ref: ObjectRef) -> None:
        """Look whether an object that is not in the filter is there at all.

        Where it cannot be told, or where it is there without our label, it becomes a stray: to be
        looked at again. Raises `Garbage`, `ObjectRefused` on an answer that is no object.
        """
        if self._memory.hold(Held(ref, left=True)):
            return
        entry = self._memory.get(ref)
        if entry is None or entry.presence is Presence.ABSENT:
            self.strays.pop(ref.identity, None)
            return
        self.strays[ref.identity] = entry.ref
        at, body = await self._read(entry, ref)
        if body is None:
            self._gone(entry, "get")
            return
        if is_labelled(object_of(body)):
            self.strays.pop(ref.identity, None)
        await self._take(at, header(body), body, "get")

    async def released(self, held: Held) -> None:
        """Take note of what came of an object while a deed on it was in flight.

        Raises what `saw` and `confirm` raise.
        """
        if held.left:
            await self.confirm(held.ref)
        else:
            await self.saw(held.ref.api_version, held.ref.kind, held.body, held.source)

    async def kept_form(self, ref: ObjectRef) -> Kept | None:
        """Return the kept form that an object is compared with; None where there is none."""
        entry = self._memory.get(ref)
        return await self._kept.get(entry.kept) if entry is not None else None

    def applied(self, seen: Look, kept: Kept | None, *, is_frozen: bool = True) -> Verdict:
        """Remember the answer to an apply; the verdict's observation is the caller's to record."""
        owner = seen.owner
        application = f"{owner.project}/{owner.application}" if owner is not None else ""
        stored = self._kept.put(kept) if kept is not None else None
        digest = self._digest(seen, kept, is_frozen=is_frozen)
        entry = _entry(seen, digest, stored.digest if stored else None, application)
        before = self._memory.get(seen.ref)
        if before is not None:
            self._kept.supersede(before.kept, entry.kept)
        self._memory.put(entry)
        self.strays.pop(seen.ref.identity, None)
        body = body_of(seen)
        blobs = (body, stored) if stored else (body,)
        return Verdict(entry, _observation(entry, seen, body), blobs)

    def ending(self, seen: Look) -> Verdict:
        """Remember an object that our delete has left terminating."""
        entry = self._memory.get(seen.ref)
        owner = seen.owner
        application = f"{owner.project}/{owner.application}" if owner is not None else ""
        digest_of_kept = entry.kept if entry is not None else None
        # Without the kept form at hand the digest is of the whole body: it is on its way out.
        now = _entry(seen, self._digest(seen, None), digest_of_kept, application)
        self._memory.put(now)
        body = body_of(seen)
        return Verdict(now, _observation(now, seen, body), (body,))

    async def unmoved(self, entry: Entry, seen: Look) -> bool:
        """Whether nothing that counts has changed since an entry, so that only its version is new.

        For who has a deed in flight on the object: then the new version is remembered.
        """
        verdict = await self._judged(entry, seen)
        if verdict is None or verdict.observation is not None:
            return False
        self._memory.put(verdict.entry)
        return True

    def deleted(self, entry: Entry) -> Observation:
        """Remember that an object is gone by our own deed; return what is to be recorded of it."""
        self._memory.put(replace(entry, presence=Presence.ABSENT, digest=""))
        self.strays.pop(entry.ref.identity, None)
        return _absence(entry)

    async def _read(self, entry: Entry, ref: ObjectRef) -> tuple[ObjectRef, bytes | None]:
        """Fetch an object in the version that it was applied in, or else as it was named."""
        try:
            return entry.ref, await self._fetch(entry.ref)
        except KindUnknown:
            if ref.api_version == entry.ref.api_version:
                raise
            return ref, await self._fetch(ref)

    async def _take(self, ref: ObjectRef, meta: Meta, body: bytes, source: str) -> None:
        held = Held(ref, meta.uid, meta.resource_version, body, source)
        seen: Look | None = None
        while not self._memory.hold(held):
            entry = self._memory.get(ref)
            if entry is not None and not _is_news(entry, meta.uid, meta.resource_version):
                return
            if seen is None:
                parts = glance(ref, body)
                if (
                    entry is not None
                    and parts is not None
                    and _is_still(entry, parts, ref, self._eyes.rules)
                ):
                    self._memory.put(replace(entry, version=meta.resource_version))
                    return
                essence = parts.essence if parts is not None else NOTHING
                seen = look(ref, object_of(body), self._eyes, essence)
            if await self._noted(entry, seen, source):
                return

    async def _noted(self, entry: Entry | None, seen: Look, source: str) -> bool:
        """Judge and remember; False where the entry changed meanwhile, so that it is to be redone.

        From the check on, nothing awaits: memory and record go together.
        """
        verdict = await self._judged(entry, seen)
        if verdict is not None and verdict.observation is not None:
            await self._recorder.room()
        if self._memory.get(seen.ref) is not entry:
            return False
        if self._memory.hold(Held(seen.ref, seen.uid, left=True)):
            # A deed began meanwhile. What was seen was before it; afterwards a GET tells.
            return True
        if verdict is None:
            self._memory.share(seen.ref)
            if entry is not None and entry.presence is not Presence.ABSENT:
                self._gone(entry, source)
            return True
        self._memory.put(verdict.entry)
        if verdict.observation is not None:
            self._recorder.observation(verdict.observation, source, verdict.blobs)
        return True

    async def _judged(self, entry: Entry | None, seen: Look) -> Verdict | None:
        """Return what an object comes to; None where it is not ours."""
        is_ours = seen.owner is not None and seen.owner.log_id == self._log_id
        is_known = entry is not None and entry.uid == seen.uid
        if not is_ours and not is_known:
            return None
        application = entry.application if entry is not None else ""
        if is_ours and seen.owner is not None:
            application = f"{seen.owner.project}/{seen.owner.application}"
        if entry is not None and is_known and _is_same(entry, seen, application):
            essence = seen.essence or entry.essence
            return Verdict(replace(entry, version=seen.version, essence=essence))
        digest_of_kept = entry.kept if entry is not None else None
        kept = await self._kept.get(digest_of_kept)
        digest = self._digest(seen, kept)
        now = _entry(seen, digest, digest_of_kept, application)
        if (
            entry is not None
            and is_known
            and digest == entry.digest
            and (application, now.presence) == (entry.application, entry.presence)
        ):
            return Verdict(now)
        return await self._changed(entry, now, seen, kept)

    async def _changed(
        self, entry: Entry | None, now: Entry, seen: Look, kept: Kept | None
    ) -> Verdict:
        blobs = [body := body_of(seen)]
        rebased = None
        if kept is not None and entry is not None and entry.uid == now.uid:
            rebased = await self._rebased(kept, seen)
        if rebased is not None:
            blobs.append(stored := self._kept.put(rebased))
            now = replace(now, kept=stored.digest, digest=self._digest(seen, rebased))
        observation = _observation(now, seen, body)
        if rebased is not None:
            observation = replace(observation, kept=now.kept)
        return Verdict(now, observation, tuple(blobs))

    async def _rebased(self, kept: Kept, seen: Look) -> Kept | None:
        """Return another kept form where the server now reads differently what we applied."""
        if seen.presence is not Presence.PRESENT:
            return None
        _, still_ours = compare_with(kept, seen.live, seen.ref)
        if not still_ours:
            return None
        reading = await self._reread(seen.ref, seen.uid)
        if reading is None or differences(reading, seen.live, seen.ref):
            return None
        return reading

    def _digest(self, seen: Look, kept: Kept | None, *, is_frozen: bool = False) -> str:
        others = foreign(kept, seen.live, seen.ref, self._foreign_allowed)
        return change_digest(
            kept,
            seen.live,
            others,
            seen.health,
            seen.message,
            seen.presence,
            is_frozen=is_frozen,
        )

    def _gone(self, entry: Entry, source: str) -> None:
        """Record that an object is gone, unless it has come back or a deed has begun meanwhile."""
        if self._memory.get(entry.ref) is not entry:
            return
        if self._memory.hold(Held(entry.ref, entry.uid, left=True)):
            return
        self.strays.pop(entry.ref.identity, None)
        self._memory.put(replace(entry, presence=Presence.ABSENT, digest=""))
        self._recorder.observation(_absence(entry), source)


def report_unseen(cluster: str, unseen: Mapping[ObjectRef, Exception]) -> None:
    """Log once what could not be looked at: of a cluster that is lost, that is everything."""
    if unseen:
        ref, error = next(iter(unseen.items()))
        _logger.info(
            "%d objects of %s cannot be looked at, %s among them: %s",
            *(len(unseen), cluster, ref, error),
        )


def _is_news(entry: Entry, uid: str, version: str) -> bool:
    if entry.uid != uid:
        # A late event of an earlier object of this name has an earlier version.
        return not is_older(version, entry.version)
    # A uid never comes back: an event of an object that is gone is a late one.
    return entry.presence is not Presence.ABSENT and is_newer(version, entry.version)


def _is_still(entry: Entry, parts: Glance, ref: ObjectRef, rules: HealthRules) -> bool:
    """Whether an object, by its bytes, is in all that counts what an entry was made from."""
    return parts.essence == entry.essence and parts.fares(ref, rules) == entry.health


def _is_same(entry: Entry, seen: Look, application: str) -> bool:
    return (
        (entry.body, entry.signature, entry.health) == (seen.body, seen.signature, seen.fares)
        and entry.presence is seen.presence
        and entry.application == application
    )


def _entry(seen: Look, digest: str, kept: str | None, application: str) -> Entry:
    return Entry(
        ref=seen.ref,
        uid=seen.uid,
        version=seen.version,
        digest=digest,
        kept=kept,
        presence=seen.presence,
        application=application,
        body=seen.body,
        signature=seen.signature,
        health=seen.fares,
        essence=seen.essence,
    )


def _observation(entry: Entry, seen: Look, body: Blob) -> Observation:
    return Observation(
        ref=entry.ref,
        presence=entry.presence,
        uid=entry.uid,
        resource_version=entry.version,
        digest=entry.digest,
        body=body.digest,
        application=entry.application,
        health=seen.health,
        message=seen.message,
    )


def _absence(entry: Entry) -> Observation:
    return Observation(
        ref=entry.ref,
        presence=Presence.ABSENT,
        uid=entry.uid,
        resource_version=entry.version,
        application=entry.application,
        health=Health.MISSING,
    )
