"""API servers that break their promises: bounded in time and memory, told, never believed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from aiohttp import web

from engine.clusters.connect import Connection
from events.catalog import ClusterLost, KindReadable, KindUnreadable, ObservationGap
from events.vocabulary import Outcome
from tests.clusters import Hand, World, eventually

pytestmark = pytest.mark.anyio

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_RESOURCES = {
    "kind": "APIResourceList",
    "resources": [
        {
            "name": "configmaps",
            "kind": "ConfigMap",
            "namespaced": True,
            "verbs": ["get", "list", "watch", "patch", "delete"],
        }
    ],
}
_EMPTY = {"metadata": {"resourceVersion": "1"}, "items": []}


class Server:
    """Answers as it is told to; what nobody set is answered properly."""

    def __init__(self) -> None:
        self.version: Handler = _json({"gitVersion": "v1.36.0"})
        self.discovery: Handler = _json(_RESOURCES)
        self.list: Handler = _json(_EMPTY)
        self.watch: Handler = _silence
        self.get: Handler = _json({"kind": "Status", "code": 404}, 404)
        self.patch: Handler = _json({}, 500)
        self.asked: list[str] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if request.path == "/version":
            return await self.version(request)
        if request.path == "/api/v1":
            return await self.discovery(request)
        if request.method == "PATCH":
            return await self.patch(request)
        if not request.path.endswith("/configmaps"):
            return await self.get(request)
        return await (self.watch if "watch" in request.query else self.list)(request)


def _json(document: object, status: int = 200) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(document), status=status)

    return answer


def _bytes(body: bytes) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body)

    return answer


def _stream(*chunks: bytes, endless: bytes = b"") -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        while endless:
            await response.write(endless)
        await asyncio.get_running_loop().create_future()
        return response

    return answer


async def _silence(request: web.Request) -> web.StreamResponse:
    return await _stream()(request)


async def _hang(request: web.Request) -> web.StreamResponse:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def world(server: Server, tmp_path: Path) -> AsyncIterator[World]:
    async with _served(server.__call__) as url:
        yield _world(url, tmp_path)


@asynccontextmanager
async def _served(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _world(url: str, folder: Path) -> World:
    config = {
        "clusters": [{"name": "it", "cluster": {"server": url}}],
        "users": [{"name": "it", "user": {"token": "sesame"}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "current-context": "it",
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(config))
    nobody: Connection = None  # type: ignore[assignment]
    return World(path, None, Hand(nobody, "default"), folder, request_timeout=0.4)


GARBAGE = [
    b"",
    b"<html>login</html>",
    b"[]",
    b"{}",
    b'{"metadata":{"resourceVersion":"5"}}',
    b'{"kind":"Status","status":"Success","metadata":{}}',
    b'{"metadata":{"resourceVersion":"5"},"items":[{}]}',
    b'{"metadata":{"resourceVersion":"5"},"items":[{"metadata":{"name":"x"}}]}',
    b'{"metadata":{"resourceVersion":"5"},"items":[3]}',
    b'{"metadata":{"resourceVersion":"5"},"items":' + b"[" * 100_000,
    b"\xff\xfe\x00",
]


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
async def test_a_list_that_is_none_makes_the_kind_unreadable(
    world: World, server: Server, body: bytes
) -> None:
    server.list = _bytes(body)
    async with world.running():
        (said,) = await world.facts()
        assert isinstance(said, KindUnreadable)
        assert said.code == "garbage"


async def test_a_list_that_expires_again_and_again_makes_the_kind_unreadable(
    world: World, server: Server
) -> None:
    server.list = _json({"kind": "Status", "code": 410, "reason": "Expired"}, 410)
    async with world.running():
        (said,) = await world.facts()
        assert isinstance(said, KindUnreadable)


async def test_a_list_without_end_is_cut_off(world: World, server: Server) -> None:
    server.list = _stream(b'{"items":[', endless=b'{"metadata":{}},' * 4096)
    async with world.running(page_bytes=200_000, page=1):
        (said,) = await world.facts()
        assert isinstance(said, KindUnreadable)
        assert said.code == "too-large"


async def test_a_watch_line_without_end_is_cut_off_and_the_watch_opened_again(
    world: World, server: Server
) -> None:
    server.watch = _stream(b'{"type":"ADDED","object":{"x":"', endless=b"x" * 65536)
    async with world.running(object_bytes=200_000):
        await eventually(lambda: server.asked.count("GET /api/v1/configmaps") > 4)
        facts = await world.facts()
        assert [type(fact) for fact in facts] == [KindReadable]


@pytest.mark.parametrize(
    "line",
    [
        b"garbage\n",
        b'{"type":"ADDED"}\n',
        b'{"type":"ADDED","object":{}}\n',
        b'{"type":"NEWS","object":{"metadata":{"resourceVersion":"2"}}}\n',
    ],
)
async def test_a_watch_of_garbage_is_a_gap_and_the_kind_is_listed_afresh(
    world: World, server: Server, line: bytes
) -> None:
    server.watch = _stream(line)
    async with world.running():
        await world.until(lambda facts: [f for f in facts if isinstance(f, ObservationGap)])
        server.watch = _silence
        server.list = _json(_listed(world))
        await world.seen("one")


async def test_an_object_of_impossible_shape_stops_nobody(world: World, server: Server) -> None:
    listed = _listed(world)
    listed["items"][0]["metadata"]["managedFields"] = [{"manager": 3, "fieldsV1": [[]]}, 7]
    listed["items"][0]["metadata"]["labels"] = [1]
    listed["items"][0]["data"] = 4
    server.list = _json(listed)
    async with world.running():
        facts = await world.facts()
        assert isinstance(facts[-1], KindReadable | KindUnreadable)


async def test_discovery_that_is_garbage_makes_the_kind_unreadable(
    world: World, server: Server
) -> None:
    server.discovery = _bytes(b"{")
    async with world.running():
        (said,) = await world.facts()
        assert isinstance(said, KindUnreadable)
        assert said.code == "garbage"


@pytest.mark.parametrize(
    ("version", "code"),
    [
        (_bytes(b"<html>"), "garbage"),
        (_hang, "timed-out"),
        (_json({}, 503), "unavailable"),
        (_json({}, 302), "redirect"),
        (_bytes(b"x" * 2_000_000), "too-large"),
    ],
)
async def test_what_is_no_api_server_is_a_lost_cluster(
    world: World, server: Server, version: Handler, code: str
) -> None:
    server.version = version
    async with world.running(wait=False, probe_timeout=0.2):
        lost = await world.until(lambda facts: [f for f in facts if isinstance(f, ClusterLost)])
        assert lost[0].code == code


async def test_a_redirect_is_not_followed(world: World, server: Server) -> None:
    elsewhere: list[web.Request] = []

    async def other(request: web.Request) -> web.StreamResponse:
        elsewhere.append(request)
        return web.Response(body=orjson.dumps(_EMPTY))

    async with _served(other) as url:

        async def away(request: web.Request) -> web.StreamResponse:
            raise web.HTTPTemporaryRedirect(url)

        server.list = away
        async with world.running():
            (said,) = await world.facts()
            assert isinstance(said, KindUnreadable)
            assert said.code == "redirect"
    assert elsewhere == []


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"metadata":{"name":"one"}}', b"x" * 9999])
async def test_an_answer_to_an_apply_that_is_garbage_is_no_success(
    world: World, server: Server, body: bytes
) -> None:
    server.patch = _bytes(body)
    async with world.running(object_bytes=9000):
        answer = await world.apply(world.configmap("one", a="1"), force=False)
        assert answer.outcome is Outcome.UNREACHABLE
        assert answer.message


async def test_a_refusal_is_said_on_one_line_of_bounded_length(
    world: World, server: Server
) -> None:
    message = "no\n\x1b[31m" + "x" * 100_000
    server.patch = _json({"kind": "Status", "code": 422, "message": message}, 422)
    async with world.running():
        answer = await world.apply(world.configmap("one", a="1"), force=False)
        assert answer.outcome is Outcome.INVALID
        assert answer.message.isprintable()
        assert len(answer.message) <= 1000


async def test_names_that_would_climb_out_of_their_path_are_not_sent(
    world: World, server: Server
) -> None:
    async with world.running():
        for name in ("../../nodes", "..", "a/b", "a%2fb", ""):
            body = world.configmap("one")
            body["metadata"]["name"] = name
            answer = await world.apply(body, force=False)
            assert answer.outcome is Outcome.INVALID
        assert not [asked for asked in server.asked if asked.startswith("PATCH")]


def _listed(world: World) -> dict[str, Any]:
    one = world.configmap("one", a="1")
    one["metadata"] |= {"uid": "u1", "resourceVersion": "7"}
    return {"metadata": {"resourceVersion": "9"}, "items": [one]}
