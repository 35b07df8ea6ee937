"""Every event type: a frozen struct named in the past tense, with its schema number.

Pure. The stream says what the fact is about, so a fact never repeats it. Stored bytes never
change: to add a field with a default, raise `schema` and say in `events.shapes` what it added; for
any other change of a shape, raise it and give the codec an upcaster.
"""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import Struct

from events.vocabulary import (
    Action,
    ConfigurationProblem,
    Difference,
    Health,
    ObjectRef,
    Observation,
    Result,
    SealedActor,
)


class Fact(Struct, frozen=True, omit_defaults=True):
    """What all event types have in common."""

    schema: ClassVar[int] = 1


# Declared resources: streams `repo/…`, `cluster/…`, `app/…`.


class Declared(Fact, frozen=True, omit_defaults=True):
    """A person (or a control repository) said that a resource should be so.

    `spec` is the resource's whole specification, `labels` its metadata.labels. Where a control
    repository says it, `owner` is its stream, and `file` and `commit` are where it stands; the
    event's actor is then the pseudonym of the commit's author.
    """

    kind: str
    spec: dict[str, Any]
    labels: dict[str, str] = {}
    owner: str = ""
    file: str = ""
    commit: str = ""


class Withdrawn(Fact, frozen=True, omit_defaults=True):
    """A resource was taken back. `cascade` asks that its objects be deleted too.

    `commit` is the one that no longer has it, where a control repository took it back.
    """

    kind: str
    cascade: bool = False
    reason: str = ""
    commit: str = ""


# Sources: streams `repo/…`.


class CommitSeen(Fact, frozen=True, omit_defaults=True):
    """A commit became reachable from the followed ref.

    The event's actor is the author's pseudonym. `subject` is the message's first line, at most
    200 characters, without control characters. `author` is the author's name and address, sealed
    (`events.sealed`): "" where there is none, or the author was forgotten before. `committer` is
    who committed it, where that is somebody else.
    """

    schema: ClassVar[int] = 2

    commit: str
    parents: tuple[str, ...] = ()
    subject: str = ""
    committed_at: int = 0
    author: str = ""
    committer: SealedActor | None = None


class RefMoved(Fact, frozen=True, omit_defaults=True):
    """The followed ref names another commit. `forced`: the previous one is no ancestor of it."""

    ref: str
    commit: str
    previous: str = ""
    forced: bool = False
    skipped: int = 0
    """Commits that were left unrecorded because they were more than one look may record."""


class SourceFailed(Fact, frozen=True, omit_defaults=True):
    """A repository could not be read, for a reason that it did not have before."""

    code: str
    message: str


class SourceRecovered(Fact, frozen=True, omit_defaults=True):
    """A repository that could not be read can be read again."""


class SourceChecked(Fact, frozen=True, omit_defaults=True):
    """A repository was looked at because the SyncRequested at `requested` asked for it.

    `commit` is what the ref names now; `failed` is the code of what went wrong, "" for nothing.
    A poll without news that nobody asked for is no event.
    """

    requested: int
    commit: str = ""
    failed: str = ""


class RevisionResolved(Fact, frozen=True, omit_defaults=True):
    """For every application of the repository it is now known what this commit means.

    `rendered` and `failed` name the applications (`project/name`) whose inputs the commit
    touched; for every other one the desired state is the same at this commit as before.
    """

    commit: str
    rendered: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


class ConfigurationApplied(Fact, frozen=True, omit_defaults=True):
    """What a control repository declares at this commit is in force.

    Appended together with the declarations and withdrawals that it took (`changed` and
    `withdrawn` of them); it has `resources` in all. `declared` is the position of the
    repository's own declaration, which says where in it to look.
    """

    commit: str
    declared: int
    resources: int
    changed: int = 0
    withdrawn: int = 0
    after_refusal: bool = False
    """Whether the configuration that was looked at before this one was refused."""


class ConfigurationRefused(Fact, frozen=True, omit_defaults=True):
    """What a control repository declares at this commit cannot be taken: nothing of it was.

    The last good configuration stays in force. `omitted` counts the problems beyond those listed.
    """

    commit: str
    declared: int
    problems: tuple[ConfigurationProblem, ...]
    omitted: int = 0


# Desired: streams `app/…`.


class DesiredRendered(Fact, frozen=True, omit_defaults=True):
    """A commit renders to these objects.

    `inputs` is the digest of all that the render depended on, `objects` that of the blob that
    lists them (a JSON array of `events.vocabulary.Desired`, sorted). `declared` is the position of
    the application's declaration that was rendered.
    """

    commit: str
    declared: int
    inputs: str
    renderer: str
    objects: str
    count: int
    after_failure: bool = False
    """Whether the attempt before this one failed."""


