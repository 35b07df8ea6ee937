"""How each target stands: assigned where, asked for what, held why, synced to what, how healthy.

Pure.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from events.catalog import (
    AcceptanceEnded,
    AdoptionRequested,
    CorrectionAbandoned,
    CorrectionApplied,
    CorrectionFailed,
    CorrectionPlanned,
    DriftAccepted,
    DriftDetected,
    DriftResolved,
    Fact,
    HealthChanged,
    HealthTimedOut,
    HoldLifted,
    HookEnded,
    OverrideApproved,
    PlanApproved,
    ReconcileHeld,
    Resumed,
    RollbackLifted,
    RolledBack,
    Suspended,
    SyncRequested,
    TargetAssigned,
    TargetSynced,
    TargetUnassigned,
)
from events.event import Event
from events.vocabulary import Health, ObjectRef
from projections.declared import Suspension, suspension
from projections.fold import StreamFold, TargetId, names, target_of

SOFT_HOLDS = frozenset(
    {"protected", "prune-off", "copy", "accepted", "foreign-fields", "not-gone-yet"}
)
"""Holds that leave something over and do not keep a target from being synced."""
WELL = (Health.HEALTHY, Health.SUSPENDED)
"""How a target fares that needs nothing: suspended is on purpose."""
WAITS = frozenset({"wave", "hook-running"})
"""Holds between the steps of a sync: it goes on by itself."""


class Request(Struct, frozen=True, omit_defaults=True):
    """The last sync that a person asked for."""

    position: int
    actor: str
    reason: str
    at: int
    revision: str = ""
    prune: bool = False
    override: bool = False


class Override(Struct, frozen=True, omit_defaults=True):
    """A sync that overrode a closed window, until somebody approves of that."""

    position: int
    actor: str
    reason: str
    at: int


class Approval(Struct, frozen=True, omit_defaults=True):
    """The last plan that a person approved, by its digest."""

    plan: str
    position: int
    actor: str
    reason: str
    at: int


class Pin(Struct, frozen=True, omit_defaults=True):
    """The revision that a target was rolled back to; `desired` is the position of its render.

    `by_policy`: nobody asked for it, the engine did it because the target was not healthy in time.
    """

    commit: str
    desired: int
    objects: str
    count: int
    position: int
    actor: str
    reason: str
    at: int
    by_policy: bool = False


class Adoption(Struct, frozen=True, omit_defaults=True):
    """That a target takes over what other tools manage, as a person said."""

    position: int
    actor: str
    reason: str
    at: int
    managers: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()


class Synced(Struct, frozen=True, omit_defaults=True):
    """The last desired state that the target was found to be in."""

    commit: str
    desired: int
    objects: str
    position: int
    at: int
    count: int = 0


class Hold(Struct, frozen=True, omit_defaults=True):
    """Why nothing is done although there is something to do."""

    code: str
    message: str
    position: int
    at: int
    until: int = 0
    objects: tuple[ObjectRef, ...] = ()
    waits_for: str = ""


class TargetDocument(Struct, frozen=True, omit_defaults=True):
    """A target. `version` is its stream's: what the next decision expects it still to be."""

    project: str
    application: str
    cluster: str
    version: int
    position: int
    namespace: str = "default"
    assigned: bool = False
    cascade: bool = False
    unassigned: str = ""
    suspended: Suspension | None = None
    request: Request | None = None
    overrides: tuple[Override, ...] = ()
    approval: Approval | None = None
    pin: Pin | None = None
    adoption: Adoption | None = None
    synced: Synced | None = None
    hold: Hold | None = None
    health: Health = Health.UNKNOWN
    health_message: str = ""
    health_since: int = 0
    turned: int = 0
    """The position of the last rollback, or of its end: what is desired may be an old render."""
    turned_at: int = 0
    begun: int = 0
    """The position of the last plan of a sync: until the next TargetSynced it is under way."""
    well: Synced | None = None
    """The last sync that was found to have made the target healthy."""
    timed_out: int = 0
    """The position of the last HealthTimedOut."""
    gone_back_from: int = 0
    """The render that the engine rolled back from by policy, by its position."""


