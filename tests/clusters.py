"""A cluster under test: the product's reader of it, its log, and a person's own hand."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import orjson
from msgspec.structs import replace

from engine.clusters.access import AccessReader
from engine.clusters.cluster import Cluster
from engine.clusters.connect import Connection
from engine.clusters.memory import Baseline
from engine.clusters.settings import ClusterSettings
from engine.objects.kept import Kept, differences
from engine.objects.ownership import OWNER_LABEL, label_value, stamp
from engine.objects.redact import Redactor
from engine.ports import Answer, ApplyRequest, Owner
from engine.process.clock import SystemClock
from engine.resources.model import ClusterSpec
from events.catalog import (
    ClusterConnected,
    ClusterLost,
    Fact,
    KindReadable,
    KindUnreadable,
    ObjectsObserved,
    ObservationConfirmed,
)
from events.codec import fact_of
from events.event import START, Digest
from events.memory import MemoryLog
from events.vocabulary import Difference, ObjectRef, Observation, Presence

REDACTOR = Redactor(b"0123456789abcdef0123456789abcdef", "test")
PATIENCE = 20.0
"""Seconds after which a test that waits for a fact fails."""


def settings(folder: Path, **changes: Any) -> ClusterSettings:
    """Settings that wait little, for kubeconfigs below `folder`."""
    quick: dict[str, Any] = {
        "kubeconfig_roots": (str(folder),),
        "request_timeout": 5.0,
        "probe_interval": 0.5,
        "probe_timeout": 1.0,
        "loss_grace": 0.2,
        "backoff_first": 0.02,
        "backoff_most": 0.2,
        "discovery_interval": 0.05,
        "doubt_interval": 0.1,
    }
    return ClusterSettings(**(quick | changes))


class Hand:
    """A person's own requests, and objects in the namespace of one test."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self._connection = connection
        self.namespace = namespace

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        manager: str = "kubectl-edit",
        content_type: str = "application/merge-patch+json",
    ) -> Any:
        """Send a request; return what was answered. Fails the test where it is refused."""
        params = {} if method in ("GET", "DELETE") else {"fieldManager": manager}
        response = await self._connection.request(
            method,
            path,
            params=params,
            body=None if body is None else orjson.dumps(body),
            content_type=content_type if method == "PATCH" else "application/json",
        )
        assert response.is_success, (response.status, response.body)
        return orjson.loads(response.body)

    def path(self, name: str = "", plural: str = "configmaps") -> str:
        """The path of a core object in the test's namespace."""
        base = f"/api/v1/namespaces/{self.namespace}/{plural}"
        return f"{base}/{name}" if name else base


class LogBaselines:
    """What a log has of a cluster, folded as the views fold it; `answers` are applies' outcomes."""

    def __init__(self, log: MemoryLog, answers: Iterable[Answer] = ()) -> None:
        self._log, self._answers = log, list(answers)

    async def load(self) -> list[Baseline]:
        found: dict[str, Baseline] = {}

        def take(seen: Observation, kept: str | None) -> None:
            before = found.get(seen.ref.identity)
            found[seen.ref.identity] = Baseline(
                ref=seen.ref,
                uid=seen.uid,
                resource_version=seen.resource_version,
                digest=seen.digest,
                kept=kept or (before.kept if before else None),
                presence=seen.presence,
                application=seen.application,
            )

        for answer in self._answers:
            if answer.observed is not None:
                take(answer.observed, answer.kept)
        for fact in await facts_of(self._log):
            if isinstance(fact, ObjectsObserved):
                for seen in fact.objects:
                    take(seen, seen.kept)
        return list(found.values())

    async def kinds(self) -> Mapping[tuple[str, str], str]:
        found: dict[tuple[str, str], str] = {}
        for fact in await facts_of(self._log):
            if isinstance(fact, KindReadable):
                found[fact.api_version, fact.kind] = ""
            elif isinstance(fact, KindUnreadable):
                found[fact.api_version, fact.kind] = fact.code
        return found

    async def is_lost(self) -> bool:
        told = [
            fact
            for fact in await facts_of(self._log)
            if isinstance(fact, ClusterConnected | ClusterLost)
        ]
        return bool(told) and isinstance(told[-1], ClusterLost)


