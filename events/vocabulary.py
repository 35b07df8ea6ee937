"""The values that facts are made of: objects, observations, differences, actions, outcomes.

Pure. These shapes are part of the stored format: every change needs a new schema number of all
types in the catalogue that hold them; an added field with a default goes into `events.shapes`, and
anything else needs an upcaster in the codec.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct


class ObjectRef(Struct, frozen=True, order=True):
    """Which Kubernetes object: its API version as declared, kind, namespace ("" where none), name.

    Two references mean the same object when `identity` is equal: a version of an API is only a
    way to look at it.
    """

    api_version: str
    kind: str
    namespace: str
    name: str

    @property
    def group(self) -> str:
        """The API group; "" for the core group."""
        group, slash, _ = self.api_version.partition("/")
        return group if slash else ""

    @property
    def identity(self) -> str:
        """`group/Kind|namespace|name`: what stays the same across API versions."""
        group, slash, _ = self.api_version.partition("/")
        return f"{group if slash else ''}/{self.kind}|{self.namespace}|{self.name}"

    def __str__(self) -> str:
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{place}{self.kind}/{self.name}"


class Desired(Struct, frozen=True, order=True, omit_defaults=True):
    """One object of a desired state: its reference as the manifest wrote it, and its digest.

    The namespace is "" where the manifest names none; the target's default is filled in when the
    object is planned. The digest is that of the redacted canonical JSON, our label and annotation
    included.
    """

    ref: ObjectRef
    digest: str
    secret: bool = False
    """Whether the body was redacted, so that an apply has to render it again."""
    wave: int = 0
    """Its wave: lower ones are applied, and healthy, before higher ones."""
    hooks: tuple[str, ...] = ()
    """The phases of a sync that it is a hook of; () for what is no hook."""
    cleanup: tuple[str, ...] = ()
    """When a hook's object is deleted."""


class Presence(StrEnum):
    """Whether an object is there."""

    PRESENT = "present"
    TERMINATING = "terminating"
    ABSENT = "absent"


class Health(StrEnum):
    """How an object, or a target as a whole, fares. The order here is from best to worst."""

    HEALTHY = "healthy"
    SUSPENDED = "suspended"
    PROGRESSING = "progressing"
    UNKNOWN = "unknown"
    MISSING = "missing"
    DEGRADED = "degraded"


class Observation(Struct, frozen=True, omit_defaults=True):
    """What was seen of one object of ours: a change of what counts.

    `digest` covers what counts as a change (the fields that we own with their values, who owns
    what else, health, presence). `body` names the redacted live object without its status.
    `application` is `project/name` as the object's owner annotation says.
    """

    ref: ObjectRef
    presence: Presence
    uid: str = ""
    resource_version: str = ""
    digest: str = ""
    body: str | None = None
    application: str = ""
    health: Health = Health.UNKNOWN
    message: str = ""
    kept: str | None = None
    """Set where the kept form was rebased without an apply (the server reads it differently)."""


class DifferenceKind(StrEnum):
    """The ways in which a live object can differ."""

    MISSING = "missing"
    CHANGED = "changed"
    REMOVED = "removed"
    REORDERED = "reordered"
    RECREATED = "recreated"
    FOREIGN = "foreign"
    EXTRA = "extra"
    MUTATED = "mutated-on-admission"
    OWNERSHIP_LOST = "ownership-lost"
    IGNORED = "ignored"
    """It would be drift, or what Git says, and the application's ignoreDifferences names it."""
    ACCEPTED = "accepted"
    """It would be drift, and a person accepted it for a while."""

    @property
    def is_drift(self) -> bool:
        """Whether this asks for a correction; the others are shown, and left."""
        return self in _DRIFT


_DRIFT = frozenset(
    {
        DifferenceKind.MISSING,
        DifferenceKind.CHANGED,
        DifferenceKind.REMOVED,
        DifferenceKind.REORDERED,
        DifferenceKind.RECREATED,
    }
)


