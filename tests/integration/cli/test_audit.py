"""`trueup audit` against a server whose log has proofs, and against one that is stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from engine.embedded.server import EmbeddedPostgres
from engine.process.clock import SystemClock
from engine.settings import Settings
from engine.signing.setup import read_seeds, start_signing
from events.event import Position
from events.postgres import PostgresLog, open_log
from events.proofs import Proofs
from events.signer import Signer
from tests.appending import new
from tests.databases import fresh_database
from tests.exports import flip
from tests.integration.cli.conftest import Trueup
from tests.serving import bench

pytestmark = pytest.mark.anyio


class Proven:
    """A server whose proofs are those of a log in Postgres, signed up to its end."""

    def __init__(self, dsn: str, log: PostgresLog, signer: Signer, folder: Path) -> None:
        self.dsn, self.log, self.signer, self.folder = dsn, log, signer, folder


@pytest.fixture
async def proven(tmp_path: Path, postgres: EmbeddedPostgres) -> AsyncIterator[Proven]:
    async with fresh_database(postgres) as dsn, open_log(dsn) as log:
        folder = tmp_path / "engine"
        signer = await start_signing(Settings(data_dir=folder), log._pool, log, SystemClock())
        await log.append([new() for _ in range(600)])
        await signer.step()
        async with bench(tmp_path, proofs=Proofs(log._pool, log)):
            yield Proven(dsn, log, signer, folder)


def put(path: Path, text: str) -> None:
    path.write_text(text)


async def test_export_and_verify(proven: Proven, trueup: Trueup, tmp_path: Path) -> None:
    folder, kept = tmp_path / "export", tmp_path / "kept"
    done = await trueup("audit", "checkpoint")
    assert done.code == 0
    put(kept, done.out)
    key = msgspec.json.decode((await trueup("audit", "checkpoint", "-o", "json")).out)["keys"][0]

    await proven.log.append([new() for _ in range(10)])
    await proven.signer.step()
    done = await trueup("audit", "export", "--to", str(folder))
    assert (done.code, "611" in done.out) == (0, True), done
    done = await trueup("audit", "verify", str(folder), "--key", key, "--since", str(kept))
    assert done.code == 0, done
    assert "verified: 611 events" in done.out
    assert "extend the 601 events" in done.out
    done = await trueup("audit", "verify", str(folder))
    assert done.code == 0
    assert f"--key {key}" in done.err  # what was trusted is said

    flip(folder / "tile/entries/001", 2000)
    done = await trueup("audit", "verify", str(folder), "-o", "json")
    assert done.code == 1
    value = msgspec.json.decode(done.out)
    assert not value["verified"]
    assert 257 <= value["position"] <= 270


async def test_what_is_wrong_is_said_in_lines_that_a_terminal_holds(
    proven: Proven, trueup: Trueup, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    assert (await trueup("audit", "export", "--to", str(folder))).code == 0
    (folder / "tile/0/077").write_bytes(b"x")
    done = await trueup("audit", "verify", str(folder))
    assert done.code == 1
    told = done.out.splitlines()
    assert told[0] == "NOT as it was signed"
    assert told[-1] == "  in tile/0/077"
    assert "nothing in this export vouches for this file" in done.out
    assert max(map(len, told)) <= 80
    done = await trueup("audit", "verify", str(folder), "--jobs", "0")
    assert done.code == 2
    assert "--jobs is 1 or more" in done.err


async def test_an_export_goes_on_where_the_last_one_ended(
    proven: Proven, trueup: Trueup, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    for size in (601, 651, 901):
        assert (await trueup("audit", "export", "--to", str(folder))).code == 0
        done = await trueup("audit", "verify", str(folder), "-o", "json")
        assert msgspec.json.decode(done.out)["size"] == size
        assert msgspec.json.decode(done.out)["payloads"] == size
        await proven.log.append([new() for _ in range(50 if size == 601 else 250)])
        await proven.signer.step()


async def test_a_stopped_log_is_exported_out_of_its_database(
    proven: Proven, trueup: Trueup, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    stopped = ("--database-url", proven.dsn)
    done = await trueup("audit", "export", "--to", str(folder), "--bodies", "none", *stopped)
    assert done.code == 0, done
    assert (await trueup("audit", "verify", str(folder))).code == 0
    assert (await trueup("audit", "checkpoint", *stopped)).code == 0
    done = await trueup("audit", "checkpoint", "--data-dir", str(tmp_path / "nothing"))
    assert done.code == 2
    assert "no embedded Postgres" in done.err


async def test_prove_one_event(proven: Proven, trueup: Trueup, tmp_path: Path) -> None:
    proof = tmp_path / "300.tlog-proof"
    done = await trueup("audit", "prove", "300")
    assert done.code == 0, done
    assert done.out.startswith("c2sp.org/tlog-proof@v1\n")
    put(proof, done.out)
    key = msgspec.json.decode((await trueup("audit", "checkpoint", "-o", "json")).out)["keys"][0]
    done = await trueup("audit", "verify", str(proof), "--key", key, "-o", "json")
    assert done.code == 0, done
    (event,) = await proven.log.read(Position(299), 1)
    assert msgspec.json.decode(done.out)["header"]["event_id"] == event.event_id
    # Any change of it fails.
    text = proof.read_text()
    for at in range(30, len(text), 97):
        put(proof, text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :])
        assert (await trueup("audit", "verify", str(proof), "--key", key)).code == 1, at
    done = await trueup("audit", "prove", "602")
    assert (done.code, "601 events" in done.err) == (1, True)
    assert (await trueup("audit", "verify", str(proof))).code == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("verify", "nowhere"), "keys"),
        (("verify", ".", "--key", "a+b"), "--key"),
        (("verify", ".", "--since", "nowhere"), "nowhere"),
        (("export", "--to", "/proc/x"), "/proc/x"),
        (("export", "--to", "x", "--bodies", "some"), "none, payloads or all"),
        (("accept-restore", "--reason", " "), "reason"),
    ],
)
async def test_what_cannot_be_done_is_said(
    proven: Proven, trueup: Trueup, arguments: tuple[str, ...], says: str
) -> None:
    done = await trueup("audit", *arguments)
    assert done.code in (1, 2)
    assert says in done.out + done.err


async def test_a_folder_that_is_something_else_is_left_alone(
    proven: Proven, trueup: Trueup, tmp_path: Path
) -> None:
    put(tmp_path / "precious", "x")
    done = await trueup("audit", "export", "--to", str(tmp_path))
    assert (done.code, "not empty" in done.err) == (2, True)


async def test_a_restore_is_accepted(proven: Proven, trueup: Trueup, tmp_path: Path) -> None:
    flags = ("--database-url", proven.dsn, "--data-dir", str(proven.folder))
    done = await trueup("audit", "accept-restore", "--reason", "none", *flags)
    assert (done.code, "nothing to accept" in done.err) == (2, True), done
    await proven.log._pool.execute("DELETE FROM events WHERE position > 590")
    await proven.log._pool.execute("DELETE FROM event_id WHERE position > 590")
    await proven.log._pool.execute("UPDATE stream_head SET version = 589 WHERE version = 600")
    done = await trueup("audit", "accept-restore", "--reason", "disk failed", *flags)
    assert done.code == 0, done
    assert "position 591: the head of 601 events" in done.out


async def test_a_key_is_added(proven: Proven, trueup: Trueup) -> None:
    flags = ("--data-dir", str(proven.folder))
    assert (await trueup("audit", "new-key", *flags)).code == 0
    assert len(read_seeds(proven.folder / "signing.key")) == 2
    done = await trueup("audit", "new-key", "--data-dir", str(proven.folder / "none"))
    assert (done.code, "no key yet" in done.err) == (2, True)
