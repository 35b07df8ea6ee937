"""Answers to reads: one object, lists in pages, and watches."""

from __future__ import annotations

import base64
import binascii
import random
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import orjson

from engine.simulator import errors, requests, selectors, tables
from engine.simulator.cluster import SimCluster
from engine.simulator.requests import Target
from engine.simulator.resources import Resource
from engine.simulator.store import Event, HistoryExpiredError, Store, Stored, Watcher

Query = Mapping[str, str]
_PAGE_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can "
    "start a new list without the continue parameter, or use the continue token in this response "
    "to retrieve the remainder of the results. Continuing with the provided token results in an "
    "inconsistent list - objects that were created, modified, or deleted between the time the "
    "first chunk was returned and now may show up in the list."
)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which objects of a resource a list or watch is about."""

    namespace: str | None
    name: str
    labels: selectors.Test | None
    fields: selectors.Test | None

    def passes(self, stored: Stored) -> bool:
        """Whether an object is one of them."""
        metadata = stored.item["metadata"]
        if self.namespace is not None and metadata.get("namespace") != self.namespace:
            return False
        if self.name and metadata["name"] != self.name:
            return False
        if self.labels is not None and not self.labels(stored.item):
            return False
        return self.fields is None or self.fields(stored.item)


def filter_of(target: Target, query: Query) -> Filter:
    """The filter of a request; raises 400 for a malformed selector."""
    return Filter(
        target.namespace,
        target.name,
        selectors.labels(query.get("labelSelector") or ""),
        selectors.fields(query.get("fieldSelector") or ""),
    )


class View:
    """Turns stored objects into the form and version that a request asked for."""

    def __init__(self, resource: Resource, accept: str, cluster: SimCluster) -> None:
        self.resource = resource
        self.form = tables.wanted(accept)
        self._cluster = cluster
        head = {"apiVersion": resource.api_version, "kind": resource.kind}
        self._head = orjson.dumps(head)[:-1] + b","

    def item(self, item: dict[str, Any]) -> dict[str, Any]:
        """An object at the version asked for."""
        if item.get("apiVersion") == self.resource.api_version:
            return item
        if item.get("kind") != self.resource.kind:
            return item
        return {**item, "apiVersion": self.resource.api_version}

    def one(self, item: dict[str, Any]) -> bytes:
        """One object as an answer."""
        shown = self.item(item)
        if self.form and shown.get("kind") == self.resource.kind:
            if self.form == "table":
                return self._table(
                    [shown], {"resourceVersion": shown["metadata"]["resourceVersion"]}
                )
            return orjson.dumps(tables.bare(shown))
        return orjson.dumps(shown)

    def body(self, stored: Stored) -> bytes:
        """A stored object as JSON, from what was made once where the version is its own."""
        if self.form == "metadata":
            return orjson.dumps(tables.bare(stored.item))
        if self.form == "table":
            return self._table([self.item(stored.item)], {})
        if stored.item["apiVersion"] == self.resource.api_version:
            return stored.body
        return orjson.dumps(self.item(stored.item))

    def page(self, found: list[Stored], metadata: dict[str, Any]) -> bytes:
        """A list as an answer; as by a real server, items of built-in kinds name no kind."""
        if self.form == "table":
            return self._table([self.item(s.item) for s in found], metadata)
        kind, version = f"{self.resource.kind}List", self.resource.api_version
        bodies = [self.body(stored) for stored in found]
        if self.form == "metadata":
            kind, version = "PartialObjectMetadataList", "meta.k8s.io/v1"
        elif not self.resource.custom:
            cut = len(self._head)
            bodies = [b"{" + body[cut:] if body.startswith(self._head) else body for body in bodies]
        head = orjson.dumps({"kind": kind, "apiVersion": version, "metadata": metadata})
        return head[:-1] + b',"items":[' + b",".join(bodies) + b"]}"

    def _table(self, items: list[dict[str, Any]], metadata: dict[str, Any]) -> bytes:
        now = self._cluster.clock()
        return orjson.dumps(tables.table(self.resource, items, metadata, now))


def listing(cluster: SimCluster, target: Target, query: Query, view: View) -> bytes:
    """A list, whole or a page of it; raises 400, 410 for an expired page and 504."""
    store = cluster.store
    wanted = filter_of(target, query)
    limit = requests.number(query, "limit")
    if token := query.get("continue"):
        version, name, start = _read_token(token)
        frozen = store.frozen(name)
        if frozen is None or frozen[0] != version:
            raise errors.expired(_PAGE_EXPIRED)
        found = frozen[1]
    else:
        _require_version(store, query)
        version, name, start = store.version, "", 0
        objects = store.sorted(view.resource.key, target.namespace)
        found = [stored for stored in objects if wanted.passes(stored)]
    metadata: dict[str, Any] = {"resourceVersion": str(version)}
    page = found[start:]
    if limit and len(page) > limit:
        page = page[:limit]
        name = name or store.snapshot(found)
        metadata["continue"] = _token(version, name, start + limit)
        metadata["remainingItemCount"] = len(found) - start - limit
    return view.page(page, metadata)


def _require_version(store: Store, query: Query) -> None:
    wanted = requests.number(query, "resourceVersion")
    if wanted > store.version:
        raise errors.ApiError(
            504,
            "Timeout",
            f"Too large resource version: {wanted}, current: {store.version}",
            details={
                "causes": [
                    {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
                ],
                "retryAfterSeconds": 1,
            },
        )
    if query.get("resourceVersionMatch") == "Exact" and wanted != store.version:
        raise errors.expired(f"The resourceVersion for the provided list is too old: {wanted}")


def _token(version: int, name: str, start: int) -> str:
    return base64.urlsafe_b64encode(f"{version}:{name}:{start}".encode()).decode()


def _read_token(token: str) -> tuple[int, str, int]:
    try:
        version, name, start = base64.urlsafe_b64decode(token.encode()).decode().split(":")
        return int(version), name, int(start)
    except (ValueError, binascii.Error):
        raise errors.bad_request("continue key is not valid") from None


def _frame(kind: bytes, body: bytes) -> bytes:
    return b'{"type":"' + kind + b'","object":' + body + b"}\n"


class Watch:
    """One watch: what was missed since the resource version given, then what happens."""

    def __init__(
        self,
        cluster: SimCluster,
        target: Target,
        query: Query,
        view: View,
        *,
        bookmark_every: float,
    ) -> None:
        self._store = cluster.store
        self._view = view
        self._key = view.resource.key
        self._filter = filter_of(target, query)
        self._bookmarks = requests.flag(query, "allowWatchBookmarks")
        self._bookmark_every = bookmark_every
        self._initial = requests.flag(query, "sendInitialEvents")
        self._from = requests.number(query, "resourceVersion")
        seconds = requests.number(query, "timeoutSeconds")
        # As a real server: without a limit asked for, between half an hour and an hour.
        self._seconds = seconds or random.uniform(1800, 3600)  # noqa: S311 - spreads load only
        self._sent = self._from

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Yields the lines of the answer until time is up or the watch is dropped."""
        watcher = self._store.watch(self._key)
        try:
            with anyio.move_on_after(self._seconds):
                for frame in self._backlog():
                    yield frame
                while True:
                    frames = self._drain(watcher)
                    if frames:
                        yield frames
                    if watcher.closed and not watcher.pending:
                        return
                    with anyio.move_on_after(self._bookmark_every) as idle:
                        await watcher.wake.wait()
                    if idle.cancelled_caught and self._bookmarks:
                        yield self._bookmark()
            if self._bookmarks:
                yield self._bookmark()
        except HistoryExpiredError as error:
            status = errors.expired(f"too old resource version: {self._from} ({error.oldest})")
            yield _frame(b"ERROR", orjson.dumps(status.status))
        finally:
            self._store.unwatch(self._key, watcher)

    def _backlog(self) -> list[bytes]:
        """What comes first: every object, or the changes since the version asked for."""
        if self._from and not self._initial:
            events = self._store.since(self._key, self._from)
            self._sent = max(self._sent, self._store.version)
            return [frame for event in events if (frame := self._event(event))]
        objects = self._store.sorted(self._key, self._filter.namespace)
        self._sent = self._store.version
        out = [
            _frame(b"ADDED", self._view.body(stored))
            for stored in objects
            if self._filter.passes(stored)
        ]
        if self._initial and self._bookmarks:
            out.append(self._bookmark(initial_end=True))
        return out

    def _drain(self, watcher: Watcher) -> bytes:
        watcher.wake.clear()
        out = []
        while watcher.pending:
            event = watcher.pending.popleft()
            if event.version > self._sent:
                self._sent = event.version
                if frame := self._event(event):
                    out.append(frame)
        return b"".join(out)

    def _event(self, event: Event) -> bytes | None:
        """One change as this watch sees it: an object may enter or leave its filter."""
        now = event.change != "DELETED" and self._filter.passes(event.after)
        before = event.before is not None and self._filter.passes(event.before)
        if now:
            return _frame(b"MODIFIED" if before else b"ADDED", self._view.body(event.after))
        if not before or event.before is None:
            return None
        if event.change == "DELETED":
            return _frame(b"DELETED", self._view.body(event.after))
        # What left the filter is sent as it was, with the version of the change.
        metadata = {**event.before.item["metadata"], "resourceVersion": str(event.version)}
        return _frame(
            b"DELETED", self._view.body(Stored({**event.before.item, "metadata": metadata}))
        )

    def _bookmark(self, *, initial_end: bool = False) -> bytes:
        metadata: dict[str, Any] = {
            "resourceVersion": str(max(self._sent, self._store.version)),
            "creationTimestamp": None,
        }
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        item = {
            "kind": self._view.resource.kind,
            "apiVersion": self._view.resource.api_version,
            "metadata": metadata,
        }
        return _frame(b"BOOKMARK", orjson.dumps(item))
