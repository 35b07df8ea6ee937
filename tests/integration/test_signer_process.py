"""The signer as a process of its own: one signs, whoever is killed; the engine has no key."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process

from engine.doctor.database import database
from engine.embedded.server import EmbeddedPostgres
from engine.http.local import read_server
from engine.process.clock import SystemClock
from engine.settings import Settings
from engine.signing.setup import make_seed, remembered, start_signing
from engine.signing.witness import witness
from events.connection import make_pool
from events.log import LogUnavailable
from events.note import SignerKey, open_checkpoint
from events.postgres import PostgresLog, open_log
from events.proofs import Proofs, origin_of
from events.signer import HeadRefused, HeadUnavailable, Signer
from projections.lease import holder
from tests.appending import new
from tests.databases import fresh_database
from tests.integration.test_signer import Room, room_on

pytestmark = pytest.mark.anyio
CLOCK = SystemClock()


def said_in(folder: Path) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / "said"


@asynccontextmanager
async def program(folder: Path, *words: str) -> AsyncIterator[Process]:
    """Run the real command until the block is left, and stop it in order."""
    command = [sys.executable, "-m", "engine.cli", *words, "--data-dir", str(folder)]
    with said_in(folder).open("ab") as log:
        process = await anyio.open_process(command, stdout=log, stderr=log)
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def until(condition: Callable[[], object | Awaitable[object]], seconds: float = 30.0) -> None:
    with anyio.fail_after(seconds):
        while True:
            found = condition()
            if await found if isinstance(found, Awaitable) else found:
                return
            await anyio.sleep(0.02)


async def signed_up_to(room: Room, size: int) -> None:
    async def are_signed() -> bool:
        return (await room.proofs.unsigned())[0] == 0 and (await room.checkpoint()).size >= size

    await until(are_signed)


async def test_of_two_signers_one_signs_and_the_other_goes_on_when_it_is_killed(
    dsn: str, tmp_path: Path
) -> None:
    make_seed(tmp_path / "key", "trueup.dev/log")
    flags = ("signer", "--database-url", dsn, "--checkpoint-interval", "50ms")
    flags += ("--signing-key-file", str(tmp_path / "key"))
    async with room_on(dsn, tmp_path / "none") as room:
        for turn in range(3):
            folder, after = tmp_path / str(turn), tmp_path / str(turn + 1)
            async with program(folder, *flags) as first:
                await room.append(300)
                await signed_up_to(room, 1)
                held = await holder(room.pool, "signer")
                assert held is not None
                assert f":{first.pid}" in held.owner
                async with program(after, *flags) as second:
                    await until(lambda path=after: "standing by" in (path / "said").read_text())
                    await room.append(700)
                    os.kill(first.pid, signal.SIGKILL)
                    await room.append(100)
                    await signed_up_to(room, 1100 * (turn + 1))
                    now = await holder(room.pool, "signer")
                    assert now is not None
                    assert f":{second.pid}" in now.owner
                    assert now.epoch > held.epoch
        checkpoint = await room.checkpoint()
        assert checkpoint.root == await room.true_root(checkpoint.size)
        assert len(await room.proofs.keys()) == 1
        kept = (tmp_path / "3" / "checkpoints" / "head").read_text()
        assert open_checkpoint(kept, await room.proofs.keys()).size == checkpoint.size


async def test_an_engine_without_a_key_holds_the_signer_to_what_it_published(
    dsn: str, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    flags = ("--database-url", dsn, "--checkpoint-interval", "50ms")
    run = ("run", "--listen", "127.0.0.1:0", "--allow-unconfined", "--signing", "external")
    data = tmp_path / "engine"
    async with room_on(dsn, tmp_path / "none") as room:
        async with program(data, *run, *flags), program(tmp_path / "signer", "signer", *flags):
            await until(lambda: read_server(data))
            await signed_up_to(room, 1)
            await until(lambda: (data / "checkpoints" / "head").exists())
        assert (tmp_path / "signer" / "signing.key").exists()
        assert not (data / "signing.key").exists()
        async with (
            fresh_database(postgres) as other,
            program(data, *run, "--database-url", other) as refused,
        ):
            with anyio.fail_after(30):
                assert await refused.wait() == 2
        assert "head-refused" in (data / "said").read_text()


class Away:
    """A place for heads that cannot be reached, until it can."""

    name = "s3://away"

    def __init__(self) -> None:
        self.is_away, self.note, self.asked = True, "", 0

    async def get(self) -> str | None:
        return self.note or None

    async def put(self, note: str) -> None:
        self.asked += 1
        if self.is_away:
            raise HeadUnavailable("s3://away cannot be reached")
        self.note = note


async def signer_with(log: PostgresLog, store: Away, interval: float = 0.01) -> Signer:
    origin = await origin_of(log)
    return Signer(log._pool, log, origin, [SignerKey(origin, bytes(32))], [store], interval)


async def test_a_place_for_heads_that_is_away_stops_checkpoints_and_nobody_else(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_log(dsn) as log, anyio.create_task_group() as tasks:
        proofs, store = Proofs(log._pool, log), Away()
        signer = await signer_with(log, store)
        await log.append([new()])
        tasks.start_soon(signer.run)
        await until(lambda: store.asked >= 3)
        before = await log.head()
        assert (await log.append([new() for _ in range(500)])).last == before + 500
        assert await proofs.published() is None
        events, seconds = await proofs.unsigned()
        assert events == before + 500
        assert seconds > 0
        assert "s3://away cannot be reached; trying again" in caplog.text
        store.is_away = False

        async def all_is_signed() -> bool:
            return await proofs.unsigned() == (0, 0.0)

        await until(all_is_signed)
        published = await proofs.published()
        assert published is not None
        assert published.note == store.note
        tasks.cancel_scope.cancel()


async def test_the_doctor_tells_what_is_not_signed(dsn: str) -> None:
    async with open_log(dsn) as log:
        await log.append([new()])
        async with log._pool.acquire() as connection:
            await connection.execute("UPDATE events SET recorded_at = recorded_at - 3600000000")
        (said,) = [each for each in await database(dsn, CLOCK) if each.area == "proofs"]
        assert (said.state, said.code) == ("warn", "head-unavailable")
        assert "1 events are not signed, the first since 36" in said.message


async def test_a_signer_whose_lease_is_gone_puts_nothing_anywhere(dsn: str) -> None:
    class Lost(Exception):
        pass

    def gone() -> None:
        raise Lost

    async with open_log(dsn) as log:
        store = Away()
        store.is_away = False
        signer = await signer_with(log, store)
        await log.append([new()])
        signer.check = gone
        with pytest.raises(Lost):
            await signer.step()
        assert (store.asked, await Proofs(log._pool, log).published()) == (0, None)


async def test_a_witness_takes_a_new_key_from_a_known_one_alone(dsn: str, tmp_path: Path) -> None:
    ours = Settings(data_dir=tmp_path / "engine", signing="external", checkpoint_interval=0.01)
    theirs = Settings(data_dir=tmp_path / "signer")
    pool = await make_pool(dsn, 4, "test")
    async with open_log(dsn) as log:
        await (await start_signing(theirs, pool, log, CLOCK)).step()
        watching = await witness(ours, pool, log, CLOCK)
        assert await watching.step()
        assert not await watching.step()
        first = remembered(ours)
        assert len(first) == 1
        # Both sign: the new one is trusted. Then the new one alone.
        seeds = [SignerKey("trueup.dev/log", bytes([n]) * 32).secret_text() for n in (1, 2)]
        path = theirs.signing_key
        path.write_text(path.read_text() + f"{seeds[0]}\n")
        await (await start_signing(theirs, pool, log, CLOCK)).step()
        assert await watching.step()
        assert len(remembered(ours)) == 2
        path.write_text(f"{seeds[0]}\n")
        await log.append([new()])
        await (await start_signing(theirs, pool, log, CLOCK)).step()
        assert await watching.step()
        # Whoever has the database but no key of ours: refused, and what was kept stands.
        kept = (tmp_path / "engine" / "checkpoints" / "head").read_text()
        (tmp_path / "thief").mkdir(mode=0o700)
        thief = Settings(data_dir=tmp_path / "thief")
        make_seed(thief.signing_key, "trueup.dev/log")
        await log.append([new()])
        await (await start_signing(thief, pool, log, CLOCK)).step()
        with pytest.raises(LogUnavailable, match="not signed by a key that is trusted here"):
            await watching.step()
        assert (tmp_path / "engine" / "checkpoints" / "head").read_text() == kept
        await witness(ours, pool, log, CLOCK)
        async with pool.acquire() as connection:
            await connection.execute("DELETE FROM events WHERE position > 2")
            await connection.execute("UPDATE stream_head SET position = least(position, 2)")
        with pytest.raises(HeadRefused):
            await witness(ours, pool, log, CLOCK)
    pool.terminate()
