"""Spans, as the rest of the engine makes them: named pieces of work, linked across the log.

Until `use` is told a tracer, nothing is recorded and nothing costs anything. No message of an
error and no value of an object goes into a span: only names, numbers and codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from msgspec import Struct
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NoOpTracer,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Attribute = str | bool | int | float | tuple[str, ...]
Attributes = Mapping[str, Attribute]
"""What a span says of itself; "" counts as nothing to say."""
_OFF = NoOpTracer()
_propagator = TraceContextTextMapPropagator()
MAX_LINKS = 32
"""Links of one span: what woke a target a thousand times is not listed a thousand times."""


class _Tracing:
    tracer: Tracer = _OFF


class Cause(Struct, frozen=True):
    """An event that led to something: its position, and the trace in which it was written."""

    position: int
    traceparent: str = ""


def use(tracer: Tracer | None) -> None:
    """Record with this tracer from now on; None: record nothing."""
    _Tracing.tracer = tracer or _OFF


@contextmanager
def span(
    name: str,
    attributes: Attributes | None = None,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    causes: Iterable[Cause] = (),
    began: int | None = None,
    parent: str | None = None,
    root: bool = False,
) -> Iterator[Span]:
    """Record the block as a span below the current one; what it raises marks it as failed.

    `causes` become links. `began` is when it began (UTC microseconds) if that was before now.
    `parent` is a traceparent from outside to go below instead; `root` begins a trace.
    """
    tracer = _Tracing.tracer
    if tracer is _OFF:
        yield INVALID_SPAN
        return
    context = Context() if root else None
    if parent:
        context = _propagator.extract({"traceparent": parent}, Context())
    with tracer.start_as_current_span(
        name,
        context=context,
        kind=kind,
        attributes=_said(attributes),
        links=_links(causes, "cause"),
        start_time=began * 1000 if began else None,
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except Exception as error:
            failed(current, str(getattr(error, "code", "") or type(error).__name__))
            raise
        except BaseException as error:
            # Cancelled: it did not fail, and did not come to its end either.
            current.set_attribute("error.type", type(error).__name__)
            raise


def past(name: str, began: int, ended: int, attributes: Attributes | None = None) -> None:
    """Record something that is over below the current span; times are UTC microseconds."""
    tracer = _Tracing.tracer
    if tracer is not _OFF and trace.get_current_span().is_recording():
        made = tracer.start_span(name, attributes=_said(attributes), start_time=began * 1000)
        made.end(max(began, ended) * 1000)


def failed(current: Span, code: str) -> None:
    """Mark a span as failed, with a code of ours or an error's name."""
    current.set_attribute("error.type", code)
    current.set_status(Status(StatusCode.ERROR))


def annotate(attributes: Attributes) -> None:
    """Say more about the current span."""
    current = trace.get_current_span()
    if current.is_recording():
        current.set_attributes(_said(attributes))


def link(causes: Iterable[Cause], how: str = "cause") -> None:
    """Link the current span to the other traces in which these events were written."""
    current = trace.get_current_span()
    if current.is_recording():
        own = current.get_span_context().trace_id
        for each in _links(causes, how):
            if each.context.trace_id != own:
                current.add_link(each.context, each.attributes)


def note(name: str, attributes: Attributes) -> None:
    """Add an event to the current span."""
    current = trace.get_current_span()
    if current.is_recording():
        current.add_event(name, _said(attributes))


def is_recording() -> bool:
    """Say whether the current span is recorded: whether more is worth finding out for it."""
    return trace.get_current_span().is_recording()


def traceparent() -> str:
    """Return the current span as a W3C traceparent; "" outside of one."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get("traceparent", "")


def ids() -> tuple[str, str]:
    """Return the ids of the current trace and span in hexadecimal; "" outside of one."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return "", ""
    return trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)


def _said(attributes: Attributes | None) -> dict[str, Attribute]:
    return {name: value for name, value in (attributes or {}).items() if value not in ("", ())}


def _links(causes: Iterable[Cause], how: str) -> list[Link]:
    links: list[Link] = []
    for cause in causes:
        context = _context(cause.traceparent)
        if context is not None and len(links) < MAX_LINKS:
            links.append(Link(context, {"trueup.link": how, "trueup.position": cause.position}))
    return links


def _context(traceparent: str) -> SpanContext | None:
    if not traceparent:
        return None
    found = trace.get_current_span(_propagator.extract({"traceparent": traceparent}, Context()))
    context = found.get_span_context()
    return context if context.is_valid else None
