"""Lines of a watch through the product's own reader, most without news; one core."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import orjson

from benchmarks.frame import Figure, alternate
from benchmarks.support.watched import EYES, Known, known, line, updates
from engine.clusters.connect import Connection
from engine.clusters.discovery import Discovery
from engine.clusters.kept import KeptForms
from engine.clusters.look import look
from engine.clusters.memory import Memory
from engine.clusters.observe import Observer
from engine.clusters.record import Recorder
from engine.clusters.settings import ClusterSettings
from engine.clusters.watch import KindWatcher, Tools
from engine.clusters.wire import Response
from engine.embedded.server import EmbeddedPostgres
from engine.objects.foreign import ALLOWED
from engine.objects.kept import Kept
from engine.ports import KindInfo
from engine.process.clock import SystemClock
from events.catalog import ObjectsObserved
from events.event import Actor, Position, StreamName
from events.log import EventLog
from events.memory import MemoryLog
from events.postgres import open_log
from events.vocabulary import ObjectRef

Lines = Mapping[tuple[str, str], list[bytes]]
"""The lines of each (apiVersion, kind)."""
_ONE_IN = 20
"""How many lines there are for one with news."""
_CLOCK = SystemClock()
_SETTINGS = ClusterSettings()
_VERBS = frozenset({"list", "watch"})


async def figures(
    objects: int = 1000, lines_of_each: int = 20, rounds: int = 3
) -> AsyncIterator[Figure]:
    """Yield the figures, all in lines a second: of CPU, and of the clock for the durable one.

    `watch.memory` is the reader with the log in memory, 95 of 100 lines without news and the others
    recorded; `watch.durable` the same with the log in Postgres. The ceiling of both is a bare
    decoding of the same lines. `watch.still` is the reader where no line has news.
    """
    params: dict[str, Any] = {"objects": objects, "one_in": _ONE_IN, "rounds": rounds}
    found = known(MemoryLog(_CLOCK.now).log_id, objects)
    count = objects * lines_of_each
    some = _lines(found, count, _ONE_IN)

    async def in_memory() -> float:
        return await _Reader(MemoryLog(_CLOCK.now), found, time.process_time).read(
            some, count // _ONE_IN
        )

    async def bare() -> float:
        return _decoded(some, time.process_time)

    value, ceiling = await alternate(in_memory, bare, rounds)
    params["bytes"] = round(sum(map(len, _flat(some))) / count)
    yield Figure("watch.memory", value, "lines/s", ceiling, params)
    still = _lines(found, count, count + 1)

    async def without_news() -> float:
        return await _Reader(MemoryLog(_CLOCK.now), found, time.process_time).read(still, 0)

    value, ceiling = await alternate(without_news, bare, rounds)
    yield Figure("watch.still", value, "lines/s", ceiling, params)
    async with _durable() as log:
        owned = known(log.log_id, objects)
        lines = _lines(owned, count, _ONE_IN)

        async def durably() -> float:
            return await _Reader(log, owned, time.perf_counter).read(lines, count // _ONE_IN)

        async def bare_beside() -> float:
            return _decoded(some, time.perf_counter)

        value, ceiling = await alternate(durably, bare_beside, rounds)
    yield Figure("watch.durable", value, "lines/s", ceiling, params)


class _Reader:
    """The product's readers of one cluster, a watcher a kind, over lines that are there already."""

    def __init__(self, log: EventLog, found: Sequence[Known], clock: Callable[[], float]) -> None:
        self._log, self._found, self._time = log, found, clock
        memory, kept = Memory(), KeptForms(log, _CLOCK, _SETTINGS)
        stream = StreamName("cluster/default/bench")
        self._recorder = Recorder(log, stream, Actor("cluster:bench"), _CLOCK, _SETTINGS)
        observer = Observer(
            log_id=log.log_id,
            memory=memory,
            kept=kept,
            eyes=EYES,
            recorder=self._recorder,
            fetch=_nothing,
            reread=_nothing_kept,
            watched=lambda api_version, kind: True,
            foreign_allowed=ALLOWED,
        )
        for each in found:
            # As stored and read again, so that it shares no text with what it is compared with.
            observer.applied(
                look(each.ref, orjson.loads(orjson.dumps(each.live)), EYES),
                Kept.decode(each.kept.encode()),
            )
        self._memory, self._kept, self._observer = memory, kept, observer

    async def read(self, lines: Lines, expected: int) -> float:
        """Return lines a second, until all that is news of them is in the log."""
        before = await self._log.head()
        connection = _Canned(self._found, lines)
        async with anyio.create_task_group() as group:
            group.start_soon(self._recorder.run)
            for api_version, kind in lines:
                group.start_soon(self._watcher(connection, api_version, kind).run)
            await connection.is_open.wait()
            began = self._time()
            connection.go.set()
            await connection.is_read.wait()
            await self._recorder.flush()
            seconds = self._time() - began
            group.cancel_scope.cancel()
        await self._check(before, expected)
        return sum(map(len, lines.values())) / seconds

    def _watcher(self, connection: _Canned, api_version: str, kind: str) -> KindWatcher:
        tools = Tools(
            connection=cast(Connection, connection),
            discovery=cast(Discovery, _Kinds()),
            observer=self._observer,
            memory=self._memory,
            kept=self._kept,
            recorder=self._recorder,
            clock=_CLOCK,
            settings=_SETTINGS,
            restored=lambda _: None,
        )
        return KindWatcher(
            api_version, kind, tools, recorded="", alive=_alive, settled=lambda: None
        )

    async def _check(self, after: Position, expected: int) -> None:
        found = 0
        while events := await self._log.read(after, 1000):
            found += sum(
                len(orjson.loads(event.payload)["objects"])
                for event in events
                if event.type == ObjectsObserved.__name__
            )
            after = events[-1].position
        if found != expected:
            raise AssertionError(f"{found} of {expected} changes were recorded")


