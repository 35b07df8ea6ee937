"""Repositories, clusters and notifications, each kept up for as long as it is declared."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import Any

import msgspec
import orjson

from engine.clusters.cluster import Cluster
from engine.clusters.kept import KeptForms
from engine.clusters.memory import Baseline
from engine.clusters.settings import ClusterSettings
from engine.notify.outbox import Means, Outbox
from engine.objects.prepare import is_secret
from engine.objects.redact import Redactor
from engine.people import People
from engine.ports import Clock, ClusterPort, RenderRefused, Tree
from engine.process.supervise import Children
from engine.reconcile.requests import placed
from engine.resources.duration import seconds
from engine.resources.model import ClusterSpec, NotificationSpec, RepositorySpec
from engine.sources.failure import SourceError
from engine.sources.follower import Followed, RepositoryFollower, SourceState
from engine.sources.mirror import Mirror, Mirrors
from events.catalog import NotificationReplayRequested, NotificationTestRequested
from events.codec import fact_of
from events.event import Digest, Event, Position, StreamName
from events.log import EventLog, LogError
from events.vocabulary import ObjectRef
from projections.alerts import ALERT_TYPES, alert_of
from projections.clusters import CLUSTERS
from projections.declared import DeclaredDocument
from projections.errors import ViewError
from projections.fold import object_key
from projections.observed import OBSERVED
from projections.sources import SOURCES
from projections.views import Views, read_all

logger = logging.getLogger(__name__)


class RepositoryWorld:
    """Follows repositories; also `engine.reconcile.resolve.Trees`."""

    def __init__(
        self,
        children: Children,
        mirrors: Mirrors,
        log: EventLog,
        views: Views,
        clock: Clock,
        people: People,
    ) -> None:
        self._children, self._mirrors, self._people = children, mirrors, people
        self._log, self._views, self._clock = log, views, clock
        self._followers: dict[str, RepositoryFollower] = {}
        self._followed: dict[str, Mirror] = {}
        self._asked: dict[str, list[Position]] = {}

    async def put(self, stream: str, declared: DeclaredDocument) -> None:
        """Follow a repository as it is declared now."""
        spec = msgspec.convert(declared.spec, RepositorySpec)
        mirror = self._mirrors.open(spec.url, spec.credentials)
        self._followed[stream] = mirror
        followed = Followed(StreamName(stream), spec.ref, seconds(spec.interval))

        async def run() -> None:
            follower = RepositoryFollower(
                followed, mirror, self._log, self._clock, await self._state(stream), self._people
            )
            self._followers[stream] = follower
            for requested in self._asked.pop(stream, []):
                follower.poke(requested)
            await follower.run()

        await self._children.put(stream, run)

    async def remove(self, stream: str) -> None:
        """Stop following a repository."""
        await self._children.remove(stream)
        self._followers.pop(stream, None)
        self._followed.pop(stream, None)

    def poke(self, stream: str, requested: Position) -> None:
        """Look at a repository now, because an event at this position asked for it."""
        follower = self._followers.get(stream)
        if follower is None:
            self._asked.setdefault(stream, []).append(requested)
        else:
            follower.poke(requested)

    async def tree(self, repository: str, commit: str) -> Tree:
        """Return a commit of a repository; raises `RenderRefused` where it is not followed."""
        mirror = self._followed.get(repository)
        if mirror is None:
            raise RenderRefused("repository-missing", f"{repository} is not declared")
        return mirror.tree(commit)

    async def changes(
        self, repository: str, old: str, new: str, paths: Collection[str]
    ) -> dict[str, str]:
        """Name the newest commit after `old` that changed each path, as far as can be told."""
        mirror = self._followed.get(repository)
        if mirror is None or not old:
            return {}
        try:
            return await mirror.last_changes(old, new, paths)
        except SourceError as error:
            logger.info("%s does not tell who changed what: %s", repository, error)
            return {}

    async def _state(self, stream: str) -> SourceState:
        async with self._views.snapshot() as reader:
            found = await reader.get(SOURCES, stream)
        if found is None:
            return SourceState()
        document = found.document
        failure = document.failure
        return SourceState(
            ref=document.ref,
            commit=document.commit,
            failure_code=failure.code if failure else "",
            failure_message=failure.message if failure else "",
        )


class ClusterWorld:
    """Keeps up with clusters; also `engine.reconcile.reconciler.Clusters`."""

    def __init__(
        self,
        children: Children,
        log: EventLog,
        views: Views,
        redactor: Redactor,
        clock: Clock,
        settings: ClusterSettings,
    ) -> None:
        self._children, self._log, self._views = children, log, views
        self._redactor, self._clock, self._settings = redactor, clock, settings
        # One for all: what an application has on a hundred clusters is held once.
        self._kept = KeptForms(log, clock, settings)
        self._clusters: dict[str, Cluster] = {}

    def port(self, cluster_stream: str) -> ClusterPort | None:
        """Return the way to a cluster; None where it is not declared."""
        return self._clusters.get(cluster_stream)

    def kept_weight(self) -> int:
        """Return the bytes of kept forms that are at hand."""
        return self._kept.weight

    def ages(self) -> list[tuple[str, float]]:
        """Return each cluster's name, and how old what is known of it is, in seconds."""
        # Asked from the exporter's thread, too: a copy, lest the clusters change meanwhile.
        known = list(self._clusters.items())
        return [(stream.rpartition("/")[2], cluster.age) for stream, cluster in known]

    async def put(self, stream: str, declared: DeclaredDocument) -> None:
        """Read a cluster as it is declared now."""
        recorded = RecordedCluster(self._views, self._log, stream)
        cluster = Cluster(
            declared.project,
            declared.name,
            msgspec.convert(declared.spec, ClusterSpec),
            log=self._log,
            redactor=self._redactor,
            baselines=recorded,
            clock=self._clock,
            settings=self._settings,
            desired_body=recorded.applied_body,
            kept=self._kept,
            other_rules=not await recorded.is_confirmed_since(declared.at),
        )
        await self._children.remove(stream)
        self._clusters[stream] = cluster
        await self._children.put(stream, cluster.run)

    async def remove(self, stream: str) -> None:
        """Stop reading a cluster."""
        self._clusters.pop(stream, None)
        await self._children.remove(stream)


