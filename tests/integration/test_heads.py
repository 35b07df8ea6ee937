"""Where heads are kept: a file and an S3-like store keep the same promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from engine.http.app import serving
from engine.process.clock import SystemClock
from engine.signing.heads import FileHeads, S3Heads
from engine.signing.s3 import Credentials, signed_headers
from events.signer import HeadStore, HeadUnavailable

pytestmark = pytest.mark.anyio
CREDENTIALS = Credentials("AKIA", "s3cr3t", "session")


class Store:
    """An S3-like store with one bucket, that checks what it is sent as S3 does."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.broken = 0
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.broken:
            return web.Response(status=self.broken)
        if not self._is_signed(request, body):
            return web.Response(status=403)
        if request.match_info["bucket"] != "bucket":
            return web.Response(status=404)
        if request.method == "PUT":
            self.objects[request.path] = body
            return web.Response()
        if request.path not in self.objects:
            return web.Response(status=404)
        return web.Response(body=self.objects[request.path])

    def _is_signed(self, request: web.Request, body: bytes) -> bool:
        stamp = SystemClock().now() / 1e6
        at = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        expected = signed_headers(
            request.method,
            f"{self.url}{request.raw_path}",
            body,
            credentials=CREDENTIALS,
            region="eu-1",
            at=at,
        )
        return (
            request.headers["authorization"] == expected["authorization"]
            and abs(at.timestamp() - stamp) < 900
        )


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store()
    app = web.Application()
    app.router.add_route("*", "/{bucket}/{key:.+}", store.handle)
    async with serving(app, "127.0.0.1", 0) as (host, port):
        store.url = f"http://{host}:{port}"
        yield store


def s3(store: Store, path: str = "/bucket/logs/the head", secret: str = "s3cr3t") -> S3Heads:
    credentials = Credentials("AKIA", secret, "session")
    return S3Heads(f"{store.url}{path.replace(' ', '%20')}", "eu-1", credentials, SystemClock())


@pytest.fixture(params=["file", "s3"])
def heads(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> HeadStore:
    return FileHeads(tmp_path / "deep" / "head") if request.param == "file" else s3(store)


async def test_what_was_put_last_is_got(heads: HeadStore) -> None:
    assert await heads.get() is None
    for note in ("one\n", "two — and an em dash\n"):
        await heads.put(note)
        assert await heads.get() == note


async def test_a_store_that_fails_is_named_and_no_secret(store: Store) -> None:
    broken = s3(store)
    for status in (403, 500, 301):
        store.broken = status
        for ask in (broken.get(), broken.put("x")):
            with pytest.raises(HeadUnavailable, match=f"bucket/logs.*answers {status}") as caught:
                await ask
            assert "s3cr3t" not in str(caught.value)
    store.broken = 0
    with pytest.raises(HeadUnavailable, match="403"):
        await s3(store, secret="wrong").get()
    with pytest.raises(HeadUnavailable, match="such a bucket"):
        await s3(store, "/other/head").put("x")
    nowhere = S3Heads("http://127.0.0.1:1/bucket/head", "eu-1", CREDENTIALS, SystemClock())
    with pytest.raises(HeadUnavailable, match="cannot be reached"):
        await nowhere.get()


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_a_file_that_cannot_be_written_leaves_the_last_one(tmp_path: Path) -> None:
    heads = FileHeads(tmp_path / "head")
    await heads.put("one\n")
    (tmp_path / "head").unlink()
    (tmp_path / "head").mkdir()
    with pytest.raises(HeadUnavailable):
        await heads.put("two\n")
    with pytest.raises(HeadUnavailable):
        await heads.get()
    assert names_in(tmp_path) == ["head"]
