"""The API's description: whole, valid, in step with the routes, and open to all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

import aiohttp
import pytest
from aiohttp import web

from engine.http.api import Limits
from engine.http.app import make_app
from tests.described import DESCRIPTION
from tests.serving import Bench

pytestmark = pytest.mark.anyio


async def test_every_route_is_described_and_every_description_has_a_route(api: Bench) -> None:
    routes = {
        (route.method, path)
        for route in make_app(api.api(Limits())).router.routes()
        for path in _paths(route)
        if route.method != "HEAD"
    }
    described = {
        (method.upper(), path)
        for path, operations in DESCRIPTION["paths"].items()
        for method in operations
    }
    ours = {(method, path) for method, path in routes if path.startswith("/v1")}
    assert ours - described == set(), "add these to engine/http/operations.py"
    assert described - routes == set(), "these are described, and do not exist"


def _paths(route: web.AbstractRoute) -> Iterator[str]:
    """Yield a route's paths as OpenAPI writes them, one for each word of `{name:one|two}`."""
    assert route.resource is not None
    pieces = re.split(r"(\{\w+(?::[\w|]+)?\})", _raw(route.resource))
    choices = [
        piece.strip("{}").partition(":")[2].split("|") if ":" in piece else [piece]
        for piece in pieces
    ]
    yield from map("".join, product(*choices))


def _raw(resource: web.AbstractResource) -> str:
    info = resource.get_info()
    if "path" in info:
        return info["path"]
    text = info["formatter"]
    for name, words in re.findall(r"\(\?P<(\w+)>([\w|]+)\)", info["pattern"].pattern):
        text = text.replace(f"{{{name}}}", f"{{{name}:{words}}}")
    return text


async def test_it_is_served_to_whoever_asks(api: Bench) -> None:
    async with (
        aiohttp.ClientSession() as anonymous,
        anonymous.get(api.url + "/v1/openapi.json") as answer,
    ):
        assert answer.status == 200
        assert await answer.json() == DESCRIPTION


def test_examples_fit_their_schemas() -> None:
    import jsonschema_rs

    for operations in DESCRIPTION["paths"].values():
        for operation in operations.values():
            if "requestBody" not in operation:
                continue
            content = operation["requestBody"]["content"]["application/json"]
            schema = {**content["schema"], "components": DESCRIPTION["components"]}
            jsonschema_rs.Draft202012Validator(schema).validate(
                content["examples"]["usual"]["value"]
            )


def test_names_of_operations_are_used_once() -> None:
    ids = [
        operation["operationId"]
        for operations in DESCRIPTION["paths"].values()
        for operation in operations.values()
    ]
    assert len(ids) == len(set(ids))
