"""A receiver of OTLP over HTTP: what an engine sends, decoded by the protocol's own messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from aiohttp import web
from msgspec import Struct
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Linked(Struct, frozen=True):
    """A link of a span."""

    trace: str
    span: str
    attributes: dict[str, Any]


class Noted(Struct, frozen=True):
    """An event of a span."""

    name: str
    attributes: dict[str, Any]


class Span(Struct, frozen=True):
    """A span as it was received; times in nanoseconds."""

    trace: str
    id: str
    parent: str
    name: str
    kind: int
    start: int
    end: int
    attributes: dict[str, Any]
    links: tuple[Linked, ...]
    events: tuple[Noted, ...]
    resource: dict[str, Any]
    failed: bool

    def positions(self, name: str) -> list[int]:
        """The positions of the events of a type that were appended in this span."""
        return [note.attributes["trueup.position"] for note in self.events if note.name == name]


class Receiver:
    """What was received so far."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.metrics: set[str] = set()
        self.raw: list[bytes] = []
        self.url = ""
        self._more = anyio.Event()

    def named(self, name: str, **attributes: Any) -> list[Span]:
        """Spans of a name with these attributes (dots as `__`)."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        return [
            span
            for span in self.spans
            if span.name == name and wanted.items() <= span.attributes.items()
        ]

    def inside(self, trace: str, name: str = "") -> list[Span]:
        """The spans of a trace."""
        return [s for s in self.spans if s.trace == trace and name in ("", s.name)]

    async def until(self, condition: Callable[[], Any], timeout: float = 30.0) -> Any:
        """Wait until something that was received satisfies; return what the condition did."""
        with anyio.fail_after(timeout):
            while not (found := condition()):
                await self._more.wait()
        return found

    async def _traces(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.raw.append(body)
        for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _attributes(sent.resource.attributes)
            for scope in sent.scope_spans:
                self.spans += [_span(span, resource) for span in scope.spans]
        self._wake()
        return web.Response(content_type="application/x-protobuf")

    async def _metrics(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.raw.append(body)
        for sent in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for scope in sent.scope_metrics:
                self.metrics |= {metric.name for metric in scope.metrics}
        self._wake()
        return web.Response(content_type="application/x-protobuf")

    def _wake(self) -> None:
        self._more.set()
        self._more = anyio.Event()


def _span(span: Any, resource: dict[str, Any]) -> Span:
    return Span(
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        name=span.name,
        kind=span.kind,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
        links=tuple(
            Linked(link.trace_id.hex(), link.span_id.hex(), _attributes(link.attributes))
            for link in span.links
        ),
        events=tuple(Noted(event.name, _attributes(event.attributes)) for event in span.events),
        resource=resource,
        failed=span.status.code == 2,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Receive on a port of loopback until the block ends."""
    receiver = Receiver()
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/traces", receiver._traces)
    app.router.add_post("/v1/metrics", receiver._metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = "http://{}:{}".format(*runner.addresses[0][:2])
        yield receiver
    finally:
        await runner.cleanup()
