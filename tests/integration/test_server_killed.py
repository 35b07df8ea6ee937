"""Postgres itself is killed, all of its processes at once, at every step of append and projection.

Where a step is between two messages, it is met by a fault point; where it is in the middle of one,
the server is held there by a lock, or by a standby that does not answer.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest

from engine.embedded.server import EmbeddedPostgres
from events import writing
from events.event import START, EventId, NewEvent, Position, blob
from events.log import LogUnavailable
from events.postgres import PostgresLog, open_log, prepare_database
from tests.appending import new
from tests.appending_faults import PRESUMED_STEPS, Faults, install
from tests.databases import PACKAGES
from tests.integration.test_projection_runner import assert_views_are_the_fold, fill
from tests.keeping import everything, pool_of, running
from tests.toy_views import named, toy_group

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]
BOTH_WAYS = pytest.mark.parametrize("large", [1000, 1], ids=["statement", "copy"])
# Without room for a standby, Postgres waits for none.
SETTINGS = {"shared_buffers": "16MB", "wal_level": "replica", "max_wal_senders": "1"}
HELD = 4711
HOLD = f"""
    CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_advisory_xact_lock({HELD});
        RETURN NEW;
    END $$;
"""
INSIDE = {
    "the ids": "CREATE TRIGGER held BEFORE INSERT ON event_id FOR EACH ROW EXECUTE FUNCTION held()",
    "the events": "CREATE TRIGGER held BEFORE INSERT ON events FOR EACH ROW "
    "EXECUTE FUNCTION held()",
    "the bodies": "CREATE TRIGGER held BEFORE INSERT ON blobs FOR EACH ROW EXECUTE FUNCTION held()",
    "the commit": "CREATE CONSTRAINT TRIGGER held AFTER INSERT ON event_id "
    "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION held()",
}


def family(pid: int) -> list[int]:
    """Return a process and all that come from it."""
    found = [pid]
    parents = {}
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().partition("PPid:")[2].split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


class Server:
    """A server that is started again whenever it was killed."""

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self.postgres = postgres
        self.dsn = postgres.dsn
        self.killed = 0

    async def kill(self, _: Any = None) -> None:
        """Kill all of it with SIGKILL, and wait until it is back."""
        first = self.postgres.pid
        assert len(family(first)) > 3, "the postmaster has children"
        for pid in family(first):
            os.kill(pid, signal.SIGKILL)
        self.killed += 1
        with anyio.fail_after(60):
            while self.postgres.pid == first or not self.postgres.ready:  # noqa: ASYNC110
                await anyio.sleep(0.01)

    async def do(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.dsn)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    async def until(self, query: str) -> None:
        """Wait until a query has an answer."""
        connection = await asyncpg.connect(self.dsn)
        with anyio.fail_after(30):
            while not await connection.fetchval(query):  # noqa: ASYNC110 - the server's doing
                await anyio.sleep(0.01)
        await connection.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with EmbeddedPostgres(tmp_path / "postgres", SETTINGS) as postgres:
        await prepare_database(postgres.dsn, PACKAGES)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(postgres.keep)
            yield Server(postgres)
            tasks.cancel_scope.cancel()


class Told:
    """What was appended, what was said of it, and whether the log has just that."""

    def __init__(self, log: PostgresLog) -> None:
        self.log = log
        self.told: dict[EventId, Position] = {}
        self.bodies: list[Any] = []

    async def append(self, count: int = 2) -> None:
        """Append, trying again with the same ids for as long as the log cannot be reached."""
        events = [new("app/default/a"), *(new(f"app/default/{n}") for n in range(count - 1))]
        body = blob(events[0].event_id.encode())
        with anyio.fail_after(60):
            while True:
                try:
                    appended = await self.log.append(events, [body])
                except LogUnavailable:
                    continue  # it waits by itself before it says so
                break
        self.bodies.append(body)
        self.take(events, appended.positions)

    def take(self, events: list[NewEvent], positions: tuple[Position, ...]) -> None:
        self.told |= dict(zip((event.event_id for event in events), positions, strict=True))

    async def right(self) -> None:
        """Nothing that was told is lost, nothing is there twice, and there is nothing else."""
        events = await self.log.read(START, 10_000)
        assert [event.position for event in events] == list(range(1, len(events) + 1))
        assert {event.event_id: event.position for event in events} == self.told
        versions: dict[str, int] = {}
        for event in events:
            versions[event.stream] = versions.get(event.stream, 0) + 1
            assert event.version == versions[event.stream]
        found = await self.log.blobs([body.digest for body in self.bodies])
        assert found == {body.digest: body.body for body in self.bodies}


@BOTH_WAYS
async def test_killed_before_and_after_every_step_of_an_append(
    server: Server, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "LARGE", large)
    async with open_log(server.dsn, poll=60) as log:
        told = Told(log)
        await told.append()
        for step in range(1, PRESUMED_STEPS + 1):
            for before in (True, False):
                await told.append()  # so that the writer presumes where the log is
                with pytest.MonkeyPatch.context() as patch:
                    faults = Faults(step, before, server.kill)
                    install(faults, patch.setattr)
                    faults.armed = True
                    await told.append()
                    faults.armed = False
                assert faults.happened or step > 1
                await told.right()
    assert server.killed >= (2 if large > 1 else 8)


@asynccontextmanager
async def caught_inside(server: Server, told: Told, query: str) -> AsyncIterator[None]:
    """Append, kill the server when a query shows where it is, do what the block does, and see."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(told.append)
        await server.until(query)
        await server.kill()
        yield
    await told.right()


