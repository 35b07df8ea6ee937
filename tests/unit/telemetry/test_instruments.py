"""The list of instruments, and that measuring costs and changes nothing while nobody looks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.setting_exports import Exports
from engine.telemetry import instruments
from engine.telemetry.instruments import ALL, OPTIONAL, Breakdown, Histogram, broken_down, markdown
from engine.telemetry.lag import Lag
from engine.telemetry.sdk import telemetry
from tests.fakes import ManualClock

pytestmark = pytest.mark.anyio
DOCS = Path(__file__).parents[3] / "docs" / "telemetry.md"


@pytest.fixture
def breakdown() -> Iterator[None]:
    yield
    Breakdown.cluster = Breakdown.application = False


def test_docs_have_every_instrument() -> None:
    assert markdown() in DOCS.read_text("utf-8")


def test_names_are_given_once_and_as_the_conventions_have_it() -> None:
    names = [made.name for made in ALL]
    assert len(set(names)) == len(names)
    for made in ALL:
        assert made.name.split(".")[0] in ("trueup", "process", "http")
        assert made.about.endswith(".")
        assert made.unit in ("s", "By", "1") or made.unit.strip("{}").isalpha()
        if isinstance(made, Histogram):
            assert list(made.buckets) == sorted(made.buckets)


def test_clusters_and_applications_are_labels_only_where_asked(breakdown: None) -> None:
    assert broken_down("prod", "default/shop") == {}
    Breakdown.cluster = True
    assert broken_down("prod", "default/shop") == {"k8s.cluster.name": "prod"}
    Breakdown.application = True
    assert set(broken_down("prod", "default/shop")) == OPTIONAL


async def test_nothing_is_recorded_before_the_start_and_after_the_end() -> None:
    histogram = instruments.QUEUE_WAIT
    histogram.record(1.0)
    async with telemetry(Exports(pull=True), "1", "here") as told:
        histogram.record(2.0)
        page = told.page("")[0].decode()
        assert "trueup_queue_wait_seconds_sum 2.0" in page
        assert 'service_name="trueup"' in page
    histogram.record(3.0)
    async with telemetry(Exports(pull=True), "1", "here") as told:
        assert "trueup_queue_wait_seconds_sum" not in told.page("")[0].decode()


async def test_the_lag_is_that_of_the_oldest_event_that_is_not_folded() -> None:
    clock, folded = ManualClock(), [0]
    lag = Lag(clock.monotonic)
    lag.tell(lambda: folded[0])
    lag.appended(3)
    await clock.advance(1)
    lag.appended(5)
    await clock.advance(2)
    assert (lag.head, lag.events, lag.age) == (5, 5, 3.0)
    folded[0] = 3
    assert (lag.events, lag.age) == (2, 2.0)
    folded[0] = 7  # somebody else appended, too
    assert (lag.head, lag.events, lag.age) == (7, 0, 0.0)


async def test_the_lag_remembers_no_more_than_it_must() -> None:
    clock = ManualClock()
    lag = Lag(clock.monotonic)
    for position in range(1, 5001):
        lag.appended(position)
        await clock.advance(1)
    assert len(lag._marks) <= 4096
    assert lag.age == 5000
