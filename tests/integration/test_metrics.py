"""Metrics, as Prometheus gets them from a real engine after a small story, and as OTLP does."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import anyio
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from engine.compose import serve
from engine.settings import load
from engine.telemetry.instruments import ALL, OPTIONAL, Counter, Gauge, Histogram, exposed
from projections.lease import hold
from tests.integration.test_line import Shop
from tests.keeping import pool_of
from tests.receiving import receiving

pytestmark = pytest.mark.anyio


@pytest.fixture
async def line(tmp_path: Path, dsn: str) -> AsyncIterator[Shop]:
    line = Shop(tmp_path, dsn)
    async with line.clusters_running():
        yield line


async def scrape(line: Shop) -> dict[str, Metric]:
    async with line.session.get("/metrics") as answer:
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        return {
            family.name: family for family in text_string_to_metric_families(await answer.text())
        }


async def story(line: Shop) -> None:
    """A first sync, a commit, a live edit that is put right."""
    await line.declare_shop()
    for name in ("dev", "prod"):
        await line.synced(f"shop-{name}@{name}")
    commit = line.repository.new_image()
    for name in ("dev", "prod"):
        await line.synced(f"shop-{name}@{name}", commit)
        await line.call("GET", f"/v1/wait?subject=shop-{name}@{name}&for=healthy&timeout=30")
    await line.kubectl("prod", "-n", "shop", "scale", "deploy/shop", "--replicas=9")
    await line.until("DriftResolved")


async def test_every_instrument_has_a_series_after_a_small_story(line: Shop) -> None:
    line.repository.start(["dev", "prod"])
    async with line.engine():
        await story(line)
        families = await scrape(line)
        head = (await line.call("GET", "/v1/version"))["position"]
    missing = [made.name for made in ALL if made.exposed not in families]
    assert missing == []
    for made in ALL:
        family = families.get(made.exposed)
        if family is None:
            continue
        kind = {Histogram: "histogram", Counter: "counter", Gauge: "gauge"}[type(made)]
        assert family.type == ("counter" if isinstance(made, Gauge) and made.grows else kind)
        own = {exposed(label) for label in made.labels if label not in OPTIONAL} | {"le"}
        for sample in family.samples:
            assert set(sample.labels) <= own, sample
    unknown = set(families) - {made.exposed for made in ALL} - {"target_info"}
    assert not unknown

    def value(name: str, **labels: str) -> float:
        (found,) = [
            sample.value
            for family in families.values()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return found

    assert value("trueup_commit_to_synced_seconds_count") == 4
    assert value("trueup_correction_latency_seconds_count") == 1
    assert value("trueup_drift_open") == 0
    assert value("trueup_clusters", trueup_cluster_state="connected") == 2
    assert value("trueup_targets", trueup_target_state="synced") == 2
    assert value("trueup_targets", trueup_target_state="failed") == 0
    assert value("trueup_projection_parked") == 0
    assert value("trueup_engine_leading") == 1
    assert value("trueup_observation_age_seconds") < 60
    assert 10e6 < value("process_memory_usage_bytes") < 10e9
    assert value("trueup_log_position_total") <= head
    faults = families["trueup_faults"].samples
    assert {sample.value for sample in faults} == {0.0}
    drift = {"trueup_outcome": "applied", "trueup_cause": "drift"}
    assert value("trueup_corrections_total", **drift) == 1


async def test_metrics_need_a_token_unless_they_have_an_address_of_their_own(line: Shop) -> None:
    line.repository.start(["dev", "prod"])
    port = free_port()
    own = f"http://127.0.0.1:{port}"
    line.settings = {"metrics_listen": f"127.0.0.1:{port}"}
    async with line.engine(), aiohttp.ClientSession() as stranger:
        async with stranger.get(line.url + "/metrics") as answer:
            assert answer.status == 401
        async with stranger.get(own + "/metrics") as answer:
            assert answer.status == 200
            assert "trueup_engine_leading 1.0" in await answer.text()
        async with stranger.get(own + "/healthz") as answer:
            assert answer.status == 200
        async with stranger.get(own + "/v1/targets") as answer:
            assert answer.status == 404
        async with stranger.get(own + "/metrics", headers={"Host": "evil.example"}) as answer:
            assert answer.status == 421


async def test_a_standby_says_that_it_does_not_lead(line: Shop) -> None:
    port = free_port()
    settings = load(
        {
            "database_url": line.dsn,
            "data_dir": line.folder / "data",
            "listen": "127.0.0.1:0",
            "allow_unconfined": True,
            "metrics_listen": f"127.0.0.1:{port}",
        },
        environ={},
    )
    async with (
        pool_of(line.dsn) as pool,
        hold(pool, "engine", "another", 60),
        anyio.create_task_group() as group,
        aiohttp.ClientSession() as session,
    ):
        group.start_soon(serve, settings)
        page = ""
        with anyio.fail_after(30):
            while "trueup_engine_leading" not in page:
                with suppress(aiohttp.ClientConnectionError):
                    async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                        page = await answer.text()
                await anyio.sleep(0.02)
        assert "trueup_engine_leading 0.0" in page
        assert "process_memory_usage_bytes" in page
        assert "trueup_targets" not in page
        group.cancel_scope.cancel()


async def test_clusters_and_applications_are_named_where_that_is_asked_for(line: Shop) -> None:
    line.repository.start(["dev", "prod"])
    line.settings = {"metrics_labels": ("cluster", "application")}
    async with line.engine():
        await line.declare_shop()
        for name in ("dev", "prod"):
            await line.synced(f"shop-{name}@{name}")
        families = await scrape(line)
    named = {
        (sample.labels.get("k8s_cluster_name"), sample.labels.get("trueup_application"))
        for sample in families["trueup_reconcile_duration_seconds"].samples
    }
    assert named == {("dev", "default/shop-dev"), ("prod", "default/shop-prod")}
    ages = {
        s.labels["k8s_cluster_name"] for s in families["trueup_observation_age_seconds"].samples
    }
    assert ages == {"dev", "prod"}


async def test_metrics_are_sent_over_otlp_and_not_fetched_where_so_asked(
    line: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.repository.start(["dev", "prod"])
    async with receiving() as receiver:
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", receiver.url + "/v1/metrics")
        async with line.engine():
            await line.declare_shop()
            await line.synced("shop-prod@prod")
            async with line.session.get("/metrics") as answer:
                assert answer.status == 404
        # The engine has stopped, and sent what was left.
        assert {"trueup.reconcile.duration", "trueup.log.append.duration"} <= receiver.metrics
        assert not receiver.spans


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
