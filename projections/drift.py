"""The drift of each target: the case that is open, what is accepted, and who keeps overwriting us.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from events.catalog import (
    AcceptanceEnded,
    CorrectionAbandoned,
    CorrectionApplied,
    CorrectionFailed,
    CorrectionPlanned,
    DriftAccepted,
    DriftDetected,
    DriftResolved,
    Fact,
    SyncRequested,
)
from events.event import Event
from events.vocabulary import Difference, Result
from projections.fold import StreamFold, names

SECOND = 1_000_000
WAR_ROUNDS = 5
"""How often in a row a field is put right before the other side counts as at war with us."""
_QUICK = 60 * SECOND
"""How soon after a correction a field has to be overwritten to count as an answer to it."""
_FIRST_WAIT, _LONGEST_WAIT = 10 * SECOND, 3600 * SECOND
_FIGHTS = 100
_ACCEPTANCES = 50


def wait_after(rounds: int) -> int:
    """Return how long (in microseconds) a field is left alone that was put right so often."""
    if rounds < WAR_ROUNDS:
        return 0
    return int(min(_FIRST_WAIT * 2 ** min(rounds - WAR_ROUNDS, 20), _LONGEST_WAIT))


def calm_after(rounds: int) -> int:
    """Return after how long (in microseconds) without a new change a fight counts as over."""
    return _QUICK + 2 * wait_after(rounds)


class DriftCase(Struct, frozen=True, omit_defaults=True):
    """A difference of a target that no commit explained. `ended` is 0 while it is open.

    `began` has, by identity, when an object first differed in this case (microseconds).
    """

    case: str
    opened: int
    opened_at: int
    differences: tuple[Difference, ...]
    omitted: int = 0
    ended: int = 0
    ended_at: int = 0
    how: str = ""
    correction: int = 0
    began: dict[str, int] = {}


class Fight(Struct, frozen=True, omit_defaults=True):
    """A field that is put right again and again. `manager` is "" where nobody is on record."""

    identity: str
    path: str
    manager: str
    rounds: int
    began_at: int
    last_at: int

    def is_over(self, now: int) -> bool:
        """Whether the other side has been quiet for long enough."""
        return now - self.last_at > calm_after(self.rounds)


class Acceptance(Struct, frozen=True, omit_defaults=True):
    """Differences that a person accepted, just as they were. `until` 0: for as long as it takes."""

    case: str
    differences: tuple[Difference, ...]
    position: int
    actor: str
    reason: str
    at: int
    until: int = 0

    def holds(self, now: int) -> bool:
        """Whether it has not run out."""
        return not 0 < self.until <= now


class DriftDocument(Struct, frozen=True, omit_defaults=True):
    """The drift of one target. `cases` counts all that were ever opened.

    `repairing` has the identities of the objects that are being put right.
    """

    open: DriftCase | None = None
    last: DriftCase | None = None
    cases: int = 0
    accepted: tuple[Acceptance, ...] = ()
    fights: tuple[Fight, ...] = ()
    repairing: tuple[str, ...] = ()


class DriftView(StreamFold[DriftDocument]):
    """Drift by target stream; indexed by whether a case is open ("open")."""

    name = "drift"
    version = 2
    document = DriftDocument
    types = names(
        (
            DriftDetected,
            DriftResolved,
            DriftAccepted,
            AcceptanceEnded,
            SyncRequested,
            CorrectionPlanned,
            CorrectionApplied,
            CorrectionFailed,
            CorrectionAbandoned,
        )
    )
    kinds = ("target",)
    indexes: tuple[str, ...] = ("state",)

    def apply(
        self, key: str, document: DriftDocument | None, event: Event, fact: Fact
    ) -> DriftDocument | None:
        """Fold one event."""
        known = document or DriftDocument()
        match fact:
            case DriftDetected():
                return _grown(known, event, fact)
            case DriftResolved() if known.open:
                ended = replace(
                    known.open,
                    ended=event.position,
                    ended_at=event.recorded_at,
                    how=fact.how,
                    correction=fact.correction,
                )
                return replace(known, open=None, last=ended)
            case DriftAccepted():
                accepted = Acceptance(
                    fact.case,
                    fact.differences,
                    event.position,
                    event.actor,
                    fact.reason,
                    event.recorded_at,
                    fact.until,
                )
                held = [each for each in known.accepted if each.holds(event.recorded_at)]
                return replace(known, accepted=(*held, accepted)[-_ACCEPTANCES:])
            case AcceptanceEnded() if known.accepted:
                return replace(known, accepted=())
            case SyncRequested() if known.fights:
                # A person said so: whoever fights is met afresh.
                return replace(known, fights=())
            case CorrectionPlanned() if known.open:
                if not fact.drift_case:
                    return document
                named = tuple(action.ref.identity for action in fact.actions)
                return replace(known, repairing=named)
            case CorrectionApplied() | CorrectionFailed() if known.repairing:
                return _fought(known, event, fact.results)
            case CorrectionAbandoned() if known.repairing:
                return replace(known, repairing=())
        return document

    def index(self, document: DriftDocument) -> tuple[str | None, ...]:
        """Whether a case is open."""
        return ("open" if document.open else None,)


def _grown(known: DriftDocument, event: Event, fact: DriftDetected) -> DriftDocument:
    case, cases = known.open, known.cases
    if case is None or case.case != fact.case:
        case = DriftCase(fact.case, event.position, event.recorded_at, ())
        cases += 1
    # The engine's own time, which is what it decides by.
    began = {
        difference.ref.identity: case.began.get(difference.ref.identity, event.occurred_at)
        for difference in fact.differences
    }
    case = replace(case, differences=fact.differences, omitted=fact.omitted, began=began)
    return replace(known, open=case, cases=cases)


def _fought(known: DriftDocument, event: Event, results: Sequence[Result]) -> DriftDocument:
    """Count the fields that were put right."""
    now = event.recorded_at
    righted = {result.ref.identity for result in results if result.outcome.is_success}
    righted &= set(known.repairing)
    fights = {
        (fight.identity, fight.path, fight.manager): fight
        for fight in known.fights
        if not fight.is_over(now)
    }
    for difference in known.open.differences if known.open else ():
        identity = difference.ref.identity
        if identity not in righted:
            continue
        key = (identity, difference.path, difference.manager)
        fight = fights.pop(key, Fight(*key, rounds=0, began_at=now, last_at=now))
        fights[key] = replace(fight, rounds=fight.rounds + 1, last_at=now)
    return replace(known, repairing=(), fights=tuple(fights.values())[-_FIGHTS:])


DRIFT = DriftView()
