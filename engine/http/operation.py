"""What an operation of the API is, as its description tells it; and the parameters that recur."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from engine.resources.model import NAME_PATTERN, Resource
from engine.resources.record import PLURALS
from events.event import START

Schema = Mapping[str, Any]
JSON, JSONL, STREAM, YAML = (
    "application/json",
    "application/jsonl",
    "text/event-stream",
    "application/yaml",
)
TEXT: Schema = {"type": "string", "maxLength": 2048, "pattern": r"^[^\x00-\x1f]*$"}
GIVEN: Schema = {**TEXT, "minLength": 1}
NAME: Schema = {"type": "string", "pattern": NAME_PATTERN}
MAYBE_NAME: Schema = {"type": "string", "pattern": f"^({NAME_PATTERN[1:-1]})?$"}
POSITION: Schema = {"type": "integer", "minimum": int(START), "maximum": 10**18 - 1}
FLAG: Schema = {"type": "boolean", "default": False}
KIND_WORDS: Schema = {"type": "string", "enum": sorted(PLURALS)}
TAGS: Schema = {"type": "string"}


class Parameter(Struct, frozen=True):
    """A parameter, where it stands, and what it may be."""

    name: str
    place: Literal["path", "query", "header"]
    description: str
    schema: Schema
    required: bool = False


class Operation(Struct, frozen=True, kw_only=True):
    """One operation. `problems` are the statuses it is refused with, besides those of all."""

    method: str
    path: str
    id: str
    tag: str
    summary: str
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    body_types: tuple[str, ...] = (JSON,)
    example: Any = None
    answer: Any = None
    """The shape of a good answer; None for any JSON."""
    status: int = 200
    also: tuple[str, ...] = ()
    """Other content types that a good answer may have: a string each."""
    content_type: str = JSON
    problems: tuple[int, ...] = ()
    is_open: bool = False
    """Whether it is answered without a token."""
    or_status: int = 0
    """Another status that has the same shape as a good answer."""
    or_created: bool = False
    """Whether 201 says that something new is there."""


def path(name: str, description: str, schema: Schema = NAME) -> Parameter:
    """Return a parameter in the path."""
    return Parameter(name, "path", description, schema, required=True)


def query(
    name: str, description: str, schema: Schema = TEXT, *, required: bool = False
) -> Parameter:
    """Return a parameter in the query."""
    return Parameter(name, "query", description, schema, required)


def limit(default: int) -> Parameter:
    """Return how many items a page has at most."""
    schema = {"type": "integer", "minimum": 1, "maximum": 1000, "default": default}
    return query("limit", "How many items at most.", schema)


PROJECT = path("project", "The project.")
IN_PROJECT = query("project", "The project.", {**NAME, "default": "default"})
AFTER_KEY = query("after", "`next` of the page before.")
AFTER_POSITION = query("after", "Only what comes after this position.", POSITION)
AT = query(
    "at",
    "As of when: a position, a time (RFC 3339), or for example `2h ago`; else, now.",
    {
        "type": "string",
        "anyOf": [
            {"pattern": "^[0-9]{1,18}$"},
            {"maxLength": 0},
            {"format": "date"},
            {"format": "date-time"},
            {"pattern": "^([0-9]{1,9}(ms|s|m|h|d))+ ago$"},
        ],
    },
)
LAST_EVENT = Parameter(
    "Last-Event-ID",
    "header",
    "Where a stream goes on: the position that came last. Of use with `text/event-stream` only.",
    {"type": "string"},
)
KEY = Parameter(
    "Idempotency-Key",
    "header",
    "Makes a repeated request give the first answer; a UUIDv7, or any 200 characters.",
    {"type": "string", "maxLength": 200, "pattern": "^[!-~]*$"},
)
IF_MATCH = Parameter("If-Match", "header", "Only where the resource still has this tag.", TAGS)
IF_NONE_MATCH = Parameter("If-None-Match", "header", "`*`: only where nothing is there.", TAGS)
LINE: Schema = {"type": "string", "maxLength": 500, "pattern": r"^[^\x00-\x1f\x7f-\x9f]*$"}
REASON = query("reason", "Why: one line.", LINE)
TARGET = path(
    "target",
    "The target: application@cluster.",
    {"type": "string", "pattern": r"^[a-z0-9][a-z0-9.-]{0,62}@[a-z0-9][a-z0-9.-]{0,62}$"},
)
APPLICATION = {
    "apiVersion": "trueup.dev/v1",
    "kind": "Application",
    "metadata": {"name": "shop"},
    "spec": {
        "source": {"repository": "shop", "path": "overlays/prod"},
        "targets": {"clusters": ["prod"], "namespace": "shop"},
    },
}
Resources = Annotated[list[Resource], Meta(min_length=1, max_length=5000)]
ANY_RESOURCE = {"oneOf": [Resource, Resources]}
