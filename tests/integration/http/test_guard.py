"""Who comes in: host, token, size, time; and that errors are problems with a stable code."""

from __future__ import annotations

import logging
import os
import stat
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import anyio
import anyio.abc
import msgspec
import pytest

from engine.http.api import Limits
from engine.http.guard import hosts_for
from engine.http.local import read_server, read_token, remove_server
from engine.http.tokens import digest, ensure_first_token, new_token
from events.catalog import TokenRevoked
from events.event import START
from tests.serving import Bench, bench

pytestmark = pytest.mark.anyio


async def test_every_path_but_the_probes_needs_a_token(api: Bench) -> None:
    async with aiohttp.ClientSession() as anonymous:
        for path in ("/v1/version", "/v1/targets", "/v1/events", "/v1/tokens", "/no/such"):
            async with anonymous.get(api.url + path) as answer:
                assert answer.status == 401
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
                assert answer.content_type == "application/problem+json"
                assert (await answer.json(content_type=None))["code"] == "no-token"
        for path in ("/healthz", "/readyz"):
            async with anonymous.get(api.url + path) as answer:
                assert answer.status == 200


@pytest.mark.parametrize("token", ["", "x", "trueup_" + "A" * 43, "x" * 5000, "é"])
async def test_a_wrong_token_is_refused(api: Bench, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as stranger,
        stranger.get(api.url + "/v1/version") as answer,
    ):
        assert answer.status == 401


async def test_the_actor_is_the_name_of_the_token(api: Bench) -> None:
    made = await api.call("POST", "/v1/tokens", {"name": "alice"}, status=201)
    headers = {"Authorization": f"Bearer {made['token']}"}
    answer = await api.call("GET", "/v1/version", headers=headers, status=200)
    assert answer["actor"] == "user:alice"


async def test_a_revoked_token_is_refused_at_once_and_the_last_one_stays(api: Bench) -> None:
    made = await api.call("POST", "/v1/tokens", {"name": "bob"}, status=201)
    headers = {"Authorization": f"Bearer {made['token']}"}
    await api.call("DELETE", "/v1/tokens/bob?reason=left", status=200)
    answer = await api.call("GET", "/v1/version", headers=headers, status=401)
    assert answer["code"] == "bad-token"
    assert (await api.call("DELETE", "/v1/tokens/admin", status=409))["code"] == "last-token"
    assert (await api.call("DELETE", "/v1/tokens/bob", status=404))["code"] == "not-found"
    again = await api.call("POST", "/v1/tokens", {"name": "bob"}, status=201)
    assert again["token"] != made["token"]


async def test_tokens_are_listed_without_what_they_are(api: Bench) -> None:
    made = await api.call("POST", "/v1/tokens", {"name": "carol"}, status=201)
    text = str(await api.call("GET", "/v1/tokens", status=200))
    assert "carol" in text
    assert made["token"] not in text
    assert digest(made["token"]) not in text
    assert (await api.call("POST", "/v1/tokens", {"name": "carol"}, status=409))["code"] == "exists"
    await api.call("POST", "/v1/tokens", {"name": "No Name"}, status=400)


async def test_no_event_has_a_token(api: Bench) -> None:
    made = await api.call("POST", "/v1/tokens", {"name": "dora"}, status=201)
    events = await api.log.read(START)
    assert not any(token.encode() in event.payload for event in events for token in (
        made["token"], api.token
    ))  # fmt: skip


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "10.1.2.3"])
async def test_another_host_name_is_refused(api: Bench, host: str) -> None:
    answer = await api.call("GET", "/v1/version", headers={"Host": host}, status=421)
    assert answer["code"] == "wrong-host"


