"""How long is waited after failures."""

from __future__ import annotations

from engine.clusters.backoff import Backoff
from engine.clusters.settings import ClusterSettings
from tests.fakes import ManualClock

SETTINGS = ClusterSettings(backoff_first=0.5, backoff_most=60.0)


def test_waits_double_up_to_the_most_and_begin_anew_after_a_success() -> None:
    backoff = Backoff(ManualClock(), SETTINGS)
    waits = [backoff.next() for _ in range(12)]
    for number, wait in enumerate(waits):
        due = min(0.5 * 2**number, 60.0)
        assert due / 2 <= wait <= due
    backoff.reset()
    assert backoff.next() <= 0.5


def test_who_is_asked_to_come_back_in_a_second_does_not_stay_away_for_a_minute() -> None:
    """As a server asks while it makes the storage of a new kind ready."""
    backoff = Backoff(ManualClock(), SETTINGS)
    waits = [backoff.next(asked=1.0) for _ in range(12)]
    assert all(1.0 <= wait <= 5.0 for wait in waits)
    assert Backoff(ManualClock(), SETTINGS).next(asked=300.0) >= 300.0
