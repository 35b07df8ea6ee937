"""What requests and answers look like: the schemas of the API's description are made from these.

Handlers put answers together out of documents; a test holds every answer to its shape. Field
names are written here as in Python: on their way out they become camelCase, and times, which are
microseconds inside, become RFC 3339 (`engine.http.wire`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from engine.decide.state import SyncState, TargetStatus
from engine.doctor.check import Check, State
from engine.resources.model import Application, Cluster, Notification, Repository
from events.vocabulary import Action, Difference, Health, ObjectRef, Outcome
from projections.cases import CaseDocument
from projections.clusters import ClusterDocument
from projections.corrections import CorrectionDocument
from projections.declared import Suspension
from projections.desired import DesiredDocument
from projections.drift import DriftDocument
from projections.notifications import NotificationDocument
from projections.sources import SourceDocument
from projections.targets import TargetDocument

Seen = Annotated[int, Meta(ge=0, description="The position up to which the answer was read.")]
Written = Annotated[int, Meta(ge=1, description="The position of the last event written.")]
Time = Annotated[
    str, Meta(description="RFC 3339 in UTC.", extra_json_schema={"format": "date-time"})
]
Reason = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=500,
        pattern=r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$",
        description="Why: one line that the record will keep.",
    ),
]
OptionalReason = Annotated[
    str,
    Meta(
        max_length=500,
        pattern=r"^[^\x00-\x1f\x7f-\x9f]*$",
        description="Why: one line that the record will keep.",
    ),
]
TokenName = Annotated[str, Meta(pattern="^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")]
AfterPosition = Annotated[
    int | None, Meta(description="What to give as `after` for the next page; null at the end.")
]
AfterKey = Annotated[
    str | None, Meta(description="What to give as `after` for the next page; null at the end.")
]


class Problem(Struct):
    """Why a request was refused or failed (RFC 9457). `code` is stable: docs/errors.md."""

    type: str
    title: str
    status: int
    code: str
    detail: str


class Status(Struct):
    """Whether the process answers, or everything runs."""

    status: Literal["ok", "not ready"]


class Version(Struct):
    """Which release this is, which log it keeps, how far log and views are, who asks."""

    version: str
    log_id: str
    position: Seen
    views: Seen
    actor: str


class ParkedPart(Struct):
    """A document (or a stream) that a view no longer folds, since an event that failed."""

    scope: Literal["key", "stream"]
    name: str
    position: int
    message: str


class View(Struct):
    """A view. `documents` is null where it files positions under subjects instead."""

    name: str
    about: str
    documents: int | None
    position: Seen
    lag: int
    parked_count: int
    parked: list[ParkedPart]


class ViewList(Struct):
    """All views. `rate` is how many events a second the log grew by of late."""

    items: list[View]
    rate: float
    head: Seen
    position: Seen


class Event(Struct):
    """One event of the log. `payload` is the fact, as it is stored."""

    position: int
    stream: str
    version: int
    id: str
    type: str
    schema: int
    recorded_at: int
    occurred_at: int
    actor: str
    causation: int | None
    correlation: str
    traceparent: str
    payload: dict[str, Any]


class EventPage(Struct):
    """Events in the order of the log. `names` has their authors' names, by pseudonym."""

    items: list[Event]
    names: dict[str, str]
    next: AfterPosition
    position: Seen


class Timeline(Struct):
    """What happened to a subject. `names` has its authors' names, by pseudonym."""

    subject: str
    items: list[Event]
    names: dict[str, str]
    next: AfterPosition
    position: Seen


class TokenRequest(Struct, forbid_unknown_fields=True):
    """Whom a token is for."""

    name: TokenName


class TokenMade(Struct):
    """A new token. This is the only time that it is shown."""

    name: str
    token: str
    position: Written


class TokenRevoked(Struct):
    """A token that opens nothing any more."""

    name: str
    position: Written


class LoginLink(Struct):
    """Where a browser is logged in as the caller: a path on this server, good once."""

    path: str
    seconds: Annotated[float, Meta(description="For how long it is good.")]


class Token(Struct):
    """What is known of a token; never what it is."""

    name: str
    actor: Annotated[str, Meta(description="Who made it.")]
    position: int
    revoked: bool
    reason: str
    at: int


class TokenPage(Struct):
    """Tokens by name, revoked ones too."""

    items: list[Token]
    next: AfterKey
    position: Seen


class Deleted(Struct):
    """A resource that was taken back."""

    position: Written
    stream: str
    cascade: bool


class Standing(Struct):
    """A declared resource: who declared it, when, and whether it is suspended."""

    kind: str
    project: str
    name: str
    position: int
    actor: str
    at: int
    suspended: Suspension | None