@pytest.mark.parametrize("host", ["localhost:1", "[::1]:8484", "TRUEUP.example.org", "127.0.0.1"])
async def test_our_own_host_names_pass(api: Bench, host: str) -> None:
    await api.call("GET", "/v1/version", headers={"Host": host}, status=200)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "file://", ""]
)
async def test_pages_from_elsewhere_are_refused(api: Bench, origin: str) -> None:
    answer = await api.call("GET", "/v1/version", headers={"Origin": origin}, status=403)
    assert answer["code"] == "wrong-origin"
    await api.call("GET", "/v1/version", headers={"Origin": api.url}, status=200)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x16\x03\x01\x00\xa5\x01", "not-http"),
        (b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", "not-http"),
        (b"GET / HTTP/9.9\r\n\r\n", "not-http"),
        (
            b"POST /v1/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
            b"Content-Length: 2\r\n\r\n{}",
            "not-http",
        ),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", "headers-too-large"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", "headers-too-large"),
        (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 100_000, ""),
    ],
)
async def test_what_is_no_request_is_answered_with_a_problem(
    api: Bench, sent: bytes, code: str
) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        answer = b""
        with anyio.fail_after(10):
            try:
                await stream.send(sent)
                while True:
                    answer += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass
    if code or answer:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"Content-Type: application/problem+json" in head
        assert b"X-Content-Type-Options: nosniff" in head
        assert b"aiohttp" not in answer
        assert msgspec.json.decode(body)["code"] in (code or "headers-too-large", "not-http")
    await api.call("GET", "/v1/version", status=200)


def test_a_server_on_every_address_takes_addresses_and_no_names() -> None:
    assert hosts_for("0.0.0.0", ["a.example:8484"]) >= {"localhost", "a.example"}
    assert "127.0.0.1" not in hosts_for("192.0.2.1", [])


async def test_a_body_that_is_too_large_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path, Limits(body=1000)) as api:
        answer = await api.call("POST", "/v1/tokens", {"name": "x" * 2000}, status=413)
        assert answer["code"] == "too-large"


