"""Logging in and out: links that are good once, sessions that end, forms of other sites."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from engine.http.api import Limits
from engine.http.app import make_app, serving, tls_context
from engine.http.pages.gate import SESSIONS
from engine.http.pages.paths import is_page
from engine.http.pages.sessions import (
    ATTEMPTS,
    ATTEMPTS_SECONDS,
    CODE_SECONDS,
    IDLE_SECONDS,
    LONGEST_SECONDS,
    Sessions,
)
from events.event import Actor
from tests.browsing import Browser, browser
from tests.fakes import ManualClock
from tests.serving import SHA, Bench

pytestmark = pytest.mark.anyio
SOMEBODY = Actor("user:alice")


async def test_pages_send_a_stranger_to_the_page_that_says_how_to_log_in(api: Bench) -> None:
    async with browser(api, logged_in=False) as stranger:
        for path in ("/", "/targets/default/shop@dev", "/timeline", "/views", "/clusters"):
            page = await stranger.get(path)
            assert "trueup login" in page.text


async def test_a_link_logs_in_once_and_looking_at_it_does_not_use_it_up(api: Bench) -> None:
    path = (await api.call("POST", "/v1/login-links", status=201))["path"]
    async with browser(api, logged_in=False) as web:
        for _ in range(3):
            page = await web.get(path)
            assert "Log in as user:admin" in page.text
        code = path.partition("code=")[2]
        page = await web.send("/login", code=code)
        assert "user:admin" in page.text
        cookie = next(iter(web.session.cookie_jar))
        assert cookie["httponly"]
        assert cookie["samesite"] == "Strict"
        assert not cookie["secure"]
    async with browser(api, logged_in=False) as another:
        page = await another.send("/login", status=403, code=code)
        assert "not good any more" in page.text
        await another.get(path, status=403)


async def test_logging_out_ends_the_session_on_the_server_too(api: Bench, web: Browser) -> None:
    cookie = next(iter(web.session.cookie_jar))
    await web.send("/logout")
    headers = {"Cookie": f"{cookie.key}={cookie.value}", "Accept": "text/html"}
    async with (
        aiohttp.ClientSession(headers=headers) as kept,
        kept.get(api.url + "/") as answer,
    ):
        assert str(answer.url).endswith("/login")


async def test_a_session_ends_with_the_token_that_it_is_bound_to(api: Bench) -> None:
    made = await api.call("POST", "/v1/tokens", {"name": "bob"}, status=201)
    headers = {"Authorization": f"Bearer {made['token']}"}
    link = await api.call("POST", "/v1/login-links", status=201, headers=headers)
    async with browser(api, logged_in=False) as bob:
        page = await bob.send("/login", code=link["path"].partition("code=")[2])
        assert "user:bob" in page.text
        await api.call("DELETE", "/v1/tokens/bob?reason=left", status=200)
        page = await bob.get("/")
        assert "trueup login" in page.text


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "http://127.0.0.1:1"])
async def test_a_form_of_another_site_does_nothing(api: Bench, web: Browser, origin: str) -> None:
    before = await api.log.head()
    page = await web.send("/logout", status=403, origin=origin)
    assert "wrong-origin" in page.text
    await web.get("/")
    assert await api.log.head() == before


async def test_a_session_is_no_way_into_the_api(api: Bench, web: Browser) -> None:
    async with web.session.get(api.url + "/v1/targets") as answer:
        assert answer.status == 401
    async with web.session.post(api.url + "/v1/login-links") as answer:
        assert answer.status == 401


async def test_guessing_is_barred_for_a_while(api: Bench) -> None:
    async with browser(api, logged_in=False) as guesser:
        for number in range(ATTEMPTS):
            await guesser.send("/login", status=403, code=f"guess-{number}")
        page = await guesser.send("/login", status=429, code="guess")
        assert "wait a minute" in page.text


async def test_a_link_from_another_site_is_followed_with_the_session(
    api: Bench, web: Browser
) -> None:
    # A browser leaves a strict cookie out of the first step; the page then takes the second.
    async with browser(api, logged_in=False) as first:
        page = await first.get("/timeline?type=DriftDetected", **{"Sec-Fetch-Site": "cross-site"})
        assert "/timeline?type=DriftDetected" in page.links
        await first.get("//evil.example/", status=401, **{"Sec-Fetch-Site": "cross-site"})


async def test_nothing_is_shown_to_whoever_is_not_logged_in(api: Bench) -> None:
    await api.declare_shop()
    filled = {"position": "1", "name": "shop", "project": "default", "commit": SHA}
    filled |= {"target": "shop@dev", "cluster": "dev", "namespace": "-", "kind": "Pod"}
    filled |= {"collection": "clusters", "verb": "sync", "view": "fleet", "digest": "sha256:1"}
    seen = set()
    async with aiohttp.ClientSession() as stranger:
        for route in make_app(api.api(Limits())).router.routes():
            assert route.resource is not None
            path = route.resource.canonical
            for name, value in filled.items():
                path = path.replace(f"{{{name}}}", value)
            if path in ("/healthz", "/readyz", "/v1/openapi.json") or path.startswith("/static"):
                continue
            headers = {"Origin": api.url, "Accept": "text/html" if is_page(path) else "*/*"}
            async with stranger.request(
                route.method, api.url + path, headers=headers, allow_redirects=False
            ) as answer:
                seen.add(path)
                if path == "/login":
                    continue
                to_login = answer.status == 303 and answer.headers["Location"] == "/login"
                assert to_login or answer.status == 401, (route.method, path, answer.status)
    assert {"/", "/live", "/targets/default/shop@dev/sync", "/v1/targets"} <= seen


async def test_a_host_that_is_not_ours_gets_no_page(api: Bench, web: Browser) -> None:
    page = await web.get("/", status=421, Host="evil.example")
    assert "wrong-host" in page.text
    assert "Log out" not in page.text


async def test_with_tls_the_cookie_is_bound_to_host_and_transport(
    api: Bench, tmp_path: Path
) -> None:
    cert, key = self_signed(tmp_path)
    app = make_app(api.api(Limits()))
    code = app[SESSIONS].offer(SOMEBODY, "digest")
    async with (
        serving(app, "127.0.0.1", 0, tls_context(cert, key)) as (host, port),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session,
    ):
        url = f"https://{host}:{port}"
        async with session.post(
            f"{url}/login", data={"code": code}, headers={"Origin": url}, allow_redirects=False
        ) as answer:
            cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-trueup-")
    for word in ("Secure", "HttpOnly", "SameSite=Strict", "Path=/"):
        assert word in cookie


def self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    (folder / "key.pem").write_bytes(private)
    return folder / "cert.pem", folder / "key.pem"


async def test_what_is_not_there_is_a_page_for_a_browser(api: Bench, web: Browser) -> None:
    page = await web.get("/targets/default/nothing@nowhere", status=404)
    assert "not-found" in page.text
    page = await web.get("/nothing", status=404)
    assert "no-such-path" in page.text
    assert "Back to the fleet" in page.text
    web.session.cookie_jar.clear()
    page = await web.get("/nothing", status=401)
    assert "no-token" in page.text


async def test_static_files_are_kept_for_ever_under_their_digest_only(api: Bench) -> None:
    async with browser(api, logged_in=False) as web:
        page = await web.get("/login")
        found = [value for _, name, value in page.attributes if name in ("href", "src")]
        files = [value for value in found if value.startswith("/static/")]
        assert files
        for path in files:
            async with web.session.get(api.url + path) as answer:
                assert answer.status == 200
                assert "immutable" in answer.headers["Cache-Control"]
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
            async with web.session.get(api.url + path.partition("?")[0]) as answer:
                assert answer.headers["Cache-Control"] == "no-cache"
        for path in ("/static/../render.py", "/static/%2e%2e/render.py", "/static/nothing"):
            async with web.session.get(api.url + path) as answer:
                assert answer.status in (401, 404)


async def test_codes_and_sessions_end_in_time() -> None:
    clock = ManualClock()
    sessions = Sessions(clock)
    late = sessions.offer(SOMEBODY, "digest")
    await clock.advance(CODE_SECONDS + 1)
    assert sessions.offered(late) is None
    assert sessions.redeem(late) is None

    idle = _session(sessions)
    await clock.advance(IDLE_SECONDS + 1)
    assert sessions.find(idle) is None

    busy = _session(sessions)
    for _ in range(int(LONGEST_SECONDS // IDLE_SECONDS)):
        assert sessions.find(busy) is not None
        await clock.advance(IDLE_SECONDS - 1)
    await clock.advance(IDLE_SECONDS - 1)
    assert sessions.find(busy) is None


async def test_there_is_an_end_to_how_much_is_remembered() -> None:
    clock = ManualClock()
    sessions = Sessions(clock)
    codes = [sessions.offer(SOMEBODY, "digest") for _ in range(150)]
    assert sessions.redeem(codes[0]) is None
    assert sessions.redeem(codes[-1]) is not None
    for number in range(5000):
        sessions.wrong(f"10.0.{number // 250}.{number % 250}")
    assert not sessions.is_barred("10.0.0.1")
    for _ in range(ATTEMPTS):
        sessions.wrong("192.0.2.1")
    assert sessions.is_barred("192.0.2.1")
    await clock.advance(ATTEMPTS_SECONDS + 1)
    assert not sessions.is_barred("192.0.2.1")


def _session(sessions: Sessions) -> str:
    made = sessions.redeem(sessions.offer(SOMEBODY, "digest"))
    assert made is not None
    return made[0]
