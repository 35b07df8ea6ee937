"""What a cluster's reader remembers of each object: digests and versions, never bodies. Pure.

An entry is replaced, never changed, so that whoever awaited something can tell by identity
whether the entry is still the one that the work began with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from engine.clusters.wire import is_older
from events.vocabulary import ObjectRef, Presence

MAX_ABSENT = 10_000
"""How many objects that are gone are remembered, per cluster."""


class Baseline(Struct, frozen=True, gc=False):
    """What the log last recorded of one object. `kept` is the digest of its kept form."""

    ref: ObjectRef
    uid: str
    resource_version: str
    digest: str
    kept: str | None
    presence: Presence
    application: str


class Entry(Struct, frozen=True, gc=False):
    """One object, as last seen and as last recorded.

    `version` is the latest resourceVersion seen; the log may have an earlier one, but since then
    nothing has changed that `digest` covers. `body`, `signature`, `health` and `essence` are hashes
    that tell, without looking further, that nothing has; empty where they are not known yet.
    """

    ref: ObjectRef
    uid: str
    version: str
    digest: str
    kept: str | None
    presence: Presence
    application: str
    body: bytes = b""
    signature: bytes = b""
    health: bytes = b""
    essence: bytes = b""


class Held(Struct, frozen=True):
    """What came of an object while a deed on it was in flight: only its latest state counts.

    `left`: it left the filter at least once, so that only a GET can say how it is now.
    """

    ref: ObjectRef
    uid: str = ""
    version: str = ""
    body: bytes = b""
    source: str = ""
    left: bool = False


class Memory:
    """The entries of one cluster, by kind and identity, and which objects have a deed in flight."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], dict[str, Entry]] = {}
        self._absent: dict[str, None] = {}
        self._flights: dict[str, int] = {}
        self._held: dict[str, Held] = {}
        self._shared: set[tuple[str, str]] = set()

    def share(self, ref: ObjectRef) -> None:
        """Note that a kind's list has objects that are not ours, of which nothing else is kept."""
        self._shared.add((ref.group, ref.kind))

    def may_know(self, ref: ObjectRef) -> bool:
        """Whether an object was seen, or may have been, as one that is not ours."""
        return self.get(ref) is not None or (ref.group, ref.kind) in self._shared

    def load(self, baselines: Iterable[Baseline]) -> None:
        """Begin anew with what the log recorded; deeds in flight stay in flight."""
        self._kinds.clear()
        self._absent.clear()
        for known in baselines:
            self.put(
                Entry(
                    ref=known.ref,
                    uid=known.uid,
                    version=known.resource_version,
                    digest=known.digest,
                    kept=known.kept,
                    presence=known.presence,
                    application=known.application,
                )
            )

    def get(self, ref: ObjectRef) -> Entry | None:
        """Return what is remembered of an object, whatever API version it is named by."""
        entries = self._kinds.get((ref.group, ref.kind))
        return entries.get(ref.identity) if entries is not None else None

    def put(self, entry: Entry) -> None:
        """Remember an object as it is now."""
        ref = entry.ref
        identity = ref.identity
        self._kinds.setdefault((ref.group, ref.kind), {})[identity] = entry
        self._absent.pop(identity, None)
        if entry.presence is Presence.ABSENT:
            self._absent[identity] = None
            if len(self._absent) > MAX_ABSENT:
                self._drop(next(iter(self._absent)))

    def of_kind(self, api_version: str, kind: str) -> list[Entry]:
        """Return the entries of a kind, in whatever version, those of absent objects included."""
        group = api_version.rpartition("/")[0]
        return list(self._kinds.get((group, kind), {}).values())

    def forget_versions(self, api_version: str, kind: str) -> None:
        """Take whatever comes next of this kind as newer: the server's own count went back."""
        for entry in self.of_kind(api_version, kind):
            self.put(replace(entry, version=""))

    def __iter__(self) -> Iterator[Entry]:
        for entries in self._kinds.values():
            yield from entries.values()

    def begin(self, identity: str) -> None:
        """Hold this object's events from now on: a deed is in flight."""
        self._flights[identity] = self._flights.get(identity, 0) + 1

    def end(self, identity: str) -> Held | None:
        """Say that the deed has ended; return the event that was held, when it was the last."""
        left = self._flights.get(identity, 0) - 1
        if left > 0:
            self._flights[identity] = left
            return None
        self._flights.pop(identity, None)
        return self._held.pop(identity, None)

    def hold(self, held: Held) -> bool:
        """Hold an event where a deed is in flight. Else False."""
        if not self._flights or (identity := held.ref.identity) not in self._flights:
            return False
        before = self._held.get(identity)
        if before and before.uid == held.uid and is_older(held.version, before.version):
            held = before
        if before and before.left:
            held = replace(held, left=True)
        self._held[identity] = held
        return True

    def _drop(self, identity: str) -> None:
        self._absent.pop(identity, None)
        for entries in self._kinds.values():
            if entries.pop(identity, None) is not None:
                return
