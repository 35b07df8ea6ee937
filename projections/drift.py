"""The drift of each target: the case that is open, and how the last one ended.

Pure.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from events.catalog import DriftDetected, DriftResolved, Fact
from events.event import Event
from events.vocabulary import Difference
from projections.fold import StreamFold, names


class DriftCase(Struct, frozen=True, omit_defaults=True):
    """A difference of a target that no commit explained. `ended` is 0 while it is open."""

    case: str
    opened: int
    opened_at: int
    differences: tuple[Difference, ...]
    omitted: int = 0
    ended: int = 0
    ended_at: int = 0
    how: str = ""
    correction: int = 0


class DriftDocument(Struct, frozen=True, omit_defaults=True):
    """The drift of one target. `cases` counts all that were ever opened."""

    open: DriftCase | None = None
    last: DriftCase | None = None
    cases: int = 0


class DriftView(StreamFold[DriftDocument]):
    """Drift by target stream; indexed by whether a case is open ("open")."""

    name = "drift"
    document = DriftDocument
    types = names((DriftDetected, DriftResolved))
    kinds = ("target",)
    indexes: tuple[str, ...] = ("state",)

    def apply(
        self, key: str, document: DriftDocument | None, event: Event, fact: Fact
    ) -> DriftDocument | None:
        """Fold one event."""
        known = document or DriftDocument()
        match fact:
            case DriftDetected():
                case, cases = known.open, known.cases
                if case is None or case.case != fact.case:
                    case = DriftCase(fact.case, event.position, event.recorded_at, ())
                    cases += 1
                case = replace(case, differences=fact.differences, omitted=fact.omitted)
                return replace(known, open=case, cases=cases)
            case DriftResolved() if known.open:
                ended = replace(
                    known.open,
                    ended=event.position,
                    ended_at=event.recorded_at,
                    how=fact.how,
                    correction=fact.correction,
                )
                return replace(known, open=None, last=ended)
        return document

    def index(self, document: DriftDocument) -> tuple[str | None, ...]:
        """Whether a case is open."""
        return ("open" if document.open else None,)


DRIFT = DriftView()
