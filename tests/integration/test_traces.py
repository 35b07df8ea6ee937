"""Traces, as a receiver of OTLP gets them from a real engine: a commit followed by links alone."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from engine.cli.demo_repository import DemoRepository
from tests.line import Line
from tests.notifying import SECRET
from tests.notifying import receiving as alerted
from tests.receiving import Receiver, Span, receiving

pytestmark = pytest.mark.anyio
CLUSTERS = ["north", "south", "west"]
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def receiver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        yield receiver


class Shop(Line):
    """A line with the demo's repository, and one application that goes to three clusters."""

    def __init__(self, folder: Path, dsn: str) -> None:
        super().__init__(folder, dsn, CLUSTERS)
        self.repository = DemoRepository(self.git / "shop.git")


@pytest.fixture
async def line(tmp_path: Path, dsn: str) -> AsyncIterator[Shop]:
    line = Shop(tmp_path, dsn)
    async with line.clusters_running():
        yield line


async def declare(line: Shop, headers: dict[str, str] | None = None) -> None:
    resources: list[dict[str, Any]] = [
        {
            "kind": "Repository",
            "metadata": {"name": "shop"},
            "spec": {"url": line.repository.url, "interval": "1s"},
        },
        *(line.cluster(name, environment=f"env-{name}") for name in CLUSTERS),
        {
            "kind": "Application",
            "metadata": {"name": "shop"},
            "spec": {
                "source": {"repository": "shop", "path": "overlays/north"},
                "targets": {"clusters": CLUSTERS},
            },
        },
    ]
    body = [{"apiVersion": "trueup.dev/v1", **resource} for resource in resources]
    async with line.session.post("/v1/resources", json=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()


async def healthy(line: Shop, revision: str) -> None:
    for name in CLUSTERS:
        for state in ("synced", "healthy"):
            query = f"subject=shop@{name}&for={state}&timeout=60&revision={revision}"
            await line.call("GET", f"/v1/wait?{query}")


HANG = {"action": "hang", "verbs": ["patch"]}
DEED = re.compile("(apply|delete) [A-Z][A-Za-z]*")
"""A request of a correction: an action and a kind."""


def documented() -> dict[str, set[str]]:
    """Every trace that the docs list, with the names of the spans in it."""
    text = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.MULTILINE)
    return {name: {name, *re.findall(r"`(\w+)`", spans)} for name, spans in rows}


def linked(receiver: Receiver, name: str, trace: str, **attributes: Any) -> list[Span]:
    """Root spans of a name that link to a trace."""
    return [
        span
        for span in receiver.named(name, **attributes)
        if not span.parent and trace in {link.trace for link in span.links}
    ]


async def test_a_commit_is_followed_to_three_clusters_by_links_alone(
    line: Shop, receiver: Receiver
) -> None:
    line.repository.start(CLUSTERS)
    async with line.engine():
        await declare(line)
        await healthy(line, "")
        commit = line.repository.new_image()
        await healthy(line, commit)
        events = await line.events()
    # The engine has stopped, and sent what was left.
    written = {event["position"]: event for event in events}

    (seen,) = [s for s in receiver.named("append") if _is_of(written, s, "CommitSeen", commit)]
    fetch = receiver.named("fetch", vcs__ref__head__revision=commit)
    assert [span.trace for span in fetch].count(seen.trace) == 1

    (resolve,) = linked(receiver, "resolve", seen.trace)
    assert resolve.attributes["vcs.ref.head.revision"] == commit
    (render,) = receiver.inside(resolve.trace, "render")
    assert render.parent == resolve.id
    assert render.attributes["trueup.objects"] > 0

    for name in CLUSTERS:
        attempts = linked(receiver, "reconcile", resolve.trace, k8s__cluster__name=name)
        (applied,) = [s for s in attempts if s.attributes["trueup.outcome"] == "applied"]
        assert applied.attributes["vcs.ref.head.revision"] == commit
        assert applied.attributes["deployment.environment.name"] == f"env-{name}"
        inside = {span.name for span in receiver.inside(applied.trace)}
        assert {"wait", "observe", "diff", "decide", "correct", "apply", "append"} <= inside
        (deployed,) = receiver.inside(applied.trace, "apply Deployment")
        assert deployed.attributes["k8s.deployment.name"] == "shop"
        assert deployed.attributes["trueup.outcome"] == "changed"
        of_target = [applied, *linked(receiver, "reconcile", applied.trace)]
        (health,) = [
            span
            for attempt in of_target
            for span in receiver.inside(attempt.trace, "health")
            if span.attributes["trueup.health"] == "healthy"
        ]
        assert health.attributes["trueup.health.previous"] == "progressing"

    # Every kind of span that there was is in the docs, under the trace that it stands in.
    known = documented()
    roots = {span.trace: span.name for span in receiver.spans if not span.parent}
    assert {"fetch", "resolve", "assign", "reconcile", "list", "observe"} <= set(roots.values())
    for span in receiver.spans:
        if roots[span.trace] in known and not DEED.fullmatch(span.name):
            assert span.name in known[roots[span.trace]], span
    assert {name for name in roots.values() if name[:4] not in ("GET ", "POST")} <= set(known)