class ShownRepository(Standing):
    """A repository, and how it stands."""

    resource: Repository
    state: SourceDocument


class ShownCluster(Standing):
    """A cluster, and how it stands."""

    resource: Cluster
    state: ClusterDocument


class ShownNotification(Standing):
    """A notification, and how its delivery fares."""

    resource: Notification
    state: NotificationDocument


class ShownApplication(Standing):
    """An application, and how it and its targets stand: the worst state, the worst health."""

    resource: Application
    state: DesiredDocument
    sync: SyncState | None
    health: Health | None
    synced: int
    total: int


class RepositoryPage(Struct):
    """Repositories by name."""

    items: list[ShownRepository]
    next: AfterKey
    position: Seen


class ClusterPage(Struct):
    """Clusters by name."""

    items: list[ShownCluster]
    next: AfterKey
    position: Seen


class ApplicationPage(Struct):
    """Applications by name."""

    items: list[ShownApplication]
    next: AfterKey
    position: Seen


class NotificationPage(Struct):
    """Notifications by name."""

    items: list[ShownNotification]
    next: AfterKey
    position: Seen


class RepositoryDetail(ShownRepository):
    """A repository, and the applications that name it."""

    applications: list[str]
    seen: Seen


class ClusterDetail(ShownCluster):
    """A cluster, and the targets on it."""

    sync: SyncState | None
    health: Health | None
    synced: int
    total: int
    targets: list[TargetStatus]
    seen: Seen


class ApplicationDetail(ShownApplication):
    """An application, and its targets."""

    targets: list[TargetStatus]
    seen: Seen


class NotificationDetail(ShownNotification):
    """A notification, and how far it is."""

    seen: Seen


class TestRequest(Struct, forbid_unknown_fields=True):
    """Why, if that is to be on the record."""

    reason: OptionalReason = ""


class ReplayRequest(Struct, forbid_unknown_fields=True):
    """Where to begin again, and why."""

    start: Annotated[int, Meta(ge=1, description="A position of the log.")] = field(name="from")
    reason: OptionalReason = ""


class NotificationAsked(Struct):
    """What was asked of a notification: its stream, and where the request stands in the log."""

    position: Written
    stream: str


class TargetPage(Struct):
    """Targets by name, each with how it stands."""

    items: list[TargetStatus]
    next: AfterKey
    position: Seen


class LiveObject(Struct):
    """One object as it was last observed; `applied` says whether an apply of ours is recorded."""

    object: ObjectRef
    presence: str
    health: Health
    message: str
    applied: bool


class TargetDetail(Struct):
    """All that is known of a target."""

    status: TargetStatus
    target: TargetDocument
    desired: DesiredDocument
    drift: DriftDocument
    corrections: CorrectionDocument
    objects: list[LiveObject]
    position: Seen


class UnknownKind(Struct):
    """A kind that could not be compared because the cluster does not show it."""

    kind: str
    code: str
    message: str


class TargetDiff(Struct):
    """What differs between desired and live. `same`: nothing that a sync would correct.

    Or, where `against` says so, from another commit's desired state, or from another time's live.
    """

    target: str
    project: str
    against: str
    status: TargetStatus
    same: bool
    differences: list[Difference]
    omitted: int
    unknown: list[UnknownKind]
    position: Seen


class SyncRequest(Struct, forbid_unknown_fields=True):
    """Why, and to which commit; the newest where none is named.

    `prune` confirms that what is no longer desired is deleted; `override` goes ahead though a
    sync window is closed: somebody has to approve of that afterwards.
    """

    reason: Reason
    revision: Annotated[str, Meta(pattern="^([0-9a-f]{40})?$")] | None = None
    prune: bool = False
    override: bool = False


class SuspendRequest(Struct, forbid_unknown_fields=True):
    """Why, and for how long (`2h`); until resumed where that is not said."""

    reason: Reason
    duration: Annotated[str, Meta(pattern="^(([0-9]{1,9}(ms|s|m|h))+)?$")] | None = None


class RollbackRequest(Struct, forbid_unknown_fields=True):
    """Why, and to which earlier commit: its first 7 digits, or more."""

    reason: Reason
    revision: Annotated[str, Meta(pattern="^[0-9a-f]{7,40}$")]


class ApproveRequest(Struct, forbid_unknown_fields=True):
    """Why; and either the plan, by its digest, or the override, by its request's position."""

    reason: Reason
    plan: Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$")] | None = None
    override: Annotated[int, Meta(ge=1)] | None = None