class Difference(Struct, frozen=True, omit_defaults=True):
    """One difference of one object, and who made it as far as the API server knows.

    `path` is written as kubectl and managedFields do: `.spec.containers[name="app"].image`; "" is
    the whole object. `before` is what should be (or was), `after` what is; None also where there
    is no value, which `kind` tells apart. `time` is that manager's latest change (RFC 3339), not
    that field's.
    """

    kind: DifferenceKind
    ref: ObjectRef
    path: str = ""
    before: Any = None
    after: Any = None
    manager: str = ""
    operation: str = ""
    subresource: str = ""
    time: str = ""


class Verb(StrEnum):
    """What a correction does to one object."""

    APPLY = "apply"
    DELETE = "delete"
    REMOVE = "remove-fields"
    """Take fields out that nobody declared, by a JSON patch that tests what it removes."""


class FieldRule(Struct, frozen=True, omit_defaults=True):
    """Fields of an object: at or below a path, or of a manager; where both are said, both hold.

    `path` is written as differences show it (`.spec.replicas`), or as a JSON pointer.
    """

    path: str = ""
    manager: str = ""
    subresource: str = ""
    adopted: bool = False
    """Left until Git says something else of the object, and not only while a rule says so."""


class Action(Struct, frozen=True, omit_defaults=True):
    """One bare step of a plan. `reason` is one of the words of `engine.decide`.

    `uid`, `resource_version` and `observed` (the digest of the observation) are what the decision
    saw; "" means that the object is not there as far as is known. The deed is done only while the
    object still counts as the same: a new resourceVersion with the same digest is mere status.
    `force` is false at first contact with an object that is not ours. An apply leaves the fields
    in `leave` as they are live. `adopt`: it takes over what other tools manage; `managers` are
    further ones, `owners` applications (`project/name`) whose object may be taken. A removal of
    fields names them in `paths`.
    """

    verb: Verb
    ref: ObjectRef
    reason: str
    desired: str = ""
    secret: bool = False
    uid: str = ""
    resource_version: str = ""
    observed: str = ""
    force: bool = False
    wave: int = 0
    leave: tuple[FieldRule, ...] = ()
    adopt: bool = False
    managers: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    hook: str = ""
    """The phase of the sync, where this runs or removes a hook."""


class Outcome(StrEnum):
    """What became of an action."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    DELETED = "deleted"
    GONE = "gone"
    """To be deleted, and it was no longer there."""
    STALE = "stale"
    """The object moved on since it was observed (409): look again."""
    CONFLICT = "conflict"
    INVALID = "invalid"
    FORBIDDEN = "forbidden"
    UNREACHABLE = "unreachable"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Not tried, because an earlier step that it needs failed."""

    @property
    def is_success(self) -> bool:
        """Whether the action's end was reached."""
        return self in _SUCCESS


_SUCCESS = frozenset(
    {Outcome.CREATED, Outcome.CHANGED, Outcome.UNCHANGED, Outcome.DELETED, Outcome.GONE}
)


class ConfigurationProblem(Struct, frozen=True, omit_defaults=True):
    """What is wrong with a control repository, and where.

    `line` is 0 where it is not known, `field` "" for the whole document or file.
    """

    file: str
    line: int
    field: str
    message: str
    hint: str = ""


class Result(Struct, frozen=True, omit_defaults=True):
    """What an action came to, with what the API server answered.

    `kept` names the kept form: our field set of the answer with its values. `mutated` lists what
    admission altered, or rules in `left` have kept. `message` explains a failure; `managers` are
    those in conflict.
    """

    verb: Verb
    ref: ObjectRef
    outcome: Outcome
    desired: str = ""
    uid: str = ""
    resource_version: str = ""
    kept: str | None = None
    observed: Observation | None = None
    mutated: tuple[Difference, ...] = ()
    message: str = ""
    managers: tuple[str, ...] = ()
    left: tuple[FieldRule, ...] = ()


class SealedActor(Struct, frozen=True, omit_defaults=True):
    """Somebody besides the event's own actor: a pseudonym, and the name sealed under it."""

    actor: str
    text: str = ""