async def test_every_event_names_the_span_that_wrote_it(
    line: Shop, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "trueup.http")
    line.repository.start(CLUSTERS)
    async with line.engine():
        await declare(line, {"traceparent": TRACEPARENT})
        await healthy(line, "")
        events = await line.events()
    spans = {(span.trace, span.id): span for span in receiver.spans}
    for event in events:
        _, trace, span, _ = event["traceparent"].split("-")
        assert event["position"] in spans[trace, span].positions(event["type"]), event
    declared = [event for event in events if event["type"] == "Declared"]
    assert {event["traceparent"].split("-")[1] for event in declared} == {TRACEPARENT.split("-")[1]}
    (post,) = receiver.named("POST /v1/resources")
    assert post.parent == TRACEPARENT.split("-")[2]
    assert post.attributes["http.response.status_code"] == 200
    (logged,) = [r for r in caplog.records if getattr(r, "path", "") == "/v1/resources"]
    assert vars(logged)["trace_id"] == post.trace
    assert vars(logged)["span_id"] == post.id
    assert post.resource["service.name"] == "trueup"
    assert post.resource["deployment.environment.name"] == "test"


async def test_a_notification_is_traced_back_to_what_it_tells_of(
    line: Shop, receiver: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "ops").write_text(SECRET)
    line.settings = {"secret_roots": (tmp_path,), "notification_hosts": ("127.0.0.1",)}
    line.repository.start(CLUSTERS)
    async with alerted() as told, line.engine():
        await declare(line)
        hook = {"url": told.url, "secretFile": str(tmp_path / "ops")}
        await line.declare(
            {"kind": "Notification", "metadata": {"name": "ops"}, "spec": {"webhook": hook}}
        )
        await healthy(line, "")
        await line.kubectl("north", "-n", "shop", "scale", "deploy/shop", "--replicas=9")
        await line.until("NotificationDelivered")
        (drift,) = await line.events(type="DriftDetected")
    told_of = linked(receiver, "notify", drift["traceparent"].split("-")[1])
    assert "default/ops" in {span.attributes["trueup.notification"] for span in told_of}
    assert SECRET.encode() not in b"".join(receiver.raw)


async def test_what_was_cut_off_is_linked_across_a_restart(line: Shop, receiver: Receiver) -> None:
    line.repository.start(CLUSTERS)
    async with line.engine():
        await declare(line)
        await healthy(line, "")
        for name in CLUSTERS:  # requests to it hang from now on
            await line.simulated(name, "POST", "faults", HANG)
        line.repository.new_image()
        planned = (await line.until("CorrectionPlanned", 4))[-1]
    for name in CLUSTERS:
        await line.simulated(name, "DELETE", "faults")
    async with line.engine():
        await line.until("CorrectionAbandoned")
        await line.synced(planned["stream"].rpartition("/")[2])
    first = planned["traceparent"].split("-")[1]
    after = linked(receiver, "reconcile", first)
    assert {"correction"} <= {link.attributes["trueup.link"] for s in after for link in s.links}


async def test_no_secret_goes_into_a_trace(line: Shop, receiver: Receiver) -> None:
    line.repository.start(CLUSTERS)
    async with line.engine():
        await declare(line)
        await healthy(line, "")
        live = await line.kubectl(
            "north", "-n", "shop", "get", "secret", "shop", "-o", "jsonpath={.data.token}"
        )
        token = (line.folder / "data" / "token").read_text().strip()
    sent = b"".join(receiver.raw)
    assert b"apply Secret" in sent
    assert live
    assert live.encode() not in sent
    assert token.encode() not in sent


async def test_the_standard_variables_say_how_much_and_under_which_name(
    line: Shop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "trueup-north")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    line.repository.start(CLUSTERS)
    async with line.engine():
        await declare(line, {"traceparent": TRACEPARENT})
        await healthy(line, "")
        events = await line.events()
    # What a caller has recorded goes on being recorded; everything else is not, and says so.
    assert {span.trace for span in receiver.spans} == {TRACEPARENT.split("-")[1]}
    assert {span.resource["service.name"] for span in receiver.spans} == {"trueup-north"}
    others = [event["traceparent"] for event in events if event["type"] != "Declared"]
    assert others
    assert not any(int(traceparent[-2:], 16) & 1 for traceparent in others)


async def test_a_request_that_is_refused_is_no_part_of_a_strangers_trace(
    line: Shop, receiver: Receiver
) -> None:
    async with line.engine(), aiohttp.ClientSession() as stranger:
        headers = {"traceparent": TRACEPARENT}
        async with stranger.get(line.url + "/v1/version", headers=headers) as answer:
            assert answer.status == 401
    assert TRACEPARENT.split("-")[1] not in {span.trace for span in receiver.spans}


async def test_the_sdks_own_switch_turns_everything_off(
    line: Shop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    line.repository.start(CLUSTERS)
    async with line.engine():
        await declare(line, {"traceparent": TRACEPARENT})
        await healthy(line, "")
        events = await line.events()
    assert {event["traceparent"] for event in events} == {""}
    assert not receiver.raw


def _is_of(written: dict[int, Any], span: Span, kind: str, commit: str) -> bool:
    return any(
        written[position]["payload"]["commit"] == commit for position in span.positions(kind)
    )
