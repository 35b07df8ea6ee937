"""An engine whose clock is an hour off, ahead or behind, and one that comes after it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import engine.process.clock
from tests.line import Line
from tests.repositories import Repository

pytestmark = pytest.mark.anyio
HOUR = 3600
SLACK = 300
CONFIG = """\
apiVersion: v1
kind: ConfigMap
metadata: {{name: web, namespace: later}}
data: {{a: "{value}"}}
"""


def shifted(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """Have the engine's clock show so many seconds more than the database's."""
    clock = SimpleNamespace(
        time_ns=lambda: time.time_ns() + seconds * 10**9, monotonic=time.monotonic
    )
    monkeypatch.setattr(engine.process.clock, "time", clock)


def seconds_of(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def until_failed(line: Line, more_than: int) -> list[dict[str, Any]]:
    return await line.until("CorrectionFailed", more_than + 1)


@pytest.mark.parametrize("seconds", [HOUR, -HOUR], ids=["ahead", "behind"])
async def test_an_engine_whose_clock_is_wrong_works_and_the_next_one_waits_for_nothing(
    tmp_path: Path, dsn: str, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    line = Line(tmp_path, dsn, ["dev"])
    async with line.clusters_running():
        repository = Repository(line.git / "web.git")
        repository.commit({"app/config.yaml": CONFIG.format(value=1)})
        namespace = tmp_path / "namespace.yaml"
        namespace.write_text("{apiVersion: v1, kind: Namespace, metadata: {name: later}}")
        shifted(monkeypatch, seconds)
        async with line.engine():
            source = {"repository": "web", "path": "app"}
            spec = {"source": source, "targets": {"clusters": ["dev"]}}
            url = {"url": repository.url, "interval": "1s"}
            await line.declare(
                {"kind": "Repository", "metadata": {"name": "web"}, "spec": url},
                line.cluster("dev"),
                {"kind": "Application", "metadata": {"name": "web"}, "spec": spec},
            )
            # Its namespace is not there: it fails, waits by its own clock, and fails again.
            failed = await until_failed(line, 2)
            for event in failed:
                assert abs(seconds_of(event["recordedAt"]) - time.time()) < SLACK
                off = seconds_of(event["occurredAt"]) - seconds_of(event["recordedAt"])
                assert abs(off - seconds) < SLACK
            # A time means the database's: it is that of `recordedAt`.
            last = failed[-1]
            then = await line.call("GET", f"/v1/targets/default/web@dev?at={last['recordedAt']}")
            assert then["status"]["sync"] == "failed"
        shifted(monkeypatch, 0)
        async with line.engine():
            # The one before said when to try again by a clock that was wrong.
            events = await line.events(type="CorrectionFailed")
            await until_failed(line, len(events))
            await line.kubectl("dev", "create", "-f", str(namespace))
            await line.synced("web@dev")
            events = await line.events()
    recorded = [event["recordedAt"] for event in events]
    assert recorded == sorted(recorded)
    assert [event["position"] for event in events] == list(range(1, len(events) + 1))
    assert datetime.now(UTC).timestamp() - seconds_of(recorded[-1]) < SLACK
