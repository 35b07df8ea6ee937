"""One cluster: everything in this package put together behind `engine.ports.ClusterPort`."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

import anyio
import anyio.abc
import msgspec
from msgspec.structs import replace

from engine.clusters.access import AccessReader
from engine.clusters.apply import Deeds, DesiredBody
from engine.clusters.backoff import Bell
from engine.clusters.connect import Connection, Refused, Unreachable
from engine.clusters.contact import Contact
from engine.clusters.definition import definition_of
from engine.clusters.discovery import Discovery, KindUnknown
from engine.clusters.kept import KeptForms
from engine.clusters.look import Eyes
from engine.clusters.memory import Baseline, Memory
from engine.clusters.observe import Observer, report_unseen
from engine.clusters.paths import group_path, is_segment
from engine.clusters.record import Recorder
from engine.clusters.rehearse import Rehearsals
from engine.clusters.settings import ClusterSettings
from engine.clusters.watch import KindWatcher, Tools
from engine.clusters.wire import Garbage
from engine.objects.foreign import ALLOWED
from engine.objects.health_rules import HealthRules
from engine.objects.identity import ObjectRefused
from engine.objects.redact import Redactor
from engine.ports import Answer, ApplyRequest, Clock, KindInfo
from engine.resources.model import ClusterSpec
from events.catalog import ClusterConnected, ClusterLost, ObservationConfirmed
from events.event import Actor, stream
from events.log import EventLog
from events.vocabulary import ObjectRef, Presence

_CRDS = "apiextensions.k8s.io/v1"
_ESTABLISHED_POLL = 0.1
_ESTABLISHED_POLL_MOST = 2.0

_logger = logging.getLogger(__name__)


class Baselines(Protocol):
    """What the log already has of one cluster, read from the views."""

    async def load(self) -> Iterable[Baseline]:
        """Return every object last recorded, those that are absent included."""
        ...

    async def kinds(self) -> Mapping[tuple[str, str], str]:
        """Return each kind last recorded, by (apiVersion, kind): "" readable, else the code."""
        ...

    async def is_lost(self) -> bool:
        """Return whether the last that was recorded of the cluster itself is its loss."""
        ...


class Cluster:
    """A Kubernetes API, observed and acted upon: implements `engine.ports.ClusterPort`.

    `run` must be running for anything here to work. What is observed goes to the stream
    `cluster/<project>/<name>`; `desired_body` gives the body that was last applied to an object,
    for the one dry run that tells a server's new reading from drift. `kept` is a store of kept
    forms that clusters share. With `other_rules` what was recorded may have gone by other health
    rules.
    """

    def __init__(
        self,
        project: str,
        name: str,
        spec: ClusterSpec,
        *,
        log: EventLog,
        redactor: Redactor,
        baselines: Baselines,
        clock: Clock,
        settings: ClusterSettings,
        desired_body: DesiredBody | None = None,
        foreign_allowed: Collection[str] = ALLOWED,
        kept: KeptForms | None = None,
        other_rules: bool = False,
    ) -> None:
        self._name, self._clock, self._settings, self._baselines = name, clock, settings, baselines
        self._connection = Connection(AccessReader(spec, settings, clock), settings, name)
        self._discovery = Discovery(self._connection, clock, settings.discovery_interval)
        self._memory = Memory()
        self._recorder = Recorder(
            log, stream("cluster", project, name), Actor(f"cluster:{name}"), clock, settings
        )
        self._contact = Contact(
            self._connection,
            clock,
            settings,
            connected=self._connected,
            lost=self._lost,
            answered=self._answered,
        )
        eyes = self._eyes = Eyes(redactor, HealthRules(spec.health))
        self._other_rules = other_rules
        kept = kept or KeptForms(log, clock, settings)
        self._observer = Observer(
            log_id=log.log_id,
            memory=self._memory,
            kept=kept,
            eyes=eyes,
            recorder=self._recorder,
            fetch=lambda ref: self._deeds.fetch(ref),
            reread=lambda ref, uid: self._deeds.reread(ref, uid),
            watched=lambda api_version, kind: (api_version, kind) in self._watchers,
            foreign_allowed=foreign_allowed,
        )
        self._rehearsals = Rehearsals(self._connection, self._discovery, self._memory, eyes)
        self._deeds = Deeds(
            connection=self._connection,
            discovery=self._discovery,
            memory=self._memory,
            observer=self._observer,
            eyes=eyes,
            desired_body=desired_body,
            trouble=self._contact.trouble,
            contradicted=self._contradicted,
            unseen=self._is_unseen,
        )
        self._tools = Tools(
            connection=self._connection,
            discovery=self._discovery,
            observer=self._observer,
            memory=self._memory,
            kept=kept,
            recorder=self._recorder,
            clock=clock,
            settings=settings,
            restored=self._restored,
        )
        self._wanted: dict[str, frozenset[tuple[str, str]]] = {}
        self._users: Counter[tuple[str, str]] = Counter()
        self._watchers: dict[tuple[str, str], KindWatcher] = {}
        self._scopes: dict[tuple[str, str], anyio.CancelScope] = {}
        self._recorded_kinds: Mapping[tuple[str, str], str] = {}
        self._wants = Bell(clock)
        self._rounds = Bell(clock)
        self._progress = anyio.Event()
        self._was_lost = False
        self._is_lost_on_record = False
        self._current_at = clock.monotonic()

    # What is known.

    @property
    def ready(self) -> bool:
        """Whether the cluster answers and every wanted kind was listed, or found unreadable."""
        return self._contact.is_connected and all(
            kind in self._watchers and self._watchers[kind].is_settled for kind in self._users
        )

    @property
    def age(self) -> float:
        """How many seconds ago what is known of the cluster was last known to be so."""
        return self._clock.monotonic() - self._current_at

    async def until_ready(self) -> None:
        """Wait until `ready`."""
        while not self.ready:
            await self._progress.wait()

    async def want(self, application: str, kinds: Collection[tuple[str, str]]) -> None:
        """Say which (apiVersion, kind) an application (`project/name`) uses here; () for none."""
        wanted = frozenset(kinds)
        before = self._wanted.get(application, frozenset())
        if wanted == before:
            return
        if wanted:
            self._wanted[application] = wanted
        else:
            del self._wanted[application]
        known = len(self._users)
        self._users.update(wanted - before)
        self._users.subtract(before - wanted)
        ended = [kind for kind in before - wanted if not self._users[kind]]
        for kind in ended:
            del self._users[kind]
        if ended or len(self._users) > known:
            self._wants.ring()
            self._progressed()

    async def kind(self, api_version: str, kind: str) -> KindInfo | None:
        """Look a kind up; None where there is none, or where that cannot be told now."""
        try:
            return await self._discovery.find(api_version, kind)
        except KindUnknown:
            return None
        except Unreachable:
            self._contact.trouble()
            return None

    # What is done.

    async def apply(self, request: ApplyRequest) -> Answer:
        """Server-side apply as manager `trueup`."""
        return await self._deeds.apply(request)

    async def delete(
        self, ref: ObjectRef, uid: str, resource_version: str, observed: str
    ) -> Answer:
        """Delete in the background, with the same preconditions as an apply."""
        return await self._deeds.delete(ref, uid, resource_version, observed)

    async def remove_fields(
        self, ref: ObjectRef, uid: str, observed: str, paths: Collection[str]
    ) -> Answer:
        """Take foreign fields out of an object that is as it was observed."""
        return await self._deeds.remove_fields(ref, uid, observed, paths)

    async def rehearse(self, request: ApplyRequest) -> Answer:
        """Ask by a dry run what an apply would come to; see `Rehearsals`."""
        return await self._rehearsals.apply(request)

    async def rehearse_delete(self, ref: ObjectRef, uid: str) -> Answer:
        """Ask by a dry run what a delete would come to."""
        return await self._rehearsals.delete(ref, uid)

    async def established(self, name: str, timeout: float) -> bool:
        """Wait until a CustomResourceDefinition is Established and its kinds are served.

        False after `timeout` seconds.
        """
        end = self._clock.monotonic() + timeout
        pause = _ESTABLISHED_POLL
        while not await self._is_served(name):
            left = end - self._clock.monotonic()
            if left <= 0:
                return False
            await self._clock.sleep(min(pause, left))
            pause = min(pause * 1.5, _ESTABLISHED_POLL_MOST)
        for watcher in self._watchers.values():
            if not watcher.is_readable:
                watcher.kick()
        return True

    async def run(self) -> None:
        """Observe until cancelled. Raises what the log and the baselines raise, nothing else."""
        self._memory.load(map(self._doubted, await self._baselines.load()))
        self._recorded_kinds = await self._baselines.kinds()
        self._is_lost_on_record = await self._baselines.is_lost()
        try:
            async with self._connection, anyio.create_task_group() as tasks:
                tasks.start_soon(self._recorder.run)
                tasks.start_soon(self._contact.run)
                tasks.start_soon(self._keep_watchers, tasks)
                tasks.start_soon(self._keep_rounds)
                tasks.start_soon(self._keep_strays)
        finally:
            # Another run begins afresh; what is remembered stays as good as what was recorded.
            self._contact.is_connected = False
            self._watchers.clear()
            self._scopes.clear()

    # Tasks of `run`.

    async def _keep_watchers(self, tasks: anyio.abc.TaskGroup) -> None:
        while True:
            wanted = frozenset(self._users)
            for kind in [kind for kind in self._watchers if kind not in wanted]:
                self._scopes.pop(kind).cancel()
                watcher = self._watchers.pop(kind)
                self._recorded_kinds = {**self._recorded_kinds, **watcher.recorded}
            for kind in sorted(wanted - self._watchers.keys()):
                watcher = KindWatcher(
                    *kind,
                    self._tools,
                    recorded=self._recorded_kinds.get(kind),
                    alive=self._contact.alive,
                    settled=self._progressed,
                )
                self._watchers[kind] = watcher
                self._scopes[kind] = scope = anyio.CancelScope()
                tasks.start_soon(_run_in, scope, watcher)
            self._progressed()
            await self._wants.wait(self._settings.relist_interval)

    async def _keep_rounds(self) -> None:
        """Now and then list everything afresh, and say that it is as it was recorded."""
        interval = self._settings.relist_interval
        is_due = False
        while True:
            await self.until_ready()
            if is_due:
                for watcher in list(self._watchers.values()):
                    if watcher.is_readable:
                        await watcher.refresh()
            if self._watchers and self.ready:
                self._recorder.fact(self._confirmation())
            # Rung after a loss: then every kind has been listed afresh already.
            is_due = not await self._rounds.wait(interval * (0.9 + self._clock.random() / 5))

    async def _keep_strays(self) -> None:
        """Look now and then at what no watch brings: objects that lost our label."""
        while True:
            await self._clock.sleep(self._settings.doubt_interval)
            unseen: dict[ObjectRef, Exception] = {}
            for ref in list(self._observer.strays.values()):
                try:
                    await self._observer.confirm(ref)
                except (Unreachable, Refused, KindUnknown, Garbage, ObjectRefused) as error:
                    unseen[ref] = error
            report_unseen(self._name, unseen)

    # Details.

    def _progressed(self) -> None:
        self._answered()
        self._progress.set()
        self._progress = anyio.Event()

    def _answered(self) -> None:
        if self.ready:
            self._current_at = self._clock.monotonic()

    def _connected(self, version: str) -> None:
        self._recorder.fact(ClusterConnected(version, self._is_lost_on_record))
        self._is_lost_on_record = False
        for watcher in self._watchers.values():
            watcher.kick()
        if self._was_lost:
            self._was_lost = False
            self._rounds.ring()
        self._progressed()

    def _lost(self, code: str, message: str) -> None:
        self._recorder.fact(ClusterLost(code, message))
        self._is_lost_on_record = True
        self._was_lost = True
        for watcher in self._watchers.values():
            watcher.distrust()

    def _contradicted(self, api_version: str, kind: str) -> None:
        """List a kind afresh whose watch did not say what the server said otherwise."""
        if watcher := self._watchers.get((api_version, kind)):
            watcher.distrust()

    def _is_unseen(self, ref: ObjectRef) -> bool:
        """Whether a kind was listed whole and is watched, and this object was never among it."""
        watcher = self._watchers.get((ref.api_version, ref.kind))
        is_followed = watcher is not None and watcher.is_readable and self._contact.is_connected
        return is_followed and not self._memory.may_know(ref)

    def _doubted(self, known: Baseline) -> Baseline:
        """Have an object looked at again whose health may have been recorded by another rule."""
        if self._other_rules or self._eyes.rules.is_about(known.ref):
            return replace(known, resource_version="")
        return known

    def _restored(self, version: str) -> None:
        for watcher in self._watchers.values():
            watcher.suspect(version)

    def _confirmation(self) -> ObservationConfirmed:
        readable = {
            (api_version.rpartition("/")[0], kind)
            for (api_version, kind), watcher in self._watchers.items()
            if watcher.is_readable
        }
        lines = sorted(
            f"{entry.ref.identity} {entry.digest}\n"
            for entry in self._memory
            if entry.presence is not Presence.ABSENT
            and (entry.ref.group, entry.ref.kind) in readable
        )
        root = hashlib.sha256("".join(lines).encode()).hexdigest()
        return ObservationConfirmed(len(lines), root)

    async def _is_served(self, name: str) -> bool:
        if not is_segment(name):
            return False
        path = f"{group_path(_CRDS)}/customresourcedefinitions/{name}"
        try:
            response = await self._connection.request("GET", path)
            if not response.is_success:
                return False
            defined = definition_of(response.body)
            if not defined.is_established:
                return False
            # Established comes a moment before the kinds can be discovered.
            for version in defined.served:
                self._discovery.forget(version)
                await self._discovery.find(version, defined.spec.names.kind)
        except Unreachable:
            self._contact.trouble()
            return False
        except (KindUnknown, msgspec.MsgspecError, RecursionError):
            return False
        return True


async def _run_in(scope: anyio.CancelScope, watcher: KindWatcher) -> None:
    with scope:
        await watcher.run()
