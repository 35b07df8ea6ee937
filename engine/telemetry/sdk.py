"""Starts and stops the SDK: the only module that knows it. One engine a process."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from engine.setting_exports import Exports
from engine.telemetry import instruments, process, spans

_LAST_WORDS = 5.0
"""Seconds that may pass until the last spans are sent when the engine stops."""
_log = logging.getLogger(__name__)


class Telemetry:
    """What is running of it; `is_pushed` where metrics are sent."""

    def __init__(self, registry: CollectorRegistry | None, *, pushed: bool) -> None:
        self._registry, self.is_pushed = registry, pushed

    @property
    def is_pulled(self) -> bool:
        """Whether there is a page for Prometheus."""
        return self._registry is not None

    def page(self, accept: str) -> tuple[bytes, str]:
        """Return the page in the form that an Accept header asks for, and its content type."""
        if self._registry is None:
            raise RuntimeError("metrics are not for fetching: OTEL_METRICS_EXPORTER says so")
        encoder, content_type = choose_encoder(accept)
        return encoder(self._registry), content_type


@asynccontextmanager
async def telemetry(exports: Exports, version: str, instance: str) -> AsyncIterator[Telemetry]:
    """Record for as long as the block lasts, and send what is left at its end.

    Where to, how much and under which name are the standard `OTEL_…` variables, which the SDK
    reads.
    """
    resource = Resource.create(
        {
            "service.name": "trueup",
            "service.version": version,
            "service.instance.id": instance,
        }
    ).merge(OTELResourceDetector().detect())
    closing: list[Callable[[], Any]] = []
    registry = CollectorRegistry() if exports.pull else None
    if exports.traces:
        closing.append(_trace(resource, version).shutdown)
    if exports.metrics:
        closing.append(_measure(resource, version, exports, registry).shutdown)
    try:
        yield Telemetry(registry, pushed=exports.push)
    finally:
        spans.use(None)
        instruments.Breakdown.cluster = instruments.Breakdown.application = False
        for instrument in instruments.ALL:
            instrument.use(None)
        with anyio.move_on_after(_LAST_WORDS, shield=True) as waited:
            async with anyio.create_task_group() as group:
                for close in closing:
                    group.start_soon(_in_thread, close)
        if waited.cancelled_caught:
            _log.warning("the last telemetry could not be sent in time")


async def _in_thread(close: Callable[[], Any]) -> None:
    """Wait for what a thread does; one that is not waited for any more keeps no process alive."""
    ended = anyio.Event()
    loop = asyncio.get_running_loop()

    def run() -> None:
        try:
            close()
        finally:
            # A loop that is closed waits for nobody.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=run, name="last telemetry", daemon=True).start()
    await ended.wait()


def _trace(resource: Resource, version: str) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    spans.use(provider.get_tracer("trueup", version))
    return provider


def _measure(
    resource: Resource, version: str, exports: Exports, registry: CollectorRegistry | None
) -> MeterProvider:
    readers: list[MetricReader] = []
    if registry is not None:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader

        readers.append(PrometheusMetricReader(scope_info_enabled=False, registry=registry))
    if exports.push:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
    provider = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
    meter = provider.get_meter("trueup", version)
    for instrument in instruments.ALL:
        instrument.use(_live(meter, instrument))
    process.report()
    return provider


def _live(meter: Meter, made: instruments.Instrument) -> Any:
    about = {"name": made.name, "unit": made.unit, "description": made.about}
    match made:
        case instruments.Histogram():
            return meter.create_histogram(**about, explicit_bucket_boundaries_advisory=made.buckets)
        case instruments.Counter():
            return meter.create_counter(**about)
        case instruments.Gauge():
            create = (
                meter.create_observable_counter if made.grows else meter.create_observable_gauge
            )
            return create(**about, callbacks=[_callback(made)])
    raise AssertionError(made.name)


def _callback(gauge: instruments.Gauge) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(value, labels) for value, labels in gauge.read()]

    return observe
