"""What is sent over OTLP, as a receiver that is not ours understands it."""

from __future__ import annotations

import socket

import anyio
import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings

from engine.setting_exports import Exports
from engine.telemetry import spans
from engine.telemetry.instruments import QUEUE_WAIT
from engine.telemetry.sdk import telemetry
from engine.telemetry.spans import Cause

pytestmark = pytest.mark.anyio
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def test_a_receiver_of_others_understands_spans_and_metrics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    found: list[Span | Metric] = []
    async with OtelTapHttpProtobufReceiver(
        OtelTapHttpProtobufReceiverSettings(http_port=port)
    ) as tap:

        async def span() -> None:
            found.append(await tap.await_trace(lambda got: got.name == "reconcile", 30))

        async def metric() -> None:
            found.append(await tap.await_metric(lambda got: got.name == QUEUE_WAIT.name, 30))

        async with anyio.create_task_group() as group:
            group.start_soon(span)
            group.start_soon(metric)
            await anyio.wait_all_tasks_blocked()
            async with telemetry(Exports(traces=True, push=True), "1", "here"):
                with spans.span("reconcile", causes=[Cause(7, f"00-{TRACE}-{PARENT}-01")]):
                    QUEUE_WAIT.record(1.0)
    (got,) = [each for each in found if isinstance(each, Span)]
    assert [(link.trace_id.hex(), link.span_id.hex()) for link in got.links] == [(TRACE, PARENT)]
    (measured,) = [each for each in found if isinstance(each, Metric)]
    assert measured.unit == "s"
    (point,) = measured.histogram.data_points
    assert list(point.explicit_bounds) == list(QUEUE_WAIT.buckets)
    assert point.sum == 1.0
