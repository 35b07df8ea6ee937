"""The signer over a log in Postgres: what it signs, what it survives, and what start-up refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import asyncpg
import pytest

from engine.process.clock import SystemClock
from engine.settings import Settings
from engine.signing.heads import FileHeads
from engine.signing.setup import accept_restore, make_seed, read_seeds, start_signing
from events.catalog import CheckpointKeyAdded, RestoreAccepted
from events.codec import fact_of
from events.entry import event_leaf
from events.event import Actor, Position
from events.log import LogCorrupt
from events.merkle import carry_out, inclusion_plan, root_of, verify_inclusion
from events.note import Checkpoint, NoteWrong, SignerKey, open_checkpoint, parse_checkpoint, sign
from events.postgres import PostgresLog, open_log
from events.proofs import Proofs, origin_of, recorded_keys
from events.signer import HeadRefused, HeadUnavailable, Signer
from events.tiles import Tile, reader, tiles_for, tiles_of, unpack
from tests.appending import new

pytestmark = pytest.mark.anyio
CLOCK = SystemClock()


class Room:
    """A log, a data folder, and the signer that they make together."""

    def __init__(self, dsn: str, folder: Path, log: PostgresLog) -> None:
        self.dsn, self.log, self.pool = dsn, log, log._pool
        self.settings = Settings(data_dir=folder, checkpoint_interval=0.05)
        self.head = FileHeads(folder / "checkpoints" / "head")
        self.proofs = Proofs(self.pool, log)

    async def signer(self) -> Signer:
        return await start_signing(self.settings, self.pool, self.log, CLOCK)

    async def append(self, count: int) -> None:
        for start in range(0, count, 500):
            await self.log.append([new() for _ in range(min(500, count - start))])

    async def checkpoint(self) -> Checkpoint:
        note = await self.proofs.checkpoint()
        assert note is not None
        return open_checkpoint(note, await self.proofs.keys())

    async def true_root(self, size: int) -> bytes:
        leaves: list[bytes] = []
        while len(leaves) < size:
            page = await self.log.read(Position(len(leaves)), min(1000, size - len(leaves)))
            leaves += [event_leaf(event) for event in page]
        return root_of(leaves)


@asynccontextmanager
async def room_on(dsn: str, folder: Path) -> AsyncIterator[Room]:
    async with open_log(dsn) as log:
        yield Room(dsn, folder, log)


@pytest.fixture
async def room(dsn: str, tmp_path: Path) -> AsyncIterator[Room]:
    async with room_on(dsn, tmp_path) as room:
        yield room


async def signed_size(room: Room) -> int:
    found = await room.proofs.published()
    return found.size if found else 0


async def execute(room: Room, statement: str, *arguments: object) -> None:
    connection = await asyncpg.connect(room.dsn)
    try:
        await connection.execute(statement, *arguments)
    finally:
        await connection.close()


async def test_what_is_signed_is_the_tree_over_all_events(room: Room) -> None:
    signer = await room.signer()
    for count in (3, 252, 1, 700, 1):
        await room.append(count)
        note = await signer.step()
        checkpoint = await room.checkpoint()
        assert checkpoint.size == await room.log.head()
        assert checkpoint.root == await room.true_root(checkpoint.size)
        assert await room.head.get() == note == await room.proofs.checkpoint()
    assert await signer.step() is None


async def test_every_tile_is_served_and_every_event_proven(room: Room) -> None:
    signer = await room.signer()
    await room.append(1500)
    await signer.step()
    checkpoint = await room.checkpoint()
    size = checkpoint.size
    tiles = {tile: await room.proofs.tile(tile) for tile in tiles_of(size)}
    events = [event for at in (0, 1000) for event in await room.log.read(Position(at), 1000)]
    for index in (0, 255, 256, 1023, 1400, size - 1):
        plan = inclusion_plan(index, size)
        some = {tile: tiles[tile] for tile in tiles_for(plan, size)}
        proof = carry_out(plan, reader(some, size))
        verify_inclusion(event_leaf(events[index]), index, size, proof, checkpoint.root)
    # What a client asks for by an earlier size is there too.
    assert await room.proofs.tile(Tile(0, 1, 17)) == tiles[Tile(0, 1)][: 17 * 32]
    entries, rest = unpack(await room.proofs.entries(1, 256))
    payloads = await room.proofs.payloads(1, 256)
    assert (len(entries), rest) == (256, b"")
    assert payloads == [event.payload for event in events[256:512]]


async def test_a_signer_goes_on_where_another_stopped_at_any_size(room: Room) -> None:
    for count in (1, 254, 1, 1, 600, 300):
        await room.append(count)
        # Each a process of its own, as far as it can tell.
        await (await room.signer()).step()
        checkpoint = await room.checkpoint()
        assert checkpoint.root == await room.true_root(checkpoint.size)


async def test_checkpoints_of_one_hour_are_thinned_to_the_last(room: Room) -> None:
    signer = await room.signer()
    hour = 3_600_000_000
    for turn in range(4):
        await room.append(1)
        if turn == 2:
            await execute(
                room,
                "UPDATE events SET recorded_at = recorded_at + $1 WHERE position = $2",
                hour,
                await room.log.head(),
            )
        await signer.step()
    notes = await room.proofs.checkpoints()
    sizes = [parse_checkpoint(note.partition("\n\n")[0] + "\n").size for note in notes]
    assert sizes == [3, 5]


async def test_it_runs_beside_appends_and_ends_with_all_of_it_signed(room: Room) -> None:
    signer = await room.signer()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(signer.run)
        for _ in range(10):
            await room.append(100)
        with anyio.fail_after(30):
            while await signed_size(room) < 1001:  # noqa: ASYNC110 - at the signer's own pace
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert (await room.checkpoint()).root == await room.true_root(1001)


# The keys.


async def test_the_key_is_made_once_kept_private_and_entered_in_the_log(room: Room) -> None:
    signer = await room.signer()
    path = room.settings.signing_key
    assert path.stat().st_mode & 0o777 == 0o600
    seeds = read_seeds(path)
    await room.signer()
    assert read_seeds(path) == seeds
    (event,) = await room.log.read(Position(0), types=["CheckpointKeyAdded"])
    fact = fact_of(event)
    origin = f"trueup.dev/log/{room.log.log_id}"
    assert isinstance(fact, CheckpointKeyAdded)
    assert fact.key == str(SignerKey(origin, seeds[0]).verifier)
    assert await signer.step()
    assert (await room.checkpoint()).origin == origin


async def test_keys_rotate_and_old_checkpoints_stay_good(room: Room) -> None:
    first = await (await room.signer()).step()
    path = room.settings.signing_key
    old = read_seeds(path)
    make_seed(path, "x", old)
    await room.append(1)
    both = await (await room.signer()).step()
    # The old one is retired: its line is taken out of the file.
    path.write_text(path.read_text().split("\n")[1] + "\n")
    await room.append(1)
    last = await (await room.signer()).step()
    assert first
    assert both
    assert last
    keys = await recorded_keys(room.log)
    assert len(keys) == 2
    for note, signed_by in ((first, keys[:1]), (both, keys), (last, keys[1:])):
        for key in keys:
            if key in signed_by:
                open_checkpoint(note, [key])
            else:
                with pytest.raises(NoteWrong):
                    open_checkpoint(note, [key])


async def test_a_key_that_others_can_read_is_refused(room: Room) -> None:
    await room.signer()
    room.settings.signing_key.chmod(0o644)
    with pytest.raises(PermissionError, match="private"):
        await room.signer()


# What start-up refuses.


async def signed(room: Room, count: int = 600) -> None:
    signer = await room.signer()
    await room.append(count)
    await signer.step()


async def truncate(room: Room, size: int) -> None:
    """Put the database back to where it was at a size, as a backup would."""
    await execute(room, "DELETE FROM events WHERE position > $1", size)
    await execute(room, "DELETE FROM event_id WHERE position > $1", size)
    await execute(room, "DELETE FROM log_checkpoint WHERE size > $1", size)
    await execute(
        room, "DELETE FROM merkle_tile WHERE (number + 1) << (8 * (level + 1)) > $1", size
    )
    await execute(
        room,
        "UPDATE stream_head AS s SET version = h.v, position = h.p FROM ("
        "SELECT stream, max(version) AS v, max(position) AS p FROM events GROUP BY stream) AS h "
        "WHERE h.stream = s.stream",
    )


@pytest.mark.parametrize("size", [1, 255, 300, 600])
async def test_a_database_that_lost_its_tail_is_refused_and_can_be_accepted(
    room: Room, size: int, tmp_path: Path
) -> None:
    await signed(room)
    before = await room.head.get()
    await truncate(room, size)
    async with room_on(room.dsn, tmp_path) as later:
        with pytest.raises(HeadRefused, match=f"601 events, and the database {size}"):
            await later.signer()
        assert await later.log.head() == size  # a refused start writes nothing
        # Other events in the place of the lost ones do not make it right.
        await later.append(700)
        with pytest.raises(HeadRefused, match="does not extend the last signed head"):
            await later.signer()
        known, position = await accept_restore(
            later.settings, later.pool, later.log, CLOCK, Actor("user:a"), "the disk was lost"
        )
        assert known.note == before
        (event,) = await later.log.read(Position(0), types=["RestoreAccepted"])
        assert event.position == position
        assert fact_of(event) == RestoreAccepted("the disk was lost", known.note)
        # It goes on under another name, for the old one stands for other events.
        await (await later.signer()).step()
        checkpoint = await later.checkpoint()
        assert checkpoint.origin.endswith(f"/restored/{event.event_id}")
        assert checkpoint.root == await later.true_root(checkpoint.size)
        with pytest.raises(ValueError, match="nothing to accept"):
            await accept_restore(
                later.settings, later.pool, later.log, CLOCK, Actor("user:a"), "again"
            )


async def test_another_log_is_refused(room: Room, empty_dsn: str, tmp_path: Path) -> None:
    await signed(room)
    async with room_on(empty_dsn, tmp_path) as other:
        with pytest.raises(HeadRefused, match=f"this log is trueup.dev/log/{other.log.log_id}"):
            await other.signer()


async def test_an_event_changed_behind_the_last_full_tile_is_refused(room: Room) -> None:
    await signed(room)
    await execute(room, "UPDATE events SET actor = 'user:b' WHERE position = 550")
    with pytest.raises(HeadRefused, match="some are others"):
        await room.signer()


async def test_a_tile_that_was_changed_is_refused(room: Room) -> None:
    await signed(room)
    await execute(room, "UPDATE merkle_tile SET root = set_byte(root, 3, 255 - get_byte(root, 3))")
    with pytest.raises(HeadRefused, match="some are others"):
        await room.signer()


async def test_a_head_that_no_key_of_ours_signed_is_refused(room: Room) -> None:
    await signed(room)
    note = await room.head.get()
    assert note is not None
    stranger = SignerKey(await origin_of(room.log), b"2" * 32)
    await room.head.put(sign(note.partition("\n\n")[0] + "\n", [stranger]))
    with pytest.raises(HeadRefused, match="not signed by a key of ours"):
        await room.signer()
    await room.head.put("no note at all")
    with pytest.raises(HeadRefused):
        await room.signer()


async def test_a_lost_signing_key_does_not_lock_the_log(room: Room) -> None:
    """The public keys are remembered beside the head, so that a new key can take over."""
    await signed(room)
    room.settings.signing_key.unlink()
    await room.append(1)
    assert await (await room.signer()).step()
    assert len(await recorded_keys(room.log)) == 2


async def test_a_running_signer_stops_where_an_older_copy_is_put_under_it(room: Room) -> None:
    signer = await room.signer()
    await room.append(10)
    await signer.step()
    await truncate(room, 5)
    room.log._known = Position(0)
    with pytest.raises(LogCorrupt, match="11 were signed"):
        await signer.step()


async def test_an_older_copy_that_has_grown_on_is_never_signed_over(room: Room) -> None:
    signer = await room.signer()
    await room.append(10)
    await signer.step()
    kept = await room.head.get()
    await truncate(room, 5)
    async with room_on(room.dsn, room.settings.directory) as fork:
        await fork.append(20)
    room.log._known = Position(0)
    with pytest.raises(LogCorrupt, match="another copy"):
        await signer.step()
    assert await room.head.get() == kept


class Failing:
    """A place for heads that is full or away as long as `broken` says."""

    name = "a failing place"

    def __init__(self) -> None:
        self.broken, self.kept = False, ""

    async def get(self) -> str | None:
        if self.broken:
            raise HeadUnavailable("away")
        return self.kept or None

    async def put(self, note: str) -> None:
        if self.broken:
            raise HeadUnavailable("full")
        self.kept = note


async def test_what_cannot_be_kept_outside_is_not_published(room: Room) -> None:
    await signed(room, 10)
    place = Failing()
    seeds = read_seeds(room.settings.signing_key)
    origin = await origin_of(room.log)
    keys = [SignerKey(origin, seed) for seed in seeds]
    signer = Signer(room.pool, room.log, origin, keys, [place])
    await room.append(300)
    place.broken = True
    with pytest.raises(HeadUnavailable):
        await signer.step()
    assert (await room.checkpoint()).size == 11
    place.broken = False
    await signer.step()
    assert (await room.checkpoint()).size == 311
    assert place.kept == await room.proofs.checkpoint()
    assert (await room.checkpoint()).root == await room.true_root(311)


async def test_an_event_that_goes_missing_is_never_signed_over(room: Room) -> None:
    signer = await room.signer()
    await room.append(10)
    await execute(room, "DELETE FROM events WHERE position = 5")
    with pytest.raises(LogCorrupt, match="position 5 is missing"):
        await signer.step()
    assert await room.proofs.checkpoint() is None


async def test_a_server_that_may_forget_what_it_acknowledged_is_refused(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    await connection.close()
    async with AsyncExitStack() as stack:
        with pytest.raises(Exception, match="synchronous_commit"):
            await stack.enter_async_context(open_log(dsn))