class _Canned:
    """Stands in for a cluster's connection: lists what is known, and brings what was prepared.

    All watches begin together, once `go` is set.
    """

    def __init__(self, found: Sequence[Known], lines: Lines) -> None:
        self._found = found
        self._lines = {_plural(kind): bodies for (_, kind), bodies in lines.items()}
        self._opened = self._read = 0
        self.is_open, self.go, self.is_read = anyio.Event(), anyio.Event(), anyio.Event()

    async def request(self, method: str, path: str, **_: Any) -> Response:
        plural = path.rpartition("/")[2]
        items = [of.live for of in self._found if _plural(of.ref.kind) == plural]
        body = orjson.dumps({"metadata": {"resourceVersion": "500000"}, "items": items})
        return Response(200, body)

    @asynccontextmanager
    async def stream(
        self, path: str, params: Mapping[str, str], *, timeout: float, idle: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        yield self._bodies(self._lines[path.rpartition("/")[2]])

    async def _bodies(self, bodies: list[bytes]) -> AsyncIterator[bytes]:
        self._opened += 1
        if self._opened == len(self._lines):
            self.is_open.set()
        await self.go.wait()
        for body in bodies:
            yield body
        self._read += 1
        if self._read == len(self._lines):
            self.is_read.set()
        await anyio.sleep_forever()


class _Kinds:
    """Stands in for discovery."""

    async def find(self, api_version: str, kind: str) -> KindInfo:
        return KindInfo(api_version, kind, _plural(kind), True, _VERBS)


@asynccontextmanager
async def _durable() -> AsyncIterator[EventLog]:
    with tempfile.TemporaryDirectory(prefix="trueup-bench-") as folder:
        async with (
            EmbeddedPostgres(Path(folder) / "postgres") as postgres,
            open_log(postgres.dsn, packages=("events",)) as log,
        ):
            yield log


def _plural(kind: str) -> str:
    return kind.lower() + ("es" if kind.endswith("s") else "s")


def _lines(found: list[Known], count: int, one_in: int) -> dict[tuple[str, str], list[bytes]]:
    lines: dict[tuple[str, str], list[bytes]] = {}
    for of, live in updates(found, count, one_in):
        lines.setdefault((of.ref.api_version, of.ref.kind), []).append(line(live))
    return lines


def _flat(lines: Lines) -> list[bytes]:
    return [body for bodies in lines.values() for body in bodies]


def _decoded(lines: Lines, clock: Callable[[], float]) -> float:
    bodies = _flat(lines)
    began = clock()
    for body in bodies:
        orjson.loads(body)
    return len(bodies) / (clock() - began)


async def _alive() -> bool:
    return True


async def _nothing(ref: ObjectRef) -> bytes | None:
    raise AssertionError(f"{ref} was asked for")


async def _nothing_kept(ref: ObjectRef, uid: str) -> Kept | None:
    raise AssertionError(f"{ref} was asked for again")
