"""Starts and stops the SDK: the only module that knows it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider

from engine.setting_exports import Exports
from engine.telemetry import spans

_LAST_WORDS = 5.0
"""Seconds that may pass until the last spans are sent when the engine stops."""
_log = logging.getLogger(__name__)


@asynccontextmanager
async def telemetry(exports: Exports, version: str, instance: str) -> AsyncIterator[None]:
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
    tracing = _tracing(resource, version) if exports.traces else None
    try:
        yield
    finally:
        spans.use(None)
        with anyio.move_on_after(_LAST_WORDS, shield=True) as waited:
            if tracing is not None:
                await anyio.to_thread.run_sync(tracing.shutdown, abandon_on_cancel=True)
        if waited.cancelled_caught:
            _log.warning("the last telemetry could not be sent in time")


def _tracing(resource: Resource, version: str) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    spans.use(provider.get_tracer("trueup", version))
    return provider
