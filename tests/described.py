"""Answers held to the API's description: every one that a test gets, in status, type and shape."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import jsonschema_rs
import msgspec
from aiohttp import web

from engine.http.openapi import document

DESCRIPTION = document("0.1.0-test")
JSON_TYPES = ("application/json", "application/problem+json")


async def hold(request: web.Request, response: web.StreamResponse) -> None:
    """Note on the application what an answer has that the description does not."""
    if found := fault(request, response):
        request.app[FAULTS].append(f"{request.method} {request.path}: {found}")


FAULTS: web.AppKey[list[str]] = web.AppKey("faults", list)


def fault(request: web.Request, response: web.StreamResponse) -> str:
    """Return what is wrong with an answer, "" where nothing is."""
    operation = operation_of(request.method, request.path)
    if operation is None:
        known = response.status in (401, 404, 405, 421) or not request.path.startswith("/v1/")
        return "" if known else f"{response.status} from what is not described"
    described = operation["responses"].get(str(response.status))
    if described is None:
        return f"{response.status} is not described"
    if response.status == 304:
        return ""
    content = described["content"].get(response.content_type)
    if content is None:
        return f"{response.content_type} is not described for {response.status}"
    if response.content_type not in JSON_TYPES or not isinstance(response, web.Response):
        return ""
    assert isinstance(response.body, bytes)
    value = msgspec.json.decode(response.body)
    errors = [
        f"{error.instance_path} {error.message}"
        for error in _validator(msgspec.json.encode(content["schema"])).iter_errors(value)
    ]
    return "; ".join(errors[:3])


def operation_of(method: str, path: str) -> Any:
    """Return the operation that a request means, None where it means none."""
    for template, operations in DESCRIPTION["paths"].items():
        # A tile's number is a path of its own.
        pattern = re.escape(template).replace(r"\{path\}", ".+")
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", pattern)
        if re.fullmatch(pattern, path):
            return operations.get(method.lower().replace("head", "get"))
    return None


@cache
def _validator(schema: bytes) -> jsonschema_rs.Validator:
    # Closed here and open in what is served: a test must see what nobody described, and a client
    # must bear what a later release adds.
    components = {"schemas": closed(DESCRIPTION["components"]["schemas"])}
    whole = {**msgspec.json.decode(schema), "components": components}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def closed(schema: Any) -> Any:
    """Return a schema in which objects have no other properties than those named."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    turned = {key: closed(value) for key, value in schema.items()}
    if isinstance(turned.get("properties"), dict) and turned.get("title") != "Problem":
        turned.setdefault("additionalProperties", False)
    return turned
