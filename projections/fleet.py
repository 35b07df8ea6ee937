"""How each target stands by its own events alone, so that many can be counted and found.

Pure. What its application and its repository add (a suspension, a render that failed, a commit
that is not resolved yet) touches every target at once: that is joined when read, see
`engine.decide.fleet`.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from events.catalog import (
    CorrectionAbandoned,
    CorrectionApplied,
    CorrectionFailed,
    CorrectionPlanned,
    DriftDetected,
    DriftResolved,
    Fact,
    HealthChanged,
    HoldLifted,
    ReconcileHeld,
    Resumed,
    Suspended,
    SyncRequested,
    TargetAssigned,
    TargetSynced,
    TargetUnassigned,
)
from events.event import Event
from events.vocabulary import Health
from projections.fold import StreamFold, names, target_of
from projections.targets import SOFT_HOLDS, WAITS

UNASSIGNED, CORRECTING, SUSPENDED, FAILED = "unassigned", "correcting", "suspended", "failed"
HELD, WAITING, DRIFTED, REQUESTED = "held", "waiting", "drifted", "requested"
SYNCED, NEW = "synced", "new"


class FleetDocument(Struct, frozen=True, omit_defaults=True):
    """A target in few words. `plan`, `failed`, `requested`, `synced` are positions, 0 for none.

    `desired` is the position of the render that it was last found to be in.
    """

    target: str
    """The target's stream."""
    assigned: bool = False
    suspended: bool = False
    drifted: bool = False
    hold: str = ""
    plan: int = 0
    failed: int = 0
    requested: int = 0
    synced: int = 0
    desired: int = 0
    health: Health = Health.UNKNOWN


class FleetView(StreamFold[FleetDocument]):
    """Targets by stream; indexed by application and cluster (as streams), and by state.

    The state is `word/health`, the word as `word_of` gives it.
    """

    name = "fleet"
    version = 2
    document = FleetDocument
    types = names(
        (
            TargetAssigned,
            TargetUnassigned,
            SyncRequested,
            Suspended,
            Resumed,
            DriftDetected,
            DriftResolved,
            CorrectionPlanned,
            CorrectionApplied,
            CorrectionFailed,
            CorrectionAbandoned,
            TargetSynced,
            ReconcileHeld,
            HoldLifted,
            HealthChanged,
        )
    )
    kinds = ("target",)
    indexes: tuple[str, ...] = ("application", "cluster", "state")
    present_only: tuple[str, ...] = ("state",)

    def apply(
        self, key: str, document: FleetDocument | None, event: Event, fact: Fact
    ) -> FleetDocument | None:
        """Fold one event."""
        known = document or FleetDocument(target=key)
        match fact:
            case CorrectionPlanned():
                return replace(known, plan=event.position)
            case CorrectionApplied() | CorrectionFailed() | CorrectionAbandoned():
                if known.plan != fact.plan:
                    return replace(known, plan=0)
                failed = event.position if isinstance(fact, CorrectionFailed) else 0
                return replace(known, plan=0, failed=failed)
            case TargetSynced():
                return replace(known, synced=event.position, desired=fact.desired)
            case DriftDetected() | DriftResolved():
                return replace(known, drifted=isinstance(fact, DriftDetected))
            case Suspended() | Resumed():
                return replace(known, suspended=isinstance(fact, Suspended))
        return _said(known, event, fact)

    def index(self, document: FleetDocument) -> tuple[str | None, ...]:
        """The application's and the cluster's stream, and the state."""
        target = target_of(document.target)
        state = f"{word_of(document)}/{document.health}"
        return (target.app_stream, target.cluster_stream, state)


def _said(known: FleetDocument, event: Event, fact: Fact) -> FleetDocument:
    match fact:
        case TargetAssigned():
            return replace(known, assigned=True)
        case TargetUnassigned():
            return replace(known, assigned=False, hold="")
        case SyncRequested():
            return replace(known, requested=event.position)
        case ReconcileHeld():
            return replace(known, hold=fact.code)
        case HoldLifted():
            return replace(known, hold="")
        case HealthChanged():
            return replace(known, health=fact.health)
    return known


def word_of(document: FleetDocument) -> str:
    """Say how a target stands by itself; `synced@N` where it is in the render at position N."""
    if not document.assigned:
        return UNASSIGNED
    if document.plan:
        return CORRECTING
    if document.suspended:
        return SUSPENDED
    if document.failed > document.synced:
        return FAILED
    if document.hold and document.hold not in SOFT_HOLDS:
        return WAITING if document.hold in WAITS else HELD
    if document.drifted:
        return DRIFTED
    if document.requested and document.requested > document.synced:
        return REQUESTED
    return f"{SYNCED}@{document.desired}" if document.synced else NEW


FLEET = FleetView()
