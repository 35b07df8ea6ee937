"""What the results of a plan come to: applied, or failed and when to try again. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from engine.objects.typed import OMITTED
from engine.resources.duration import seconds
from engine.resources.model import ApplicationSpec
from events.catalog import CorrectionApplied, CorrectionFailed
from events.vocabulary import Difference, DifferenceKind, Outcome, Result

_WORST = (
    Outcome.CONFLICT,
    Outcome.FORBIDDEN,
    Outcome.INVALID,
    Outcome.FAILED,
    Outcome.UNREACHABLE,
    Outcome.STALE,
    Outcome.SKIPPED,
)
"""The order in which failures name a correction: what needs a person comes first."""
_NAMED = 3
MUTATED_LISTED = 200
"""How many values that admission altered one outcome lists, since an event has its limits."""
STALE_RETRY = 0.2
"""Seconds before looking again at an object that moved on."""
STALE_BESIDE = 0.5
"""The same, of a repair made while a failed correction waits."""


class Backoff(Struct, frozen=True):
    """Exponential back-off: `base` seconds doubled for each attempt up to `cap`, ± 20 %."""

    base: float = 1.0
    cap: float = 300.0

    def seconds(self, attempt: int, chance: float) -> float:
        """Return how long to wait after the `attempt`-th failure; `chance` is in [0, 1)."""
        plain = min(self.cap, self.base * 2.0 ** min(attempt - 1, 32))
        return plain * (0.8 + 0.4 * chance)


def backoff_of(spec: ApplicationSpec | None, usual: Backoff) -> Backoff:
    """Return how an application's corrections back off: as it says, else as usual."""
    if spec is None:
        return usual
    retry = spec.sync.retry
    base = seconds(retry.base) if retry.base else usual.base
    cap = seconds(retry.cap) if retry.cap else usual.cap
    return Backoff(base, max(base, cap))


def conclude(
    plan: int,
    attempt: int,
    results: Sequence[Result],
    *,
    now: int,
    chance: float,
    backoff: Backoff,
    retry_after: float = 0.0,
) -> CorrectionApplied | CorrectionFailed:
    """Return the fact that ends the plan at position `plan`.

    `now` is in microseconds, `retry_after` in seconds as the server asked.
    """
    results = _fitting(results)
    failed = [result for result in results if not result.outcome.is_success]
    if not failed:
        return CorrectionApplied(plan, tuple(results), attempt)
    failed.sort(key=lambda result: (_WORST.index(result.outcome), result.ref))
    worst = failed[0].outcome
    if worst is Outcome.STALE:
        # A repair beside a failed correction counts no attempts (it is always 0).
        seconds = max(STALE_RETRY * attempt or STALE_BESIDE, retry_after)
    else:
        seconds = max(backoff.seconds(attempt, chance), retry_after)
    told = "; ".join(f"{result.ref}: {result.message}" for result in failed[:_NAMED])
    more = f" (and {len(failed) - _NAMED} more)" if len(failed) > _NAMED else ""
    return CorrectionFailed(
        plan=plan,
        results=tuple(results),
        code=str(worst),
        message=told + more,
        attempt=attempt,
        retry_at=now + int(seconds * 1_000_000),
    )


def _fitting(results: Sequence[Result]) -> tuple[Result, ...]:
    """Shorten the lists of what admission altered where all of them together are too long."""
    number = sum(bool(result.mutated) for result in results)
    if sum(len(result.mutated) for result in results) <= MUTATED_LISTED:
        return tuple(results)
    share = max(MUTATED_LISTED // number, 1)
    return tuple(
        replace(result, mutated=_shortened(result, share))
        if len(result.mutated) > share
        else result
        for result in results
    )


def _shortened(result: Result, share: int) -> tuple[Difference, ...]:
    over = {OMITTED: {"differences": len(result.mutated) - share + 1}}
    last = Difference(DifferenceKind.MUTATED, result.ref, after=over)
    return (*result.mutated[: share - 1], last)