class RenderFailed(Fact, frozen=True, omit_defaults=True):
    """A commit does not render; the last good desired state stays in force."""

    commit: str
    declared: int
    inputs: str
    code: str
    message: str
    file: str = ""
    document: int = 0
    line: int = 0


# Clusters: streams `cluster/…`.


class ClusterConnected(Fact, frozen=True, omit_defaults=True):
    """A cluster answers. `server_version` is its gitVersion.

    `after_loss`: it was lost before, as the log has it.
    """

    server_version: str
    after_loss: bool = False


class ClusterLost(Fact, frozen=True, omit_defaults=True):
    """A cluster no longer answers, or refuses us."""

    code: str
    message: str


class ObjectsObserved(Fact, frozen=True, omit_defaults=True):
    """Objects of ours changed in what counts. `source`: list, watch, get or apply."""

    objects: tuple[Observation, ...]
    source: str


class ObservationGap(Fact, frozen=True, omit_defaults=True):
    """Between two looks, states may have come and gone unseen."""

    kind: str
    reason: str


class KindUnreadable(Fact, frozen=True, omit_defaults=True):
    """A kind cannot be listed whole, so what there is of it is unknown (never: nothing).

    `api_version` and `kind` as the targets declare them. `code` is `no-such-kind` where discovery
    is whole and does not know it.
    """

    api_version: str
    kind: str
    code: str
    message: str


class KindReadable(Fact, frozen=True, omit_defaults=True):
    """A kind was listed whole: what is not in the list does not exist.

    Follows the observations of what is in the list. `namespaced` is the kind's scope.
    """

    api_version: str
    kind: str
    namespaced: bool


class ObservationConfirmed(Fact, frozen=True, omit_defaults=True):
    """A heartbeat: after listing everything afresh, `objects` objects of ours with this root.

    `root` is the SHA-256 over the sorted lines `identity digest\\n` of what is present.
    """

    objects: int
    root: str


# Targets: streams `target/…`. What the reconciler decides carries `seen`: the position at which it
# read the views, so that the decision can be made again.


class TargetAssigned(Fact, frozen=True, omit_defaults=True):
    """An application goes to a cluster. `namespace` is where objects without one go."""

    application: str
    cluster: str
    namespace: str


class TargetUnassigned(Fact, frozen=True, omit_defaults=True):
    """An application no longer goes to a cluster; its objects stay unless `cascade`."""

    reason: str
    cascade: bool = False


class SyncRequested(Fact, frozen=True, omit_defaults=True):
    """A person asked for a sync, now.

    `prune` confirms that what is no longer desired is deleted; `override` goes ahead though a sync
    window is closed, and is to be approved afterwards.
    """

    reason: str
    revision: str = ""
    prune: bool = False
    override: bool = False


class OverrideApproved(Fact, frozen=True, omit_defaults=True):
    """A person approved that the SyncRequested at `request` overrode a closed window."""

    request: int
    reason: str


class PlanApproved(Fact, frozen=True, omit_defaults=True):
    """A person approved a plan, by its digest: it is carried out while it still fits the facts."""

    plan: str
    reason: str


class RolledBack(Fact, frozen=True, omit_defaults=True):
    """A target goes back to an earlier revision and stays there; newer commits are masked.

    `desired` is the position of the DesiredRendered that holds at that commit, `objects` and
    `count` as it says.
    """

    schema: ClassVar[int] = 2

    commit: str
    desired: int
    objects: str
    count: int
    reason: str
    instead: int = 0
    """Where the engine did it by policy: the position of the DesiredRendered that it went from."""
    seen: int = 0


class RollbackLifted(Fact, frozen=True, omit_defaults=True):
    """A target follows its commits again. `after_failure`: the engine had rolled it back."""

    schema: ClassVar[int] = 2

    reason: str
    after_failure: bool = False


class Suspended(Fact, frozen=True, omit_defaults=True):
    """A person asked that nothing be corrected here. Streams `app/…` and `target/…`.

    `until` is when that ends by itself, in microseconds since the epoch; 0: when it is resumed.
    """

    reason: str
    until: int = 0


class Resumed(Fact, frozen=True, omit_defaults=True):
    """A person lifted a suspension."""

    reason: str