class NotificationWorld:
    """Keeps notifications' outboxes going."""

    def __init__(self, children: Children, means: Means) -> None:
        self._children, self._means = children, means
        self._outboxes: dict[str, Outbox] = {}

    async def put(self, stream: str, declared: DeclaredDocument) -> None:
        """Deliver a notification as it is declared now."""
        spec = msgspec.convert(declared.spec, NotificationSpec)
        outbox = Outbox(StreamName(stream), spec, self._means)
        await self._children.remove(stream)
        self._outboxes[stream] = outbox
        await self._children.put(stream, outbox.run)

    async def remove(self, stream: str) -> None:
        """Deliver a notification no more."""
        self._outboxes.pop(stream, None)
        await self._children.remove(stream)

    def heard(self, events: Iterable[Event]) -> None:
        """Pass on what the views have folded: new alerts to all, requests to whom they ask."""
        is_news = False
        for event in events:
            outbox = self._outboxes.get(event.stream)
            if outbox is not None and event.type in _REQUESTS:
                outbox.ask()
            if not is_news and event.type in ALERT_TYPES:
                is_news = alert_of(event, fact_of(event)) is not None
        if is_news:
            self.missed()

    def missed(self) -> None:
        """Let all look whether there is something for them."""
        for outbox in self._outboxes.values():
            outbox.tell()


_REQUESTS = frozenset({NotificationReplayRequested.__name__, NotificationTestRequested.__name__})


class RecordedCluster:
    """What the log has of one cluster; implements `engine.clusters.cluster.Baselines`."""

    def __init__(self, views: Views, log: EventLog, stream: str) -> None:
        self._views, self._log, self._stream = views, log, stream

    async def load(self) -> list[Baseline]:
        """Return every object last recorded."""
        async with self._views.snapshot() as reader:
            objects = await read_all(reader, OBSERVED, prefix=f"{self._stream}|")
        return [
            Baseline(
                ref=document.ref,
                uid=document.uid,
                resource_version=document.resource_version,
                digest=document.digest,
                kept=document.applied.kept if document.applied else None,
                presence=document.presence,
                application=document.application,
            )
            for document in (found.document for found in objects)
        ]

    async def applied_body(self, ref: ObjectRef) -> dict[str, Any] | None:
        """Return the body that was last applied to an object, as it was sent.

        None where it cannot be told: it was never applied, has secrets, was redacted, was sent
        with live values in it, or the database does not answer now.
        """
        key = object_key(self._stream, ref.identity)
        try:
            async with self._views.snapshot() as reader:
                found = await reader.get(OBSERVED, key)
            applied = found.document.applied if found else None
            if applied is None or applied.left:
                return None
            digest = Digest(applied.desired)
            stored = (await self._log.blobs([digest])).get(digest)
        except (LogError, ViewError) as error:
            logger.info("what was applied to %s cannot be told: %s", ref, error)
            return None
        body = orjson.loads(stored) if stored is not None else None
        # A hook is sent under another name than the one it was rendered with; of a Secret hashes
        # are stored.
        if body is None or is_secret(body) or body["metadata"]["name"] != ref.name:
            return None
        return placed(body, ref.namespace)

    async def kinds(self) -> dict[tuple[str, str], str]:
        """Return each kind last recorded: "" readable, else the code."""
        async with self._views.snapshot() as reader:
            found = await reader.get(CLUSTERS, self._stream)
        kinds: dict[tuple[str, str], str] = {}
        for key, state in (found.document.kinds if found else {}).items():
            api_version, _, kind = key.rpartition("/")
            kinds[api_version, kind] = state.code
        return kinds

    async def is_confirmed_since(self, at: int) -> bool:
        """Whether everything was looked at after a time, and not merely begun to be."""
        async with self._views.snapshot() as reader:
            found = await reader.get(CLUSTERS, self._stream)
        return found is not None and found.document.confirmed_at > at

    async def is_lost(self) -> bool:
        """Return whether the last that was recorded of the cluster itself is its loss."""
        async with self._views.snapshot() as reader:
            found = await reader.get(CLUSTERS, self._stream)
        return found is not None and found.document.lost is not None
