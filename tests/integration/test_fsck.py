"""What `trueup fsck` finds: nothing in a log that is whole, and the very place of any damage."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread
import asyncpg
import pytest

from engine.cli.program import run
from engine.embedded.server import EmbeddedPostgres
from engine.process.clock import SystemClock
from engine.settings import Settings
from engine.signing.setup import start_signing
from events.fsck import LogCheck
from events.postgres import open_log
from tests.appending import new
from tests.databases import dsn_of, fresh_database
from tests.integration.test_line import Shop
from tests.integration.test_past import story

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def lived(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    """The name of a database with the log of an engine that has had a life, and has stopped."""
    async with fresh_database(postgres) as dsn:
        shop = Shop(tmp_path_factory.mktemp("fsck"), dsn)
        async with shop.clusters_running():
            await story(shop)
        admin = await asyncpg.connect(dsn)
        database = await admin.fetchval("SELECT current_database()")
        await admin.close()
        yield database


async def checked(
    postgres: EmbeddedPostgres,
    database: str,
    capsys: pytest.CaptureFixture[str],
    *damage: str,
    options: tuple[str, ...] = (),
) -> tuple[int, dict[str, object]]:
    async with fresh_database(postgres, database) as dsn:
        connection = await asyncpg.connect(dsn)
        for statement in damage:
            assert not (await connection.execute(statement)).endswith(" 0"), "it changed something"
        await connection.close()
        capsys.readouterr()
        words = ["fsck", "--database-url", dsn, "-o", "json", *options]
        code = await anyio.to_thread.run_sync(run, words)
        return code, json.loads(capsys.readouterr().out)


async def test_a_log_that_is_whole_has_nothing_wrong(
    postgres: EmbeddedPostgres, lived: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = await checked(postgres, lived, capsys)
    assert found["findings"] == []
    assert (code, found["whole"]) == (0, True)
    for name in ("events", "streams", "bodies", "checkpoints", "documents"):
        assert isinstance(found[name], int)
        assert found[name] > 0, name


DAMAGE = {
    "hole": ("DELETE FROM events WHERE position = 20", "positions 20 to 20"),
    "payload": (
        "UPDATE events SET payload = 'x'::bytea WHERE position = 20",
        "position 20",
    ),
    "version": ("UPDATE events SET version = version + 7 WHERE position = 20", "position 20"),
    "time": ("UPDATE events SET recorded_at = recorded_at - 9e12 WHERE position = 20", "20"),
    "causation": ("UPDATE events SET causation = 30 WHERE position = 20", "position 20"),
    "checkpoint": (
        "UPDATE events SET actor = 'user:mallory' WHERE position = 20",
        "checkpoint of",
    ),
    "checkpoint-ahead": (
        "DELETE FROM events WHERE position = (SELECT max(position) FROM events)",
        "checkpoint of",
    ),
    "stream-head": (
        "UPDATE stream_head SET version = version + 1 WHERE stream = 'repo/default/shop'",
        "repo/default/shop",
    ),
    "event-id": (
        "UPDATE event_id SET position = 3 WHERE position = 4",
        "-",
    ),
    "body": (
        "UPDATE blobs SET body = body || ' '::bytea WHERE digest = (SELECT min(digest) FROM blobs)",
        "sha256:",
    ),
    "body-missing": (
        "DELETE FROM blobs WHERE size = (SELECT max(size) FROM blobs)",
        "sha256:",
    ),
    "body-missing of a render": (
        "DELETE FROM blobs WHERE digest IN (SELECT decode(substr(convert_from(body, 'UTF8')::json"
        "->0->>'digest', 8), 'hex') FROM blobs WHERE substr(body, 1, 1) = '[')",
        "sha256:",
    ),
    "body-erased": (
        "UPDATE blobs SET body = NULL WHERE digest = (SELECT min(digest) FROM blobs)",
        "sha256:",
    ),
}


@pytest.mark.parametrize("code", DAMAGE)
async def test_damage_is_named_with_its_place_and_a_remedy(
    postgres: EmbeddedPostgres, lived: str, capsys: pytest.CaptureFixture[str], code: str
) -> None:
    statement, place = DAMAGE[code]
    code = code.partition(" ")[0]
    status, found = await checked(postgres, lived, capsys, statement, options=("--no-views",))
    findings = found["findings"]
    assert isinstance(findings, list)
    assert status == 1
    mine = [item for item in findings if item["code"] == code]
    assert mine, findings
    assert place in mine[0]["where"]
    assert all(item["remedy"] for item in findings)


async def test_a_signed_tile_that_is_missing_is_named(dsn: str, tmp_path: Path) -> None:
    async with open_log(dsn) as log:
        signer = await start_signing(Settings(data_dir=tmp_path), log._pool, log, SystemClock())
        await log.append([new() for _ in range(300)])

        async def found() -> list[tuple[str, str]]:
            check = LogCheck(log._pool, log)
            return [(item.code, item.where) async for item in check.findings()]

        assert await found() == []  # nothing of it is signed yet
        await signer.step()
        assert await found() == []
        await log._pool.execute("DELETE FROM merkle_tile")
        assert await found() == [("tile-missing", "tile/0/000")]


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        (
            "UPDATE view_document SET document = '{}' WHERE view = 'sources'",
            "repo/default/shop is not what the log folds to",
        ),
        (
            "DELETE FROM view_document WHERE view = 'targets' AND key LIKE '%prod'",
            "target/default/shop-prod@prod is missing",
        ),
        (
            "UPDATE view_document SET key = 'target/default/x@y' WHERE view = 'drift'",
            "target/default/x@y should not be there",
        ),
        (
            "DELETE FROM view_subject WHERE subject = 'repo/default/shop' AND position < 20",
            "is not filed under repo/default/shop",
        ),
        (
            "INSERT INTO view_subject SELECT view, generation, 'x', 1 FROM view_subject LIMIT 1",
            "entries, and the log files",
        ),
    ],
)
async def test_a_view_that_is_not_what_the_log_folds_to_is_named(
    postgres: EmbeddedPostgres,
    lived: str,
    capsys: pytest.CaptureFixture[str],
    statement: str,
    what: str,
) -> None:
    status, found = await checked(postgres, lived, capsys, statement)
    findings = found["findings"]
    assert isinstance(findings, list)
    assert status == 1
    assert any(what in item["what"] for item in findings), findings
    assert all("trueup rebuild" in item["remedy"] for item in findings)


async def test_a_log_of_another_release_or_none_is_refused_in_a_line(
    postgres: EmbeddedPostgres, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    nowhere = dsn_of(postgres, "no_such_database")
    assert await anyio.to_thread.run_sync(run, ["fsck", "--database-url", nowhere]) == 2
    assert await anyio.to_thread.run_sync(run, ["fsck", "--data-dir", str(tmp_path)]) == 2
    assert "has no embedded Postgres" in capsys.readouterr().err.replace("\n", " ")