class Facts(Struct, frozen=True, omit_defaults=True):
    """The positions of the facts that a decision was made on, so that it can be made again.

    `seen` is the position that all views had reached; the others name the single facts.
    """

    seen: int
    desired: int = 0
    observed: int = 0
    target: int = 0


class DriftDetected(Fact, frozen=True, omit_defaults=True):
    """A target differs from what was applied, and no commit explains it.

    The event's correlation is the case's id. Written when a case opens and when it grows.
    `omitted` counts the differences beyond those listed.
    """

    schema: ClassVar[int] = 2

    case: str
    differences: tuple[Difference, ...]
    omitted: int = 0
    seen: int = 0


class DriftResolved(Fact, frozen=True, omit_defaults=True):
    """A drift case ended.

    `how`: corrected, reverted (somebody put it back), superseded (by Git), unassigned, adopted (the
    live value holds now), accepted (by a person), ignored (the application says so now).
    """

    schema: ClassVar[int] = 2

    case: str
    how: str
    correction: int = 0
    seen: int = 0


class DriftAccepted(Fact, frozen=True, omit_defaults=True):
    """A person accepted the differences of a drift case, just as they are, until a time.

    `until` is in microseconds since the epoch; 0: until they are no longer accepted.
    """

    case: str
    differences: tuple[Difference, ...]
    reason: str
    until: int = 0


class AcceptanceEnded(Fact, frozen=True, omit_defaults=True):
    """A person said that no drift of a target is accepted any more."""

    reason: str


class AdoptionRequested(Fact, frozen=True, omit_defaults=True):
    """A person said that a target takes over what is there and managed by other tools.

    `managers` are field managers beside the known ones, `owners` applications (`project/name`)
    that no longer claim their objects.
    """

    reason: str
    managers: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()


class CorrectionPlanned(Fact, frozen=True, omit_defaults=True):
    """What is about to be done, and why: appended before the first request.

    `attempt` counts from 1; 0 is a repair beside a failed correction, which goes on waiting.
    """

    schema: ClassVar[int] = 2

    commit: str
    facts: Facts
    actions: tuple[Action, ...]
    cause: str
    attempt: int = 1
    drift_case: str = ""
    approval: int = 0
    """The position of the PlanApproved that this carries out."""
    remaining: int = 0
    """How many more actions there were than one plan holds: they are planned next."""
    rest: str = ""
    """Of an approved plan: the digest of those that remain, which are approved too."""
    run: int = 0
    """Which sync this is a step of: the position of what it is for. 0: only drift is put right."""
    stage: str = ""
    """Which step of it, where there are several: a wave, or hooks."""


class CorrectionApplied(Fact, frozen=True, omit_defaults=True):
    """Every action of the plan at this position came to its end.

    `attempt` counts from 1: the attempts before it, in a row, failed.
    """

    schema: ClassVar[int] = 2

    plan: int
    results: tuple[Result, ...]
    attempt: int = 1


class CorrectionFailed(Fact, frozen=True, omit_defaults=True):
    """Some action did not. `retry_at` is in microseconds since the epoch, 0 where it waits."""

    schema: ClassVar[int] = 2

    plan: int
    results: tuple[Result, ...]
    code: str
    message: str
    attempt: int
    retry_at: int = 0


class HookEnded(Fact, frozen=True, omit_defaults=True):
    """A hook of a sync has run: `run` and `hook` are as its plan says them."""

    ref: ObjectRef
    hook: str
    run: int
    succeeded: bool
    message: str = ""
    seen: int = 0


class CorrectionAbandoned(Fact, frozen=True, omit_defaults=True):
    """The engine stopped between plan and outcome; what there is was observed afresh."""

    plan: int
    reason: str


class TargetSynced(Fact, frozen=True, omit_defaults=True):
    """A target is as this desired state (the DesiredRendered at `desired`) wants it."""

    schema: ClassVar[int] = 2

    commit: str
    desired: int
    objects: str
    seen: int = 0
    count: int = 0
    """How many objects it has."""


class HealthTimedOut(Fact, frozen=True, omit_defaults=True):
    """A target was synced, and was not healthy in the time that its application gives it."""

    commit: str
    desired: int
    health: Health
    message: str = ""
    seen: int = 0


class ReconcileHeld(Fact, frozen=True, omit_defaults=True):
    """There is something to do, and it is not done, for this reason. Written when that changes.

    `again`: it was held under the same code before, in other words.
    """

    schema: ClassVar[int] = 2

    code: str
    message: str
    until: int = 0
    objects: tuple[ObjectRef, ...] = ()
    again: bool = False
    waits_for: str = ""
    """The stream of the target that is waited for, where it is one."""
    seen: int = 0


