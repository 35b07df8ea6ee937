"""Every drift case there ever was: who, since when, how long, and what was done about it.

Pure. A case is folded from its own facts and from the corrections whose story it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from events.catalog import (
    CorrectionApplied,
    CorrectionFailed,
    DriftAccepted,
    DriftDetected,
    DriftResolved,
    Fact,
)
from events.event import Event
from events.vocabulary import Difference
from projections.fold import names, target_of
from projections.projection import SNAPSHOT_EVERY

_DIGITS = 9
_MANAGERS = 20


class CaseDocument(Struct, frozen=True, omit_defaults=True):
    """One case. `differences` are those that it had last; `ended` is 0 while it is open.

    `managers` are all that were on record as authors, `grown` how often it changed, `corrections`
    and `failures` what was tried. `accepted_by`, `reason` and `until` are of a person's
    acceptance; positions are those of the events, times microseconds.
    """

    case: str
    project: str
    application: str
    cluster: str
    opened: int
    opened_at: int
    differences: tuple[Difference, ...]
    omitted: int = 0
    managers: tuple[str, ...] = ()
    grown: int = 0
    corrections: int = 0
    failures: int = 0
    ended: int = 0
    ended_at: int = 0
    how: str = ""
    correction: int = 0
    accepted_by: str = ""
    reason: str = ""
    until: int = 0


class CasesView:
    """Cases by target and number; indexed by whether they are open, application and cluster."""

    name = "cases"
    version = 1
    document = CaseDocument
    types = names(
        (DriftDetected, DriftResolved, DriftAccepted, CorrectionApplied, CorrectionFailed)
    )
    indexes: tuple[str, ...] = ("state", "application", "cluster")
    snapshot_every = SNAPSHOT_EVERY
    present_only: tuple[str, ...] = ()

    def keys(self, event: Event, fact: Fact) -> Iterable[str]:
        """Name the case that an event is about."""
        match fact:
            case DriftDetected() | DriftResolved() | DriftAccepted():
                case = fact.case
            case CorrectionApplied() | CorrectionFailed():
                case = event.correlation
            case _:
                return ()
        number = case.rpartition("#")[2]
        is_case = "#" in case and number.isascii() and number.isdigit()
        return (case_key(event.stream, int(number)),) if is_case else ()

    def apply(
        self, key: str, document: CaseDocument | None, event: Event, fact: Fact
    ) -> CaseDocument | None:
        """Fold one event."""
        match fact:
            case DriftDetected():
                return _detected(document, event, fact)
            case DriftResolved() if document:
                return replace(
                    document,
                    ended=event.position,
                    ended_at=event.recorded_at,
                    how=fact.how,
                    correction=fact.correction,
                )
            case DriftAccepted() if document:
                return replace(
                    document, accepted_by=event.actor, reason=fact.reason, until=fact.until
                )
            case CorrectionApplied() if document:
                return replace(document, corrections=document.corrections + 1)
            case CorrectionFailed() if document:
                return replace(document, failures=document.failures + 1)
        return document

    def index(self, document: CaseDocument) -> tuple[str | None, ...]:
        """Whether it is open; the streams of its application and cluster."""
        project = document.project
        return (
            "ended" if document.ended else "open",
            f"app/{project}/{document.application}",
            f"cluster/{project}/{document.cluster}",
        )

    def subject(self, key: str) -> str | None:
        """The stream of its target."""
        return key.rpartition("#")[0]


def _detected(document: CaseDocument | None, event: Event, fact: DriftDetected) -> CaseDocument:
    if document is None:
        target = target_of(event.stream)
        document = CaseDocument(
            case=fact.case,
            project=target.project,
            application=target.application,
            cluster=target.cluster,
            opened=event.position,
            opened_at=event.recorded_at,
            differences=(),
            grown=-1,
        )
    found = {difference.manager for difference in fact.differences if difference.manager}
    managers = tuple(sorted({*document.managers, *found}))[:_MANAGERS]
    return replace(
        document,
        differences=fact.differences,
        omitted=fact.omitted,
        managers=managers,
        grown=document.grown + 1,
    )


def case_key(target_stream: str, number: int) -> str:
    """Return the key of a target's case by its number: keys sort by number."""
    return f"{target_stream}#{number:0{_DIGITS}}"


CASES = CasesView()
