"""Where the trace of what happened is told."""

from __future__ import annotations

from typing import Any

import pytest

from engine.cli.narrate import narrate, trace_id

TRACE = "0af7651916cd43dd8448eb211c80319c"


def event(traceparent: str) -> dict[str, Any]:
    return {
        "position": 7,
        "recordedAt": "2026-03-03T02:13:00Z",
        "type": "Resumed",
        "schema": 1,
        "stream": "target/default/shop@prod",
        "actor": "user:ada",
        "traceparent": traceparent,
        "payload": {"reason": "the sale is over"},
    }


def test_a_wide_timeline_names_the_trace() -> None:
    given = event(f"00-{TRACE}-b7ad6b7169203331-01")
    (line,) = narrate(given, wide=True)
    assert TRACE in line
    assert "#7" in line
    (line,) = narrate(given)
    assert TRACE not in line


@pytest.mark.parametrize("traceparent", ["", "nonsense", "00--", "a-b-c-d-e"])
def test_without_a_trace_there_is_nothing_to_name(traceparent: str) -> None:
    assert trace_id(event(traceparent)) == ""
    (line,) = narrate(event(traceparent), wide=True)
    assert "trace" not in line
