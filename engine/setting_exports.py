"""Reads the standard variables of OpenTelemetry that say what is exported, and how.

Where to, how often, how much of it and under which name are variables that the SDK reads by
itself; only those are read here whose values may ask for what Trueup does not have.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

_PROTOCOL = "http/protobuf"


class Exports(Struct, frozen=True):
    """What leaves the process: traces and metrics over OTLP, metrics for Prometheus to fetch."""

    traces: bool = False
    push: bool = False
    pull: bool = False

    @property
    def metrics(self) -> bool:
        """Whether anything is measured."""
        return self.push or self.pull


def read_exports(env: Mapping[str, str], problems: list[str]) -> Exports:
    """Read the variables; what they ask for and cannot have is added to `problems`.

    Nothing is sent until an endpoint or an exporter is named; metrics can be fetched unless that
    is taken back.
    """
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Exports()
    traces = _exporters(env, "TRACES", ("otlp",), problems)
    metrics = _exporters(env, "METRICS", ("otlp", "prometheus"), problems)
    if traces is None:
        traces = {"otlp"} if _has_endpoint(env, "TRACES") else set()
    if metrics is None:
        metrics = {"prometheus"} | ({"otlp"} if _has_endpoint(env, "METRICS") else set())
    for signal, on in (("TRACES", "otlp" in traces), ("METRICS", "otlp" in metrics)):
        if on:
            _check_protocol(env, signal, problems)
    return Exports("otlp" in traces, "otlp" in metrics, "prometheus" in metrics)


def _exporters(
    env: Mapping[str, str], signal: str, known: tuple[str, ...], problems: list[str]
) -> set[str] | None:
    variable = f"OTEL_{signal}_EXPORTER"
    named = {name.strip().lower() for name in env.get(variable, "").split(",") if name.strip()}
    if not named:
        return None
    problems.extend(
        f"{variable}: there is no exporter {name!r}; use {' or '.join(known)}, or none"
        for name in sorted(named - {*known, "none"})
    )
    return set() if "none" in named else named


def _has_endpoint(env: Mapping[str, str], signal: str) -> bool:
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return any(env.get(name, "").strip() for name in names)


def _check_protocol(env: Mapping[str, str], signal: str, problems: list[str]) -> None:
    for variable in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = env.get(variable, "").strip()
        if protocol:
            if protocol != _PROTOCOL:
                problems.append(
                    f"{variable} is {protocol!r}: Trueup speaks {_PROTOCOL} (port 4318 of a "
                    "collector, as a rule)"
                )
            return
