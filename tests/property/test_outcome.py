"""What results come to, and when a failed correction is tried again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.decide.outcome import Backoff, conclude
from events.catalog import CorrectionApplied, CorrectionFailed
from events.vocabulary import ObjectRef, Outcome, Result, Verb

REF = ObjectRef("v1", "ConfigMap", "default", "c")


def results(outcomes: list[Outcome]) -> list[Result]:
    return [Result(Verb.APPLY, REF, outcome, message=str(outcome)) for outcome in outcomes]


@given(st.lists(st.sampled_from(Outcome), min_size=1), st.integers(1, 50), st.floats(0, 0.999))
def test_a_plan_is_applied_only_when_every_action_came_to_its_end(
    outcomes: list[Outcome], attempt: int, chance: float
) -> None:
    now = 1_000_000_000
    fact = conclude(7, attempt, results(outcomes), now=now, chance=chance, backoff=Backoff())
    assert fact.plan == 7
    if all(outcome.is_success for outcome in outcomes):
        assert isinstance(fact, CorrectionApplied)
    else:
        assert isinstance(fact, CorrectionFailed)
        assert fact.attempt == attempt
        assert fact.retry_at > now
        assert fact.code in {str(o) for o in outcomes if not o.is_success}


@given(st.integers(1, 200), st.floats(0, 0.999))
def test_back_off_grows_to_its_cap_and_never_beyond_its_jitter(attempt: int, chance: float) -> None:
    backoff = Backoff(base=1.0, cap=60.0)
    seconds = backoff.seconds(attempt, chance)
    assert 0.8 <= seconds <= 60.0 * 1.2
    if attempt >= 7:
        assert seconds >= 60.0 * 0.8


def test_a_server_that_says_when_to_come_back_is_obeyed() -> None:
    fact = conclude(
        1, 1, results([Outcome.FAILED]), now=0, chance=0.5, backoff=Backoff(), retry_after=30.0
    )
    assert isinstance(fact, CorrectionFailed)
    assert fact.retry_at == 30_000_000
