"""OpenTelemetry: how those who run Trueup see it. Never the record, which is the log.

`spans` is what the rest of the engine calls and costs nothing while telemetry is off; `sdk` alone
knows the SDK and its exporters. Nothing here decides anything.
"""
