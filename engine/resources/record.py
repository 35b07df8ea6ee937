"""Resources as the log has them: the stream, the fact, and back again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from engine.resources.model import API_VERSION, STREAM_KINDS, Resource
from events.catalog import Declared
from events.event import StreamName, stream

PLURALS = {
    "repositories": "Repository",
    "clusters": "Cluster",
    "applications": "Application",
    "notifications": "Notification",
}
"""A kind by the name that its collection goes by."""


def stream_of(resource: Resource) -> StreamName:
    """Return the stream that says everything about a resource."""
    metadata = resource.metadata
    return stream(STREAM_KINDS[kind_of(resource)], metadata.project, metadata.name)


def kind_of(resource: Resource) -> str:
    """Return a resource's kind."""
    return type(resource).__name__


def declared(resource: Resource, *, owner: str = "", file: str = "", at: str = "") -> Declared:
    """Return the fact that a resource was declared; what has its default value is left out.

    `owner`, `file` and `at` say which control repository does, where, and at which commit.
    """
    return Declared(
        kind=kind_of(resource),
        # Through JSON, so that it is equal to what will be read back: lists, no tuples.
        spec=msgspec.json.decode(msgspec.json.encode(resource.spec)),
        labels=dict(resource.metadata.labels),
        owner=owner,
        file=file,
        commit=at,
    )


def plain(resource: Resource) -> dict[str, Any]:
    """Return a resource as it is written in YAML."""
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(resource))
    return document


def written(
    kind: str, project: str, name: str, spec: Mapping[str, Any], labels: Mapping[str, str]
) -> dict[str, Any]:
    """Return a declared resource as it is written in YAML, out of what the log has of it."""
    metadata: dict[str, Any] = {"name": name, "project": project}
    if labels:
        metadata["labels"] = dict(labels)
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": dict(spec)}


def resource_of(
    kind: str, project: str, name: str, spec: Mapping[str, Any], labels: Mapping[str, str]
) -> Resource:
    """Return a declared resource out of what the log has of it.

    Raises `msgspec.ValidationError` where an older release let pass what this one refuses.
    """
    document = written(kind, project, name, spec, labels)
    return msgspec.convert(document, Resource)  # type: ignore[no-any-return]