@BOTH_WAYS
@pytest.mark.parametrize("place", INSIDE)
async def test_killed_inside_a_step_of_an_append(
    server: Server, large: int, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "LARGE", large)
    async with open_log(server.dsn, poll=60) as log:
        told = Told(log)
        await told.append()
        await server.do(HOLD, INSIDE[place])
        holder = await asyncpg.connect(server.dsn)
        await holder.execute(f"SELECT pg_advisory_lock({HELD})")
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        async with caught_inside(server, told, waits):
            holder.terminate()
        await told.append()
        await told.right()


@BOTH_WAYS
async def test_killed_when_the_commit_is_durable_and_not_yet_acknowledged(
    server: Server, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "LARGE", large)
    async with open_log(server.dsn, poll=60) as log:
        told = Told(log)
        await told.append()
        await server.do(
            "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()"
        )
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        async with caught_inside(server, told, waits):
            # It was committed: whoever tries again is told where it is, and does not do it again.
            await server.do(
                "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"
            )
            connection = await asyncpg.connect(server.dsn)
            assert await connection.fetchval("SELECT max(position) FROM events") == 4
            await connection.close()
        assert len(told.told) == 4


async def test_killed_before_and_after_every_step_of_a_projection(server: Server) -> None:
    async with open_log(server.dsn) as log:
        await fill(log, 300)

    async def killed_before(step: int) -> bool:
        """Whether there was such a step: after one is before the next, seen from the server."""
        async with open_log(server.dsn) as log, pool_of(server.dsn) as pool:
            last = (await log.append([named(["k1", f"step{step}"])])).last
            faults = Faults(step, True, server.kill)
            with pytest.MonkeyPatch.context() as patch:
                install(faults, patch.setattr)
                faults.armed = True
                async with running(log, pool, toy_group(), epoch=step) as it:
                    await it.views.reached(last)
                    faults.armed = False
                    await assert_views_are_the_fold(it.views, log, last)
            events = await everything(log, last)
            assert [event.position for event in events] == list(range(1, last + 1))
        return faults.happened

    step = 1
    while await killed_before(step):
        step += 1
    assert step > 8, "there is a look at the views, a read, a fold that is stored, a commit"