class TargetsView(StreamFold[TargetDocument]):
    """Targets by stream; indexed by application and cluster (as streams), and by open request."""

    name = "targets"
    version = 6
    document = TargetDocument
    types = names(
        (
            TargetAssigned,
            TargetUnassigned,
            SyncRequested,
            OverrideApproved,
            PlanApproved,
            RolledBack,
            RollbackLifted,
            Suspended,
            Resumed,
            DriftDetected,
            DriftResolved,
            DriftAccepted,
            AcceptanceEnded,
            AdoptionRequested,
            CorrectionPlanned,
            CorrectionApplied,
            CorrectionFailed,
            CorrectionAbandoned,
            TargetSynced,
            ReconcileHeld,
            HoldLifted,
            HealthChanged,
            HealthTimedOut,
            HookEnded,
        )
    )
    kinds = ("target",)
    indexes: tuple[str, ...] = ("application", "cluster", "request")

    def apply(
        self, key: str, document: TargetDocument | None, event: Event, fact: Fact
    ) -> TargetDocument | None:
        """Fold one event."""
        if document is None:
            target = target_of(key)
            document = TargetDocument(
                project=target.project,
                application=target.application,
                cluster=target.cluster,
                version=event.version,
                position=event.position,
            )
        return replace(_fold(document, event, fact), version=event.version, position=event.position)

    def index(self, document: TargetDocument) -> tuple[str | None, ...]:
        """The application's and the cluster's stream; "open" while a request is unanswered."""
        target = TargetId(document.project, document.application, document.cluster)
        request, synced = document.request, document.synced
        is_open = request and not (synced and synced.position > request.position)
        return (target.app_stream, target.cluster_stream, "open" if is_open else None)


def _fold(document: TargetDocument, event: Event, fact: Fact) -> TargetDocument:
    match fact:
        case TargetAssigned():
            return replace(
                document, assigned=True, cascade=False, unassigned="", namespace=fact.namespace
            )
        case TargetUnassigned():
            return replace(
                document, assigned=False, cascade=fact.cascade, unassigned=fact.reason, hold=None
            )
        case SyncRequested():
            request = Request(
                event.position,
                event.actor,
                fact.reason,
                event.recorded_at,
                fact.revision,
                fact.prune,
                fact.override,
            )
            document = replace(document, request=request)
            if not fact.override:
                return document
            override = Override(event.position, event.actor, fact.reason, event.recorded_at)
            return replace(document, overrides=(*document.overrides, override))
        case OverrideApproved():
            left = tuple(each for each in document.overrides if each.position != fact.request)
            return replace(document, overrides=left)
        case PlanApproved():
            approval = Approval(
                fact.plan, event.position, event.actor, fact.reason, event.recorded_at
            )
            return replace(document, approval=approval)
        case RolledBack():
            pin = Pin(
                fact.commit,
                fact.desired,
                fact.objects,
                fact.count,
                event.position,
                event.actor,
                fact.reason,
                event.recorded_at,
                by_policy=fact.instead > 0,
            )
            return replace(
                document,
                pin=pin,
                turned=event.position,
                turned_at=event.recorded_at,
                gone_back_from=fact.instead or document.gone_back_from,
            )
        case RollbackLifted():
            return replace(document, pin=None, turned=event.position, turned_at=event.recorded_at)
        case AdoptionRequested():
            adoption = Adoption(
                event.position,
                event.actor,
                fact.reason,
                event.recorded_at,
                fact.managers,
                fact.owners,
            )
            return replace(document, adoption=adoption)
        case Suspended():
            return replace(document, suspended=suspension(event, fact))
        case Resumed():
            return replace(document, suspended=None)
        case TargetSynced():
            synced = Synced(
                fact.commit,
                fact.desired,
                fact.objects,
                event.position,
                event.recorded_at,
                fact.count,
            )
            document = replace(document, synced=synced, adoption=None)
            return _settled(document) if document.health in WELL else document
        case ReconcileHeld():
            hold = Hold(
                fact.code,
                fact.message,
                event.position,
                event.recorded_at,
                fact.until,
                fact.objects,
                fact.waits_for,
            )
            return replace(document, hold=hold)
        case HoldLifted():
            return replace(document, hold=None)
        case HealthChanged():
            document = replace(
                document,
                health=fact.health,
                health_message=fact.message,
                health_since=event.recorded_at,
            )
            known = document.synced
            is_settled = known is not None and known.position > document.begun
            return _settled(document) if is_settled and fact.health in WELL else document
        case HealthTimedOut():
            return replace(document, timed_out=event.position)
        case CorrectionPlanned() if fact.run:
            return replace(document, begun=event.position)
    return document


def _settled(document: TargetDocument) -> TargetDocument:
    """Remember that what the target was synced to has made it well."""
    return replace(document, well=document.synced)


TARGETS = TargetsView()
