"""The view of targets, which is what a target's stream is appended to by."""

from __future__ import annotations

import pytest

from engine.replay import DECIDED
from events.catalog import HookEnded
from events.vocabulary import ObjectRef
from projections.targets import TARGETS
from tests.deciding import NOW, TARGET, event


@pytest.mark.parametrize("fact", DECIDED, ids=lambda fact: fact.__name__)
def test_everything_that_is_decided_moves_a_target_on(fact: type) -> None:
    """Else whoever decides next expects a version that the stream has left, again and again."""
    assert fact.__name__ in TARGETS.types


def test_a_fact_that_changes_nothing_else_still_counts() -> None:
    ended = HookEnded(ObjectRef("batch/v1", "Job", "shop", "alarm"), "sync-fail", 3, True)
    document = TARGETS.apply(TARGET.stream, None, event(ended, TARGET.stream, 9, 5, NOW), ended)
    assert document is not None
    assert (document.version, document.position) == (5, 9)