class AcceptRequest(Struct, forbid_unknown_fields=True):
    """Why drift is accepted, and for how long (`2h`) or until when; or that it `end`s.

    `case` is the open case, where the caller wants to be sure of it.
    """

    reason: Reason
    case: Annotated[str, Meta(max_length=300)] | None = None
    duration: Annotated[str, Meta(pattern="^(([0-9]{1,9}(ms|s|m|h))+)?$")] | None = None
    until: Annotated[str, Meta(max_length=40)] | None = None
    end: bool | None = None


class AdoptRequest(Struct, forbid_unknown_fields=True):
    """Why what is there is taken over, and from which managers besides the known tools."""

    reason: Reason
    managers: (
        Annotated[list[Annotated[str, Meta(min_length=1, max_length=128)]], Meta(max_length=20)]
        | None
    ) = None


class DriftItem(CaseDocument, frozen=True):
    """A drift case, and whose it is."""

    target: str = ""


class DriftPage(Struct):
    """Drift cases by target and number."""

    items: list[DriftItem]
    next: AfterKey
    position: Seen


class Guard(Struct):
    """One thing that has to be so, whether it is, since when, and when it changes by itself."""

    name: str
    passes: bool
    message: str
    position: int
    at: Time | None
    until: Time | None


class WhyAnswer(Struct):
    """Why a target is or is not synced. `stands_at` names the first guard that holds it up."""

    target: str
    project: str
    status: TargetStatus
    stands_at: str | None
    guards: list[Guard]
    position: Seen


class DecidedFact(Struct):
    """A fact of a decision."""

    type: str
    payload: dict[str, Any]


class Discrepancy(Struct):
    """A field that comes out otherwise; `path` begins with the fact's type."""

    path: str
    then: Any
    now: Any


class ReplayedDecision(Struct):
    """A decision that was made again: `same` is null where it cannot be, and `problem` says why.

    `then` and `now` are its facts, as recorded and as they come out today, where they differ;
    `differing` says in which fields. Fields that the release which recorded it did not know yet do
    not count.
    """

    positions: list[int]
    seen: int | None
    at: Time
    types: list[str]
    same: bool | None
    problem: str
    then: list[DecidedFact]
    now: list[DecidedFact]
    differing: list[Discrepancy]


class ReplayPage(Struct):
    """Decisions of a target, made again."""

    items: list[ReplayedDecision]
    next: AfterPosition
    position: Seen


class PlanHold(Struct):
    """What is not done, and why."""

    code: str
    message: str
    object: ObjectRef | None = None


class RollbackDone(Struct):
    """A target goes back to this commit."""

    position: Written
    subject: str
    changed: bool
    revision: str


class Rehearsed(Struct):
    """What the cluster answered to the dry run of an action; `mutated`: what admission would alter.

    `skipped` is what cannot be asked before something else is done.
    """

    outcome: Outcome
    message: str
    managers: list[str]
    mutated: list[Difference]


class Planned(Struct):
    """What would be done to a target now, and what keeps it from being done; `plan` names it.

    `hold` is null where it is about to be done; `held` are objects that are left. `dryRun` has an
    item for each of `actions`, where a dry run was asked for.
    """

    target: str
    project: str
    plan: str | None
    revision: str
    actions: list[Action]
    hold: PlanHold | None
    held: list[PlanHold]
    approved: bool
    dry_run: list[Rehearsed] | None
    position: Seen


class ReasonRequest(Struct, forbid_unknown_fields=True):
    """Why."""

    reason: Reason


class BodyErased(Struct):
    """What a redaction came to; `changed` is false where the body was erased already.

    `size` is how many bytes there were.
    """

    position: Written
    subject: str
    changed: bool
    size: int


class Forgetting(Struct):
    """By whom, when and why somebody was forgotten."""

    position: int
    at: int
    actor: str
    reason: str


class Person(Struct):
    """Who is behind a pseudonym; "" where that was never kept, or is forgotten."""

    actor: str
    name: str
    email: str
    forgotten: Forgetting | None
    position: Seen


class Forgotten(Struct):
    """What forgetting somebody came to; `changed` is false where that was done before."""

    position: Written
    subject: str
    changed: bool


class SyncAsked(Struct):
    """A sync that was asked for: it comes. `suspended` says what holds it up, if anything does."""

    position: Written
    subject: str
    targets: list[str]
    changed: bool
    suspended: str | None


class Acted(Struct, omit_defaults=True):
    """What an operator's word came to; `changed` is false where it was so already."""

    position: int
    subject: str
    changed: bool
    detail: str = ""


class Checkup(Struct):
    """What the doctor found; `state` is the worst of it."""

    state: State
    checks: list[Check]


class Waited(Struct):
    """Targets that are as they were waited for."""

    position: Seen
    targets: list[TargetStatus]