class HoldLifted(Fact, frozen=True, omit_defaults=True):
    """The reason for not acting is gone."""

    schema: ClassVar[int] = 2

    code: str
    seen: int = 0


class HealthChanged(Fact, frozen=True, omit_defaults=True):
    """A target as a whole fares differently than before."""

    schema: ClassVar[int] = 2

    health: Health
    message: str = ""
    seen: int = 0


# Alerts: streams `notification/…`. `round` is the position of what began this run through the
# alerts: a declaration, or a request for a replay. What belongs to an older round is void.


class NotificationDelivered(Fact, frozen=True, omit_defaults=True):
    """The receiver took the alert about the event at `position`, which is of the stream `about`."""

    position: int
    round: int
    kind: str
    about: str
    attempt: int = 1


class NotificationPassed(Fact, frozen=True, omit_defaults=True):
    """No alert up to the position `through` is for this notification, beyond those delivered.

    Written seldom, so that a restart need not look at the same alerts again.
    """

    through: int
    round: int


class NotificationFailed(Fact, frozen=True, omit_defaults=True):
    """The alert about the event at `position` could not be delivered; it is tried again.

    Written at the first failure, and when the reason changes.
    """

    position: int
    round: int
    code: str
    message: str


class NotificationRefused(Fact, frozen=True, omit_defaults=True):
    """The receiver refuses the alert about the event at `position` as such: it is left out."""

    position: int
    round: int
    kind: str
    about: str
    code: str
    message: str


class NotificationStopped(Fact, frozen=True, omit_defaults=True):
    """No alert could be delivered for too long: none is tried until somebody asks for it.

    `position` is that of the alert that waits, `since` is when delivery began to fail, in
    microseconds.
    """

    position: int
    round: int
    since: int
    message: str


class NotificationReplayRequested(Fact, frozen=True, omit_defaults=True):
    """A person asked that the alerts from the position `start` on be delivered (again)."""

    start: int
    reason: str = ""


class NotificationTestRequested(Fact, frozen=True, omit_defaults=True):
    """A person asked for an alert that is only a test."""

    reason: str = ""


class NotificationTested(Fact, frozen=True, omit_defaults=True):
    """The test that was asked for at `requested` was delivered (`code` is ""), or why not."""

    requested: int
    code: str = ""
    message: str = ""


# Bodies: streams `body/default/<the digest's 64 hexadecimal digits>`.


class BodyRedacted(Fact, frozen=True, omit_defaults=True):
    """A person erased a body that should never have been kept; its digest stays."""

    reason: str


# People: streams `actor/default/<pseudonym>`.


class ActorForgotten(Fact, frozen=True, omit_defaults=True):
    """A person's name is to be forgotten: the key that it was sealed with is destroyed.

    What is sealed in events before and after stays sealed for ever, and the proof stands.
    """

    actor: str
    reason: str


# Access: streams `token/…`.


class TokenCreated(Fact, frozen=True, omit_defaults=True):
    """A token was made for an actor of this name. `digest`: SHA-256 of the token, hexadecimal."""

    digest: str


class TokenRevoked(Fact, frozen=True, omit_defaults=True):
    """A token is no longer good."""

    reason: str = ""


# The engine itself: streams `engine/…` and `view/…`.


class EngineStarted(Fact, frozen=True, omit_defaults=True):
    """An engine process took the lease. `epoch` fences everyone before it."""

    version: str
    epoch: int


class EngineStopped(Fact, frozen=True, omit_defaults=True):
    """An engine process ended in order."""

    epoch: int


class ProjectionParked(Fact, frozen=True, omit_defaults=True):
    """A fold failed on an event: this document of this view stays as it was before it."""

    view: str
    key: str
    position: int
    message: str


# Proofs: stream `log/default/checkpoints`.


class CheckpointKeyAdded(Fact, frozen=True, omit_defaults=True):
    """Checkpoints are signed with a further key from now on. `key`: its C2SP verifier key."""

    key: str


class RestoreAccepted(Fact, frozen=True, omit_defaults=True):
    """A person said that a database which does not extend the last known head is right.

    `head` is that head: a signed checkpoint. From here on checkpoints go by another origin.
    """

    reason: str
    head: str


def _all_types() -> dict[str, type[Fact]]:
    return {cls.__name__: cls for cls in Fact.__subclasses__()}


CATALOG: dict[str, type[Fact]] = _all_types()
"""Event type by name: the class's own name."""