async def test_a_body_that_does_not_arrive_is_given_up(tmp_path: Path) -> None:
    async with bench(tmp_path, Limits(body_time=0.05)) as api:
        host, port = api.url.removeprefix("http://").split(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(
                b"POST /v1/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n"
                b"Authorization: Bearer " + api.token.encode() + b"\r\n\r\n{"
            )
            with anyio.fail_after(10):
                assert b"408" in await stream.receive()


async def test_a_connection_that_says_its_headers_slowly_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.http.app.IDLE", 0.3)
    async with bench(tmp_path) as api:
        host, port = api.url.removeprefix("http://").split(":")
        slow = [await anyio.connect_tcp(host, int(port)) for _ in range(100)]
        for stream in slow[1:]:
            await stream.send(b"GET /v1/version HTTP/1.1\r\nHost: localhost\r\nX: ")
        # They keep nobody from being answered, and are gone soon.
        await api.call("GET", "/v1/version", status=200)
        with anyio.fail_after(10):
            for stream in slow:
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await until_closed(stream)
        for stream in slow:
            await stream.aclose()


async def until_closed(stream: anyio.abc.ByteReceiveStream) -> None:
    while True:
        await stream.receive()


async def test_a_body_that_grows_too_large_without_saying_so_is_refused(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b" " * 1000

    async with bench(tmp_path, Limits(body=10_000)) as api:
        headers = {"Content-Type": "application/json"}
        async with api.session.post(
            api.url + "/v1/tokens", data=endless(), headers=headers
        ) as answer:
            assert answer.status == 413
        bomb = zlib.compress(b" " * 50_000_000)
        async with api.session.post(
            api.url + "/v1/tokens", data=bomb, headers={**headers, "Content-Encoding": "deflate"}
        ) as answer:
            assert answer.status in (400, 413)
        await api.call("GET", "/v1/version", status=200)


async def test_a_stranger_makes_nobody_read_a_body(api: Bench) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        await stream.send(
            b"POST /v1/resources HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8000000\r\n\r\n"
        )
        with anyio.fail_after(10):
            assert b"401" in await stream.receive()


async def test_unknown_paths_methods_members_and_parameters_are_named(api: Bench) -> None:
    assert (await api.call("GET", "/v1/nothing", status=404))["code"] == "no-such-path"
    wrong = await api.call("DELETE", "/v1/targets", status=405)
    assert "GET" in wrong["detail"]
    unknown = await api.call("GET", "/v1/targets?aplication=x", status=400)
    assert "aplication" in unknown["detail"]
    member = await api.call("POST", "/v1/tokens", {"name": "x", "nmae": "y"}, status=400)
    assert "nmae" in member["detail"]
    assert (await api.call("GET", "/v1/events?limit=0", status=400))["code"] == "bad-request"
    assert (await api.call("GET", "/v1/events?after=-1", status=400))["code"] == "bad-request"
    assert (await api.call("GET", "/v1/events?after=1&after=2", status=400))["status"] == 400


async def test_answers_carry_headers_that_keep_browsers_out(api: Bench) -> None:
    async with api.session.get(api.url + "/v1/version") as answer:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "aiohttp" not in answer.headers.get("Server", "")


async def test_requests_are_logged_with_the_actor_and_without_the_token(
    api: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "trueup.http"):
        await api.call("GET", "/v1/version")
        await api.call("GET", "/v1/no")
    records = [record.__dict__ for record in caplog.records if record.message == "request"]
    assert [(each["path"], each["status"]) for each in records] == [
        ("/v1/version", 200),
        ("/v1/no", 404),
    ]
    assert records[0]["actor"] == "user:admin"
    assert api.token not in str(records)


@pytest.mark.parametrize("path", ["/metrics", "/readyz"])
async def test_what_programs_fetch_is_no_page_whatever_they_accept(api: Bench, path: str) -> None:
    api.problems = {"database": "away"}
    async with (
        aiohttp.ClientSession() as nobody,
        nobody.get(api.url + path, headers={"Accept": "text/html"}) as answer,
    ):
        assert answer.status in (401, 503)
        assert answer.content_type in ("application/problem+json", "application/json")


async def test_not_ready_says_no_more_than_that(api: Bench) -> None:
    api.problems = {"database": "cannot reach db.internal"}
    answer = await api.call("GET", "/readyz", status=503)
    assert answer == {"status": "not ready"}


async def test_a_fault_of_ours_tells_nothing_of_what_was_read(
    api: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ValueError("secret s3cr3t")

    monkeypatch.setattr(api.log, "head", broken)
    answer = await api.call("GET", "/v1/version", status=500)
    assert answer["code"] == "internal"
    assert "s3cr3t" not in str(answer)
    assert "s3cr3t" in caplog.text


async def test_the_first_token_is_made_once_private_and_renewed_when_its_file_is_lost(
    api: Bench, tmp_path: Path
) -> None:
    path = tmp_path / "data" / "token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert await ensure_first_token(api.log, api.clock, path.parent) is None
    assert read_token(path) == api.token
    path.unlink()
    assert await ensure_first_token(api.log, api.clock, path.parent) is not None
    fresh = read_token(path)
    assert fresh != api.token
    await api.call("GET", "/v1/version", status=401)
    headers = {"Authorization": f"Bearer {fresh}"}
    await api.call("GET", "/v1/version", headers=headers, status=200)


async def test_a_token_file_that_others_can_read_is_refused(api: Bench, tmp_path: Path) -> None:
    os.chmod(tmp_path / "data" / "token", 0o644)
    with pytest.raises(PermissionError, match="can be read by others"):
        await ensure_first_token(api.log, api.clock, tmp_path / "data")


async def test_a_revoked_first_token_stays_revoked(api: Bench, tmp_path: Path) -> None:
    await api.tell("token/default/admin", TokenRevoked("stolen"))
    assert await ensure_first_token(api.log, api.clock, tmp_path / "data") is None
    await api.call("GET", "/v1/version", status=401)


async def test_a_server_is_found_until_it_is_gone(api: Bench, tmp_path: Path) -> None:
    data = tmp_path / "data"
    server = read_server(data)
    assert server is not None
    assert server.url == api.url
    remove_server(data, server.pid + 1)
    assert read_server(data) == server
    remove_server(data, server.pid)
    assert read_server(data) is None


def test_tokens_are_long_and_never_the_same() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) == len("trueup_") + 43 for token in tokens)
