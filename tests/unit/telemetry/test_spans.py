"""Spans: what is recorded, what never is, and that nothing is while telemetry is off."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from engine.process.clock import SystemClock
from engine.process.logs import JsonLines, Seldom, TextLines, in_trace
from engine.telemetry import spans
from engine.telemetry.log import TracedLog, link_to
from engine.telemetry.spans import Cause
from events.catalog import ClusterConnected
from events.event import Actor, NewEvent, Position, StreamName
from events.log import LogUnavailable
from events.memory import MemoryLog

pytestmark = pytest.mark.anyio
OTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def recorded() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans.use(provider.get_tracer("test"))
    yield exporter
    spans.use(None)


def new() -> NewEvent:
    clock = SystemClock()
    return NewEvent(
        event_id=clock.event_id(),
        stream=StreamName("cluster/default/dev"),
        fact=ClusterConnected("v1"),
        actor=Actor("cluster:dev"),
        occurred_at=clock.now(),
    )


def test_without_a_tracer_there_is_no_span() -> None:
    with spans.span("work", {"a": 1}) as span:
        spans.annotate({"b": 2})
        spans.link([Cause(1, OTHER)])
        spans.past("wait", 1, 2)
        assert not span.is_recording()
        assert spans.traceparent() == ""
        assert spans.ids() == ("", "")
        assert trace.get_current_span() is trace.INVALID_SPAN


def test_an_errors_message_is_never_recorded(recorded: InMemorySpanExporter) -> None:
    with pytest.raises(LogUnavailable), spans.span("work"):
        raise LogUnavailable("canary")
    with pytest.raises(KeyError), spans.span("work"):
        raise KeyError("canary")
    coded, named = recorded.get_finished_spans()
    assert coded.attributes is not None
    assert coded.attributes["error.type"] == "log-unavailable"
    assert named.attributes is not None
    assert named.attributes["error.type"] == "KeyError"
    assert not coded.status.is_ok
    assert "canary" not in coded.to_json() + named.to_json()


async def test_what_was_cancelled_did_not_fail(recorded: InMemorySpanExporter) -> None:
    with anyio.CancelScope() as scope:
        with spans.span("work"):
            scope.cancel()
            await anyio.sleep(1)
    (span,) = recorded.get_finished_spans()
    assert span.status.is_unset
    assert span.attributes is not None
    assert span.attributes["error.type"] == "CancelledError"


def test_causes_become_links_and_nonsense_does_not(recorded: InMemorySpanExporter) -> None:
    causes = [Cause(7, OTHER), Cause(8, "nonsense"), Cause(9)]
    with spans.span("work", causes=causes):
        spans.link([Cause(10, OTHER)], "request")
    (span,) = recorded.get_finished_spans()
    said = [dict(link.attributes or {}) for link in span.links]
    assert said == [
        {"trueup.link": "cause", "trueup.position": 7},
        {"trueup.link": "request", "trueup.position": 10},
    ]


def test_a_trace_is_not_linked_to_itself(recorded: InMemorySpanExporter) -> None:
    with spans.span("work"):
        spans.link([Cause(1, spans.traceparent()), Cause(2, OTHER)])
    (span,) = recorded.get_finished_spans()
    assert [dict(link.attributes or {})["trueup.position"] for link in span.links] == [2]


def test_a_root_stands_alone_and_a_parent_from_outside_is_gone_below(
    recorded: InMemorySpanExporter,
) -> None:
    with spans.span("outer"):
        with spans.span("root", root=True):
            pass
        with spans.span("below", parent=OTHER):
            pass
    root, below, _ = recorded.get_finished_spans()
    assert root.parent is None
    assert below.parent is not None
    assert trace.format_span_id(below.parent.span_id) == OTHER.split("-")[2]


async def test_an_event_carries_the_span_that_wrote_it(recorded: InMemorySpanExporter) -> None:
    memory = MemoryLog(SystemClock().now)
    log = TracedLog(memory, SystemClock().monotonic)
    await log.append([new()])
    (event,) = await memory.read(Position(0))
    (span,) = recorded.get_finished_spans()
    assert span.context is not None
    assert event.traceparent.split("-")[2] == trace.format_span_id(span.context.span_id)
    (note,) = span.events
    assert note.name == "ClusterConnected"
    assert dict(note.attributes or {}) == {
        "trueup.position": 1,
        "trueup.stream": "cluster/default/dev",
        "trueup.version": 1,
    }


async def test_a_log_that_is_away_costs_links_only(recorded: InMemorySpanExporter) -> None:
    class Away(MemoryLog):
        async def read_at(self, positions: object) -> list[object]:  # type: ignore[override]
            raise LogUnavailable("away")

    with spans.span("work"):
        await link_to(Away(SystemClock().now), [1])
    (span,) = recorded.get_finished_spans()
    assert span.status.is_unset
    assert not span.links


def test_an_exporter_says_seldom_that_its_receiver_is_away() -> None:
    seldom = Seldom("opentelemetry", 300)

    def is_said(name: str, line: int, at: float) -> bool:
        record = logging.makeLogRecord({"name": name, "lineno": line, "created": at})
        return bool(seldom.filter(record))

    exporter = "opentelemetry.exporter.otlp"
    assert is_said(exporter, 7, 1000)
    assert not is_said(exporter, 7, 1299)
    assert is_said(exporter, 8, 1299)
    assert is_said(exporter, 7, 1301)
    assert is_said(exporter, 7, 900)  # the clock was set back
    assert is_said("engine.reconcile.reconciler", 7, 1301)
    assert is_said("engine.reconcile.reconciler", 7, 1301)


def test_a_log_line_names_its_trace(recorded: InMemorySpanExporter) -> None:
    def written() -> tuple[dict[str, object], str]:
        record = logging.makeLogRecord({"msg": "hello", "levelno": 20, "levelname": "INFO"})
        assert in_trace(record)
        return json.loads(JsonLines().format(record)), TextLines().format(record)

    with spans.span("work"):
        inside, text = written()
    outside, _ = written()
    (span,) = recorded.get_finished_spans()
    assert span.context is not None
    assert inside["trace_id"] == trace.format_trace_id(span.context.trace_id)
    assert inside["span_id"] == trace.format_span_id(span.context.span_id)
    assert f"trace_id={inside['trace_id']}" in text
    assert "trace_id" not in outside
