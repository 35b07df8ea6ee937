"""What the standard variables of OpenTelemetry ask for."""

from __future__ import annotations

import pytest

from engine.setting_exports import Exports
from engine.settings import SettingsRefused, exports, load_client

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, Exports(pull=True)),
        (ENDPOINT, Exports(traces=True, push=True, pull=True)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://h/x"}, Exports(traces=True, pull=True)),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://h/x"}, Exports(push=True, pull=True)),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, Exports(traces=True, pull=True)),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, Exports(push=True, pull=True)),
        ({**ENDPOINT, "OTEL_METRICS_EXPORTER": "otlp"}, Exports(traces=True, push=True)),
        ({**ENDPOINT, "OTEL_METRICS_EXPORTER": "none"}, Exports(traces=True)),
        ({"OTEL_METRICS_EXPORTER": "prometheus, otlp"}, Exports(push=True, pull=True)),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, Exports()),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, Exports(True, True, True)),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, Exports(pull=True)),
    ],
)
def test_what_is_exported(env: dict[str, str], expected: Exports) -> None:
    assert exports(env) == expected


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, ["OTEL_TRACES_EXPORTER", "zipkin", "otlp", "none"]),
        ({"OTEL_METRICS_EXPORTER": "statsd"}, ["OTEL_METRICS_EXPORTER", "prometheus"]),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ["grpc", "http/protobuf", "4318"]),
        (
            {**ENDPOINT, "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/json"},
            ["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"],
        ),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(env: dict[str, str], words: list[str]) -> None:
    with pytest.raises(SettingsRefused) as refused:
        exports(env)
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize("given", ["", "nonsense", TRACEPARENT + "\r\nX: y", "00-" + "0" * 500])
def test_a_traceparent_that_is_none_is_left_out(given: str) -> None:
    assert load_client(environ={"TRACEPARENT": given}).traceparent == ""


def test_a_command_goes_on_with_its_callers_trace() -> None:
    assert load_client(environ={"TRACEPARENT": TRACEPARENT}).traceparent == TRACEPARENT
