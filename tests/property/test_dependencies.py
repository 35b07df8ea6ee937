"""A circle of dependencies is found wherever there is one, and nowhere else."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from engine.decide.dependencies import cycle_from

GRAPHS = st.dictionaries(
    st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdefg"), max_size=3), max_size=6
)


@given(GRAPHS)
def test_a_circle_is_told_as_a_way_round(graph: dict[str, list[str]]) -> None:
    ways = {name: cycle_from(name, graph) for name in graph}
    for name, way in ways.items():
        if way:
            assert way[0] == way[-1] == name
            assert all(other in graph[one] for one, other in pairwise(way))
            assert len(set(way)) == len(way) - 1
    try:
        TopologicalSorter(graph).prepare()
    except CycleError:
        assert any(ways.values())
    else:
        assert not any(ways.values())
