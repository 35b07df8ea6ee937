"""Dashboard and alerts, held to what a real engine that went through a small story exposes."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.objects.yaml import parse_documents
from engine.telemetry.instruments import ALL, exposed
from tests.integration.test_line import Shop
from tests.promql import Expression, Malformed, read

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy" / "grafana" / "trueup.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
GIVEN = frozenset({"job", "instance"})
"""Labels that Prometheus adds to every series that it fetches."""
CLOSED = frozenset(
    {"trueup_target_state", "trueup_health", "trueup_cluster_state", "trueup_outcome"}
)
"""Labels all of whose values are there from the start."""


def dashboard() -> dict[str, Any]:
    return dict(json.loads(DASHBOARD.read_text("utf-8")))


def rules() -> list[dict[str, Any]]:
    # By the gate that manifests pass, too: no alias bombs, no duplicate keys.
    (document,) = parse_documents(ALERTS.read_bytes())
    return [rule for group in document.value["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression, with where it stands."""
    for rule in rules():
        yield f"alert {rule['alert']}", rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield f"panel {panel['title']}", target["expr"]
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", variable["query"].rpartition(",")[0] + ")"


async def seen(line: Shop) -> dict[str, list[dict[str, str]]]:
    """Every series that an engine exposes after a story, by name, with its labels."""
    async with line.session.get("/metrics") as answer:
        text = await answer.text()
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


@pytest.fixture
async def line(tmp_path: Path, dsn: str) -> AsyncIterator[Shop]:
    line = Shop(tmp_path, dsn)
    async with line.clusters_running():
        yield line


async def test_every_expression_is_about_series_that_there_are(line: Shop) -> None:
    line.repository.start(["dev", "prod"])
    async with line.engine():
        await line.declare_shop()
        missing = {"url": f"file://{line.git}/missing.git", "interval": "1s"}
        await line.declare({"kind": "Repository", "metadata": {"name": "none"}, "spec": missing})
        for name in ("dev", "prod"):
            await line.synced(f"shop-{name}@{name}", line.repository.new_image())
            await line.call("GET", f"/v1/wait?subject=shop-{name}@{name}&for=healthy&timeout=30")
        await line.kubectl("prod", "-n", "shop", "scale", "deploy/shop", "--replicas=9")
        await line.until("DriftResolved")
        await line.until("SourceFailed")
        found = await seen(line)
        with anyio.fail_after(10):
            while not any("error_type" in s for s in found[FETCHES]):
                found = await seen(line)
    made = {name: instrument for instrument in ALL for name in instrument.series}
    for place, text in expressions():
        expression = read(text)
        assert expression.series, place
        for series in expression.series:
            assert series.name in found, f"{place}: there is no {series.name}"
            labels = {label for sample in found[series.name] for label in sample} | GIVEN
            # Some labels come with a failure that the story does not have.
            labels |= {exposed(label) for label in made[series.name].labels}
            for label, (sign, value) in series.matchers.items():
                assert label in labels, f"{place}: {series.name} has no label {label}"
                if label in CLOSED and sign == "=":
                    values = {sample.get(label) for sample in found[series.name]}
                    assert value in values, f"{place}: {label} is never {value}"
        own = {exposed(label) for series in expression.series for label in made[series.name].labels}
        assert expression.groups <= own | GIVEN | {"le"}, place


FETCHES = "trueup_source_fetch_duration_seconds_count"


def test_every_alert_says_what_it_means_and_what_to_do() -> None:
    text = (ROOT / "docs" / "alerts.md").read_text("utf-8")
    headings = re.findall(r"^## (\w+)$", text, re.MULTILINE)
    names = [rule["alert"] for rule in rules()]
    assert sorted(names) == sorted(headings)
    assert len(set(names)) == len(names)
    for rule in rules():
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        notes = rule["annotations"]
        assert notes["summary"]
        assert notes["description"]
        assert notes["runbook_url"] == f"docs/alerts.md#{rule['alert'].lower()}"
        named = set(re.findall(r"\$labels\.(\w+)", notes["summary"] + notes["description"]))
        assert named <= read(rule["expr"]).groups


def test_the_dashboard_is_one_that_grafana_can_lay_out() -> None:
    everything = dashboard()["panels"]
    ids = [panel["id"] for panel in everything]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in everything:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    variables = {variable["name"] for variable in dashboard()["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", DASHBOARD.read_text("utf-8")))
    assert used - {"__rate_interval"} == variables


def test_every_instrument_but_few_is_shown_or_watched() -> None:
    named = {series.name for _, text in expressions() for series in read(text).series}
    unseen = [made.name for made in ALL if not named & set(made.series)]
    assert unseen == []


@pytest.mark.parametrize(
    "text", ["sum(a", "a)", "a{b}", 'a{b="c" d="e"}', "rate a", "sum by (b c) (a)", "a ! b", "a{b="]
)
def test_an_expression_that_is_none_is_found_out(text: str) -> None:
    with pytest.raises(Malformed):
        read(text)


def test_an_expression_is_read_as_prometheus_does() -> None:
    text = 'sum by (le, b) (rate(x_bucket{a="1,}", c=~"2"}[5m])) / on (d) max(y offset 5m) > 1e3'
    found: Expression = read(text)
    assert [series.name for series in found.series] == ["x_bucket", "y"]
    assert found.series[0].matchers == {"a": ("=", "1,}"), "c": ("=~", "2")}
    assert found.groups == {"le", "b", "d"}