class World:
    """One cluster under test. `owner` owns what the product applies here."""

    def __init__(
        self, kubeconfig: Path, context: str | None, hand: Hand, scratch: Path, **habits: Any
    ) -> None:
        self.kubeconfig, self.context, self.hand = kubeconfig, context, hand
        self.scratch, self.habits = scratch, habits
        self.log = MemoryLog(SystemClock().now, str(uuid.uuid4()))
        self.owner = Owner(self.log.log_id, "default", "shop")
        self.answers: list[Answer] = []
        self.bodies: dict[str, dict[str, Any]] = {}
        self.clusters: list[Cluster] = []

    @property
    def namespace(self) -> str:
        return self.hand.namespace

    @property
    def cluster(self) -> Cluster:
        """The reader that runs now."""
        return self.clusters[-1]

    @asynccontextmanager
    async def running(
        self, *kinds: tuple[str, str], wait: bool = True, **habits: Any
    ) -> AsyncIterator[Cluster]:
        """Run a reader that wants these kinds; what it records before is its baseline."""

        async def desired(ref: ObjectRef) -> dict[str, Any] | None:
            return self.bodies.get(ref.identity)

        cluster = Cluster(
            "default",
            "test",
            ClusterSpec(kubeconfig=str(self.kubeconfig), context=self.context),
            log=self.log,
            redactor=REDACTOR,
            baselines=LogBaselines(self.log, self.answers),
            clock=SystemClock(),
            settings=settings(self.scratch, **(self.habits | habits)),
            desired_body=desired,
        )
        await cluster.want("default/shop", kinds or [("v1", "ConfigMap")])
        self.clusters.append(cluster)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cluster.run)
            try:
                if wait:
                    with anyio.fail_after(PATIENCE):
                        await cluster.until_ready()
                yield cluster
            finally:
                tasks.cancel_scope.cancel()

    def configmap(self, name: str, **data: str) -> dict[str, Any]:
        return self.ours({"apiVersion": "v1", "kind": "ConfigMap", "data": data}, name)

    def ours(self, body: dict[str, Any], name: str, namespace: str | None = None) -> dict[str, Any]:
        """An object as it would be desired: with our label and annotation."""
        where = self.namespace if namespace is None else namespace
        metadata = {"name": name, **(body.get("metadata") or {})}
        if where:
            metadata["namespace"] = where
        return stamp({**body, "metadata": metadata}, self.owner)

    async def apply(
        self, body: dict[str, Any], *, force: bool = True, after: Answer | None = None, **what: Any
    ) -> Answer:
        """Apply, as decided on an earlier answer's observation."""
        metadata = body["metadata"]
        ref = ObjectRef(
            body["apiVersion"], body["kind"], metadata.get("namespace", ""), metadata["name"]
        )
        request = ApplyRequest(ref=ref, body=body, desired="sha256:1", force=force)
        seen = after.observed if after else None
        if seen is not None:
            request = replace(
                request,
                uid=seen.uid,
                resource_version=seen.resource_version,
                observed=seen.digest,
            )
        answer = await self.cluster.apply(replace(request, **what))
        if answer.outcome.is_success:
            # As the reconciler does with the outcome.
            await self.log.put(answer.blobs)
            self.answers.append(answer)
            self.bodies[ref.identity] = body
        return answer

    async def seen(self, name: str, which: Callable[[Observation], bool] = bool) -> Observation:
        """Wait until an object was observed so; return that observation."""

        def found(facts: list[Fact]) -> Observation | None:
            return next((o for o in observed(facts, name) if which(o)), None)

        return await self.until(found)

    async def until(self, wanted: Callable[[list[Fact]], Any]) -> Any:
        """Wait until the log's facts give something true; return it."""
        facts: list[Fact] = []
        async with contextlib.aclosing(self.log.follow(START)) as batches:
            with anyio.fail_after(PATIENCE):
                async for batch in batches:
                    facts += [fact_of(event) for event in batch]
                    if found := wanted(facts):
                        return found
        raise AssertionError("the log ended")

    async def facts(self) -> list[Fact]:
        """All facts until now, without what only says that a reader runs."""
        chatter = ClusterConnected | ObservationConfirmed
        return [fact for fact in await facts_of(self.log) if not isinstance(fact, chatter)]

    async def fence(self, name: str = "fence") -> None:
        """Wait until what happened to ConfigMaps before this has come through the watch."""
        mark = uuid.uuid4().hex
        path = self.hand.path(name)
        body = self.configmap(name, mark=mark)
        await self.hand.send(
            "PATCH", path, body, manager="fence", content_type="application/apply-patch+yaml"
        )
        with anyio.fail_after(PATIENCE):
            while True:
                found = await self.seen(name, lambda o: o.body is not None)
                bodies = [await self.body(o) for o in observed(await facts_of(self.log), name)]
                if any(body.get("data", {}).get("mark") == mark for body in bodies):
                    return
                assert found
                await anyio.sleep(0.01)

    async def body(self, seen: Observation) -> dict[str, Any]:
        """The stored body of an observation."""
        if seen.body is None:
            return {}
        found = await self.log.blobs([Digest(seen.body)])
        body: dict[str, Any] = orjson.loads(found[Digest(seen.body)])
        return body

    async def differences(self, kept: str | None, seen: Observation) -> list[Difference]:
        """How an observed object differs from what was kept."""
        assert kept is not None
        stored = await self.log.blobs([Digest(kept)])
        return differences(Kept.decode(stored[Digest(kept)]), await self.body(seen), seen.ref)

    @property
    def label(self) -> dict[str, str]:
        return {OWNER_LABEL: label_value(self.owner)}


async def eventually(is_so: Callable[[], bool], timeout: float = PATIENCE) -> None:
    """Wait until a condition holds that nothing tells of."""
    with anyio.fail_after(timeout):
        while not is_so():  # noqa: ASYNC110 -- there is no event to wait for
            await anyio.sleep(0.01)


async def facts_of(log: MemoryLog) -> list[Fact]:
    return [fact_of(event) for event in await log.read(START, 1000)]


def observed(facts: Iterable[Fact], name: str = "") -> list[Observation]:
    """The observations among facts, of one object by name, or of all but the fence."""
    return [
        seen
        for fact in facts
        if isinstance(fact, ObjectsObserved)
        for seen in fact.objects
        if (seen.ref.name == name if name else seen.ref.name != "fence")
    ]


def is_absent(seen: Observation) -> bool:
    return seen.presence is Presence.ABSENT


@asynccontextmanager
async def hand_of(
    kubeconfig: Path, context: str | None, scratch: Path, namespace: str
) -> AsyncIterator[Hand]:
    """Open a person's own connection."""
    spec = ClusterSpec(kubeconfig=str(kubeconfig), context=context)
    quick = settings(scratch)
    async with Connection(AccessReader(spec, quick, SystemClock()), quick) as connection:
        yield Hand(connection, namespace)
