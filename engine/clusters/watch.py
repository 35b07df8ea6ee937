"""One kind of one cluster: listed whole, then watched; and said so when that cannot be done.

A list that is not whole says nothing of what there is. A watch is resumed where it stopped; where
the server no longer has that history, the kind is listed afresh and the gap recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio
from anyio import lowlevel
from msgspec import Struct
from msgspec.structs import replace

from engine.clusters.backoff import Backoff, Bell
from engine.clusters.connect import Connection, Refused, Unreachable
from engine.clusters.discovery import Discovery, KindUnknown
from engine.clusters.kept import KeptForms
from engine.clusters.memory import Memory
from engine.clusters.observe import Observer, report_unseen
from engine.clusters.paths import collection_path
from engine.clusters.record import Recorder
from engine.clusters.settings import ClusterSettings
from engine.clusters.status import explain, status_of
from engine.clusters.wire import Garbage, Page, Response, is_older, line, page, version_of
from engine.objects.identity import ObjectRefused
from engine.objects.ownership import LABEL_SELECTOR
from engine.ports import Clock, KindInfo
from engine.telemetry import spans
from events.catalog import KindReadable, KindUnreadable, ObservationGap
from events.vocabulary import ObjectRef, Presence

_LIST_TRIES = 3
_PATIENCE, _LONG_PATIENCE = 3, 5
"""Failures in a row until a kind counts as unreadable: where they may pass by themselves, and where
it was readable before. A server that starts refuses everything until it has read its own rules."""
_SHORT_WATCH = 1.0
"""A watch that ends within so many seconds, and brought nothing, is a failure."""
_TRANSIENT = frozenset({"unavailable", "timed-out", "unreachable", "group-unavailable"})
_CLUSTERS_OWN = frozenset({"unreachable", "timed-out", "unauthorised", "tls", "config", "closed"})

_logger = logging.getLogger(__name__)


class Tools(Struct, frozen=True):
    """What all watchers of one cluster share."""

    connection: Connection
    discovery: Discovery
    observer: Observer
    memory: Memory
    kept: KeptForms
    recorder: Recorder
    clock: Clock
    settings: ClusterSettings
    restored: Callable[[str], None]
    """Told the version of a store that is older than it was."""


class _Gone(Exception):
    """The server no longer has the history that was asked for."""


class _Trouble(Exception):
    """The kind cannot be read now."""

    def __init__(self, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.retry_after = code, message, retry_after


class KindWatcher:
    """Keeps one (apiVersion, kind) observed.

    `recorded` is what the log says of the kind: "" readable, a code, or None for nothing yet.
    `alive` asks whether the cluster answers at all; `settled` is called when the kind is.
    """

    def __init__(
        self,
        api_version: str,
        kind: str,
        tools: Tools,
        *,
        recorded: str | None,
        alive: Callable[[], Awaitable[bool]],
        settled: Callable[[], None],
    ) -> None:
        self.api_version, self.kind = api_version, kind
        self._tools, self._alive, self._on_settled = tools, alive, settled
        self._code = recorded
        self._version: str | None = None
        self._highest = ""
        self._backoff = Backoff(tools.clock, tools.settings)
        self._bell = Bell(tools.clock)
        self._failures = 0
        self._is_doubtful = False
        """Whether the last watch ended before its time: the server may be another by now."""
        self._watching = anyio.CancelScope()
        self.is_settled = False

    @property
    def is_readable(self) -> bool:
        """Whether the kind was listed whole and is watched."""
        return self.is_settled and self._code == ""

    @property
    def recorded(self) -> dict[tuple[str, str], str]:
        """What the log says of the kind by now, if it says anything."""
        return {} if self._code is None else {(self.api_version, self.kind): self._code}

    def kick(self) -> None:
        """Try again now, if it waits."""
        self._bell.ring()

    def distrust(self) -> None:
        """List afresh before the kind counts as settled again: the cluster was lost."""
        self.is_settled = False
        self._version = None
        # Its watch may hang on a connection that is dead and does not know it.
        self._watching.cancel()

    def suspect(self, version: str) -> None:
        """Distrust the watch where it is from after a version that the store has only now.

        Such a watch is silent until the store is there again, whatever happens.
        """
        if is_older(version, self._highest):
            self.distrust()

    async def run(self) -> None:
        """Observe for ever."""
        while True:
            try:
                info = await self._info()
                if self._version is not None and self._is_doubtful:
                    await self._check_store(info)
                if self._version is None:
                    self._version = await self._listed(info)
                lasted = True
                with anyio.CancelScope() as self._watching:
                    lasted = await self._follow(info)
            except _Gone:
                self._gap("the server no longer has the history (410)")
                self._version = None
                wait = self._backoff.next()
            except _Trouble as trouble:
                await self._troubled(trouble)
                wait = self._backoff.next(trouble.retry_after)
            except Exception:
                _logger.exception("observing %s %s failed", self.api_version, self.kind)
                self._version = None
                await self._unreadable("internal-error", "The engine failed on it; see its logs.")
                wait = self._backoff.next()
            else:
                if lasted:
                    continue
                wait = self._backoff.next()
            await self._bell.wait(wait)

    async def refresh(self) -> bool:
        """List the kind afresh beside the watch; return whether that could be done."""
        try:
            await self._listed(await self._info())
        except (_Trouble, _Gone) as error:
            _logger.info("listing %s %s afresh failed: %s", self.api_version, self.kind, error)
            return False
        return True

    async def _info(self) -> KindInfo:
        try:
            info = await self._tools.discovery.find(self.api_version, self.kind)
        except KindUnknown as error:
            raise _Trouble(error.code, error.message) from None
        except Unreachable as error:
            raise _Trouble(error.code, error.message) from None
        if not {"list", "watch"} <= info.verbs:
            raise _Trouble("not-listable", f"{self.kind} cannot be listed and watched.")
        return info

    async def _listed(self, info: KindInfo) -> str:
        """List the kind whole; return the version that a watch continues from."""
        said = {
            "k8s.cluster.name": self._tools.recorder.cluster,
            "trueup.kind": f"{self.api_version}/{self.kind}",
        }
        with spans.span("list", said, root=True):
            return await self._list_whole(info)

    async def _check_store(self, info: KindInfo) -> None:
        """See that the store is as new as what was seen of it, lest a watch wait for the past.

        One that was lost and put back while nobody looked has an earlier version; the watch of a
        later one is silent, and nobody would know until everything is listed again.
        """
        params = {"labelSelector": LABEL_SELECTOR, "limit": "1"}
        try:
            response = await self._tools.connection.request(
                "GET",
                collection_path(info),
                params=params,
                limit=self._tools.settings.page_bytes,
            )
            if not response.is_success:
                raise Refused(response)
            version = page(response.body).metadata.resource_version
        except Unreachable as error:
            raise _Trouble(error.code, error.message) from None
        except Refused as error:
            raise self._refused(error.response) from None
        except (Garbage, ObjectRefused) as error:
            raise _Trouble("garbage", f"The list of {self.kind} has {error}.") from None
        if is_older(version, self._highest):
            self._restored(version)

    async def _list_whole(self, info: KindInfo) -> str:
        try:
            for _ in range(_LIST_TRIES):
                found = await self._try_list(info)
                if found is not None:
                    version, seen = found
                    await self._look_for_missing(seen)
                    if not is_older(version, self._highest):
                        self._highest = version
                    return version
        except Unreachable as error:
            raise _Trouble(error.code, error.message) from None
        except Refused as error:
            raise self._refused(error.response) from None
        except (Garbage, ObjectRefused) as error:
            raise _Trouble("garbage", f"The list of {self.kind} has {error}.") from None
        raise _Trouble("unavailable", "The list expires before it is read to its end.")

    async def _try_list(self, info: KindInfo) -> tuple[str, set[str]] | None:
        """Read all pages; None where the list expired on the way."""
        settings = self._tools.settings
        seen: set[str] = set()
        highest = self._highest
        version, token, size = "", "", settings.page
        while True:
            params = {"labelSelector": LABEL_SELECTOR, "limit": str(size)}
            if token:
                params["continue"] = token
            try:
                response = await self._tools.connection.request(
                    "GET", collection_path(info), params=params, limit=settings.page_bytes
                )
            except Unreachable as error:
                if error.code != "too-large" or size == 1:
                    raise
                size = max(1, size // 4)
                continue
            if response.status == 410:
                return None
            if not response.is_success:
                raise Refused(response)
            found = page(response.body)
            if not version:
                version = found.metadata.resource_version
                if is_older(version, highest):
                    self._restored(version)
            seen |= await self._take(found)
            token = found.metadata.continue_
            if not token:
                return version, seen

    def _restored(self, version: str) -> None:
        # A list is never older than what was seen before it was asked for.
        self._gap("the server's store is older than it was: it was restored from a backup")
        self._tools.memory.forget_versions(self.api_version, self.kind)
        self._highest = version
        # A watch from a version that is yet to come would be silent until then.
        self._version = None
        self._watching.cancel()
        self._tools.restored(version)

    async def _take(self, found: Page) -> set[str]:
        items = [bytes(item) for item in found.items or ()]
        # After a start only digests are known, so that all that moved on is compared in full.
        await self._tools.kept.load(
            self._tools.observer.kept_of(self.api_version, self.kind, items)
        )
        seen: set[str] = set()
        for item in items:
            ref = await self._tools.observer.saw(self.api_version, self.kind, item, "list")
            seen.add(ref.identity)
            await lowlevel.checkpoint()
        return seen

    async def _look_for_missing(self, seen: set[str]) -> None:
        unseen: dict[ObjectRef, Exception] = {}
        for entry in self._tools.memory.of_kind(self.api_version, self.kind):
            if (
                entry.presence is not Presence.ABSENT
                and entry.ref.identity not in seen
                and self._tools.observer.is_read_as(entry.ref, self.api_version)
            ):
                try:
                    await self._tools.observer.confirm(
                        replace(entry.ref, api_version=self.api_version)
                    )
                except (Unreachable, Refused, KindUnknown) as error:
                    # It stays a stray, which is looked at again.
                    unseen[entry.ref] = error
        report_unseen(self._tools.recorder.cluster, unseen)

    async def _follow(self, info: KindInfo) -> bool:
        """Watch until the stream ends; return whether it lasted, or brought something."""
        settings, clock = self._tools.settings, self._tools.clock
        seconds = settings.watch_timeout * (0.8 + clock.random() / 5)
        params = {
            "watch": "1",
            "labelSelector": LABEL_SELECTOR,
            "resourceVersion": self._version or "",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, int(seconds))),
        }
        opened: float | None = None
        brought = False
        self._is_doubtful = True
        try:
            async with self._tools.connection.stream(
                collection_path(info), params, timeout=seconds + 30, idle=settings.watch_idle
            ) as lines:
                opened = clock.monotonic()
                await self._readable(info)
                async for body in lines:
                    await self._event(body)
                    if self._version is None:
                        # Distrusted meanwhile.
                        return True
                    brought = True
                    self._backoff.reset()
        except Refused as error:
            if error.response.status == 410:
                raise _Gone from None
            raise self._refused(error.response) from None
        except KindUnknown as error:
            raise _Trouble(error.code, error.message) from None
        except Unreachable as error:
            if opened is None:
                raise _Trouble(error.code, error.message) from None
            if error.code != "timed-out":
                _logger.info("the watch of %s %s broke: %s", self.api_version, self.kind, error)
                return brought
        except (Garbage, ObjectRefused) as error:
            _logger.warning("the watch of %s %s has %s", self.api_version, self.kind, error)
            self._gap(f"the watch has {error}")
            self._version = None
            return False
        lasted = clock.monotonic() - opened
        self._is_doubtful = lasted < int(seconds) - _SHORT_WATCH
        return brought or lasted >= _SHORT_WATCH

    async def _event(self, body: bytes) -> None:
        event = line(body)
        observer = self._tools.observer
        match event.type:
            case "ADDED" | "MODIFIED":
                await observer.saw(self.api_version, self.kind, bytes(event.object), "watch")
            case "DELETED":
                try:
                    await observer.left(self.api_version, self.kind, bytes(event.object))
                except (Unreachable, Refused, KindUnknown) as error:
                    _logger.info("whether an object is gone cannot be told yet: %s", error)
            case "ERROR":
                status = status_of(bytes(event.object))
                if status.code == 410 or status.reason in ("Expired", "Gone"):
                    raise _Gone
                raise Refused(Response(status.code or 500, bytes(event.object)))
            case "BOOKMARK":
                pass
            case _:
                raise Garbage("an event of an unknown type")
        # None where the cluster was lost meanwhile: then this must not bring it back.
        version = version_of(event.object)
        self._version = self._version and version
        if not is_older(version, self._highest):
            self._highest = version

    async def _readable(self, info: KindInfo) -> None:
        self._failures = 0
        if self._code != "":
            self._code = ""
            self._tools.recorder.fact(KindReadable(self.api_version, self.kind, info.namespaced))
        await self._settle()

    async def _unreadable(self, code: str, message: str) -> None:
        if self._code != code:
            self._code = code
            self._tools.recorder.fact(KindUnreadable(self.api_version, self.kind, code, message))
        await self._settle()

    async def _settle(self) -> None:
        if not self.is_settled:
            # What the listing found comes first: whoever sees it settled finds it in the log.
            await self._tools.recorder.flush()
            self.is_settled = True
            self._on_settled()

    async def _troubled(self, trouble: _Trouble) -> None:
        self._failures += 1
        was_readable, may_pass = self._code == "", trouble.code in _TRANSIENT
        patience = _LONG_PATIENCE if was_readable else _PATIENCE if may_pass else 1
        if self._failures < patience:
            return
        if trouble.code in _CLUSTERS_OWN and not await self._alive():
            # Said once, for all kinds, as the cluster's trouble.
            return
        await self._unreadable(trouble.code, trouble.message)

    def _refused(self, response: Response) -> _Trouble:
        said = explain(response)
        match response.status:
            case 401:
                return _Trouble("unauthorised", f"The cluster refuses our credentials: {said}")
            case 403:
                return _Trouble("forbidden", f"We may not list and watch {self.kind}: {said}")
            case 404:
                self._tools.discovery.forget(self.api_version)
                return _Trouble("no-such-kind", f"{self.kind} is no longer served: {said}")
            case _:
                return _Trouble(
                    "unavailable", f"{self.kind} cannot be listed: {said}", response.retry_after
                )

    def _gap(self, reason: str) -> None:
        self._tools.recorder.fact(ObservationGap(f"{self.api_version}/{self.kind}", reason))
