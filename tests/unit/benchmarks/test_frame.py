"""The frame of the benchmarks: how they are chosen, and what a figure looks like."""

from __future__ import annotations

import json

import pytest

from benchmarks.__main__ import BadWords, chosen, main, names, options_of
from benchmarks.frame import Figure, alternate, percentile

pytestmark = pytest.mark.anyio


def test_a_figure_is_one_json_object_with_its_ratio() -> None:
    figure = Figure("append.bulk", 50_123.4, "events/s", 100_000.0, {"size": 1024})
    assert json.loads(figure.line()) == {
        "name": "append.bulk",
        "value": 50_123,
        "unit": "events/s",
        "ceiling": 100_000,
        "ratio": 0.5012,
        "params": {"size": 1024},
    }


def test_a_figure_without_a_ceiling_has_no_ratio() -> None:
    assert json.loads(Figure("idle.memory", 123.456, "MB").line())["ratio"] is None


async def test_subject_and_ceiling_are_measured_in_turn_and_the_first_changes() -> None:
    order: list[str] = []

    async def ours() -> float:
        order.append("ours")
        return float(len(order))

    async def bare() -> float:
        order.append("bare")
        return 10.0

    assert await alternate(ours, bare, rounds=3) == (3.0, 10.0)
    assert order == ["bare", "ours", "ours", "bare", "bare", "ours"]


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(1, 101)]
    assert percentile(values, 0.5) == 50.0
    assert percentile(values, 0.95) == 95.0
    assert percentile([7.0], 0.99) == 7.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_every_benchmark_says_what_it_measures_and_has_options_with_defaults() -> None:
    for name in names():
        module = __import__(f"benchmarks.{name}", fromlist=["figures"])
        assert module.__doc__, name
        assert options_of(name, {}) == {}


def test_an_unknown_benchmark_or_option_is_refused_by_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(BadWords, match="no benchmark 'nonsense'; there are"):
        chosen(["nonsense"])
    assert main(["nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err
