"""The API's description: OpenAPI 3.1, made of the table of operations and the shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from engine.http.api import api_of
from engine.http.operation import AT, JSON, TAGS, Operation, Parameter
from engine.http.operations import OPERATIONS
from engine.http.problem import CONTENT_TYPE
from engine.http.shapes import Problem
from engine.http.wire import Query, is_time, outward_name, reply

routes = web.RouteTableDef()
_EVERYWHERE = (400, 401, 403, 421, 431, 500, 503)
_WITH_BODY = (408, 413, 415)
_REF = "#/components/schemas/"
_TIME = {"type": ["string", "null"], "format": "date-time"}
_LOG_ID = {
    "description": "Which log answers: positions mean something in one log only.",
    "schema": {"type": "string"},
}
_ETAG = {
    "description": "Stands for this answer: give it as If-None-Match to be told of changes only.",
    "schema": {"type": "string"},
}
_KNOWN = Parameter("If-None-Match", "header", "The ETag of the answer that is known.", TAGS)


@routes.get("/v1/openapi.json")
async def describe(request: web.Request) -> web.Response:
    """Return this API's description."""
    Query(request).done()
    return reply(document(api_of(request).version))


@cache
def document(version: str) -> dict[str, Any]:
    """Return the whole description as plain JSON values."""
    shapes = [
        shape for operation in OPERATIONS for shape in _shapes_of(operation) if shape is not None
    ]
    schemas, components = msgspec.json.schema_components(
        [Problem, *shapes], ref_template=_REF + "{name}"
    )
    schema_of = {
        id(shape): schema for shape, schema in zip([Problem, *shapes], schemas, strict=True)
    }
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        described = _operation(operation, schema_of)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "Trueup",
            "version": version,
            "description": "A GitOps engine whose memory is an append-only log. Lists are paged "
            "by `limit` and `after`: `next` of one page is `after` of the next, null at the end.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": {name: _outward(schema) for name, schema in components.items()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(whole))
    return plain


def _shapes_of(operation: Operation) -> Iterable[Any]:
    yield operation.answer
    if isinstance(operation.body, Mapping):
        yield from operation.body["oneOf"]
    else:
        yield operation.body


def _operation(operation: Operation, schema_of: Mapping[int, Any]) -> dict[str, Any]:
    parameters = list(operation.parameters)
    if operation.method == "GET":
        parameters.append(_KNOWN)
    described: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": [_parameter(parameter) for parameter in parameters],
        "responses": _responses(operation, schema_of),
    }
    if operation.is_open:
        described["security"] = []
    if operation.body is not None:
        schema = _body_schema(operation.body, schema_of)
        content: dict[str, Any] = {
            JSON: {"schema": schema, "examples": {"usual": {"value": operation.example}}}
        }
        for other in operation.body_types[1:]:
            content[other] = {"schema": {"type": "string"}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _body_schema(body: Any, schema_of: Mapping[int, Any]) -> Any:
    if isinstance(body, Mapping):
        return {"oneOf": [_outward(schema_of[id(shape)]) for shape in body["oneOf"]]}
    return _outward(schema_of[id(body)])


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }


def _responses(operation: Operation, schema_of: Mapping[int, Any]) -> dict[str, Any]:
    good = _outward(schema_of[id(operation.answer)]) if operation.answer is not None else {}
    content = {operation.content_type: {"schema": good}}
    for other in operation.also:
        content[other] = {"schema": {"type": "string"}}
    answer: dict[str, Any] = {"description": operation.summary, "content": content}
    if not operation.is_open:
        answer["headers"] = {"Trueup-Log-Id": _LOG_ID}
    responses = {str(operation.status): answer}
    if operation.or_created:
        responses["201"] = answer
    if operation.method == "GET" and operation.content_type == JSON:
        responses["304"] = {"description": "Nothing has changed since the ETag given."}
        answer["headers"] = {**answer.get("headers", {}), "ETag": _ETAG}
    past = [409] if AT in operation.parameters else []
    bad = {
        *_EVERYWHERE,
        *past,
        *operation.problems,
        *(_WITH_BODY if operation.body is not None else ()),
    }
    problem = {CONTENT_TYPE: {"schema": {"$ref": _REF + "Problem"}}}
    for status in sorted(bad):
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": problem}
    if operation.or_status:
        either = {**problem, **content}
        responses[str(operation.or_status)] = {"description": "Not now.", "content": either}
    return responses


def _outward(schema: Any) -> Any:
    """Turn the schema of a struct into that of what goes over the wire."""
    if isinstance(schema, list):
        return [_outward(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    turned: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            turned[key] = {
                outward_name(name): _TIME if _is_time(name, item) else _outward(item)
                for name, item in value.items()
            }
        elif key == "required":
            turned[key] = [outward_name(name) for name in value]
        elif key in ("default", "enum", "const"):
            turned[key] = value
        else:
            turned[key] = _outward(value)
    return turned


def _is_time(name: str, schema: Any) -> bool:
    return schema.get("type") == "integer" and is_time(outward_name(name))
