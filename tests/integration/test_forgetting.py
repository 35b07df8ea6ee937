"""A person is forgotten under a whole engine: the name is nowhere in plain, the proof stands."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import asyncpg
import pytest

from events.sealed import git_actor
from tests.line import Line
from tests.repositories import Repository

pytestmark = pytest.mark.anyio
EMAIL, NAME = "canary.lovelace@example.org", "Ada"
OTHER = "bob@example.org"
ADA, BOB = git_actor(EMAIL.encode()), git_actor(OTHER.encode())


@pytest.fixture
async def line(tmp_path: Path, dsn: str) -> AsyncIterator[Line]:
    line = Line(tmp_path, dsn, [])
    async with line.clusters_running():
        yield line


async def trueup(line: Line, *words: str, code: int = 0) -> str:
    env = {**os.environ, "TRUEUP_DATA_DIR": str(line.folder / "data")}
    done = await anyio.run_process(
        [sys.executable, "-m", "engine.cli", *words], check=False, env=env
    )
    told = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == code, told
    return told


async def tables(dsn: str) -> AsyncIterator[tuple[str, bytes]]:
    connection = await asyncpg.connect(dsn)
    try:
        names = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        for row in await connection.fetch(names):
            chunks: list[bytes] = []

            async def take(chunk: bytes, into: list[bytes] = chunks) -> None:
                into.append(chunk)

            query = f'SELECT * FROM "{row["tablename"]}"'
            await connection.copy_from_query(query, output=take, format="binary")
            yield row["tablename"], b"".join(chunks)
    finally:
        await connection.close()


async def leaks(line: Line) -> set[str]:
    """Name the tables that have the address, or its middle in base64 at any of three offsets."""
    needles = [EMAIL.encode(), EMAIL.encode().hex().encode()]
    needles += [base64.b64encode(b"x" * n + EMAIL.encode())[4:-4] for n in range(3)]
    found, looked = set(), 0
    async for table, body in tables(line.dsn):
        looked += len(body) > 21
        if any(needle.lower() in body.lower() for needle in needles):
            found.add(table)
    assert looked > 5
    return found


async def sees(line: Line, commits: int) -> None:
    with anyio.fail_after(30):
        while len(await line.events(type="CommitSeen")) < commits:  # noqa: ASYNC110 - an engine
            await anyio.sleep(0.05)


async def test_a_name_is_told_until_it_is_forgotten_and_nothing_recorded_changes(
    line: Line,
) -> None:
    repository = Repository(line.git / "web.git")
    first = repository.commit({"a": "1"}, email=EMAIL)
    async with line.engine():
        spec = {"url": repository.url, "interval": "1s"}
        await line.declare({"kind": "Repository", "metadata": {"name": "web"}, "spec": spec})
        await sees(line, 1)
        repository.commit({"a": "2"}, email=OTHER)
        await sees(line, 2)
        assert EMAIL in await trueup(line, "actor", ADA)
        assert f"[{ADA} {NAME}]" in await trueup(line, "timeline", first[:10])
        assert await leaks(line) == set()
        await trueup(line, "audit", "export", "--to", str(line.folder / "before"))
        before = await line.events()

        done = await trueup(line, "forget", EMAIL, "--reason", "request 17")
        assert f"{ADA} forgotten" in done
        for words in (["actor", EMAIL], ["timeline", first[:10]], ["events", "-o", "jsonl"]):
            told = await trueup(line, *words)
            assert EMAIL not in told
        assert f"[{ADA} forgotten]" in await trueup(line, "timeline", first[:10])
        assert OTHER in await trueup(line, "actor", BOB)
        # A commit that comes after is recorded, and its author is not named.
        repository.commit({"a": "3"}, email=EMAIL)
        await sees(line, 3)
        assert EMAIL not in await trueup(line, "actor", ADA)
        seen = (await line.events(type="CommitSeen"))[-1]
        assert (seen["actor"], "author" in seen["payload"]) == (ADA, False)
        assert await leaks(line) == set()

        after = await line.events()
        assert after[: len(before)] == before
        await trueup(line, "audit", "export", "--to", str(line.folder / "after"))
        for name in ("before", "after"):
            told = await trueup(line, "audit", "verify", str(line.folder / name))
            assert "verified: " in told
        await trueup(line, "rebuild", "people")
        assert EMAIL not in await trueup(line, "actor", ADA)
    assert "all is well" in await trueup(line, "fsck", "--database-url", line.dsn)


async def test_a_restored_key_is_destroyed_at_the_next_start(line: Line) -> None:
    repository = Repository(line.git / "web.git")
    repository.commit({"a": "1"}, email=EMAIL)
    connection = await asyncpg.connect(line.dsn)
    try:
        async with line.engine():
            spec = {"url": repository.url, "interval": "1s"}
            await line.declare({"kind": "Repository", "metadata": {"name": "web"}, "spec": spec})
            await sees(line, 1)
            key = await connection.fetchval("SELECT key FROM actor_key WHERE actor = $1", ADA)
            await trueup(line, "forget", ADA, "--reason", "request 17")
        await connection.execute("UPDATE actor_key SET key = $1 WHERE actor = $2", key, ADA)
        told = await trueup(line, "fsck", "--database-url", line.dsn, code=1)
        assert f"{ADA}: it is forgotten, and there is a key" in told
        async with line.engine():
            assert EMAIL not in await trueup(line, "actor", ADA)
            assert await connection.fetchval("SELECT count(key) FROM actor_key") == 0
    finally:
        await connection.close()
