"""All facts that a decision about one target is made on. Pure.

A situation is read from the views at one position and completed with the bodies that a comparison
needs, so that the same log gives the same situation, and the same decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from msgspec import Struct

from engine.decide.assignment import application_spec
from engine.resources.model import ApplicationSpec
from events.vocabulary import Desired, ObjectRef, Presence
from projections.clusters import ClusterDocument, KindState, kind_key
from projections.corrections import CorrectionDocument
from projections.declared import DeclaredDocument, Suspension
from projections.desired import DesiredDocument
from projections.drift import DriftDocument
from projections.fold import TargetId
from projections.observed import ObservedDocument
from projections.sources import SourceDocument
from projections.targets import Adoption, Pin, Request, TargetDocument


class Dependency(Struct, frozen=True):
    """Another application that has to be synced and healthy on the same cluster first.

    `stands` says how it is otherwise, for example "out-of-sync, healthy"; `stream` is its target's.
    """

    name: str
    stream: str
    met: bool
    stands: str


class Situation(Struct, frozen=True, kw_only=True, dict=True):
    """What is known of one target at position `seen`.

    `inventory` lists the objects of the last good render; `observed` has every object of the
    target by identity; `bodies` has kept forms and live bodies under their digests, at least of
    the objects that `suspects` names.
    """

    target: TargetDocument
    application: DeclaredDocument | None
    source: SourceDocument
    desired: DesiredDocument
    cluster: ClusterDocument
    corrections: CorrectionDocument
    drift: DriftDocument
    inventory: tuple[Desired, ...]
    observed: Mapping[str, ObservedDocument]
    bodies: Mapping[str, bytes]
    seen: int
    now: int
    dependencies: tuple[Dependency, ...] = ()

    @property
    def id(self) -> TargetId:
        """The target's name."""
        target = self.target
        return TargetId(target.project, target.application, target.cluster)

    @cached_property
    def spec(self) -> ApplicationSpec | None:
        """The application's specification; None once it is withdrawn."""
        declared = self.application
        return None if declared is None or declared.withdrawn else application_spec(declared)

    @property
    def suspension(self) -> Suspension | None:
        """What suspends the target now: itself, or its application."""
        above = self.application.suspended if self.application else None
        for suspended in (self.target.suspended, above):
            if suspended and not 0 < suspended.until <= self.now:
                return suspended
        return None

    @property
    def is_current(self) -> bool:
        """Whether what the followed ref and the declaration mean is known, good or bad.

        To a target that was rolled back they mean nothing until that is lifted.
        """
        if self.target.pin:
            return True
        if self.application is None or not self.source.commit:
            return False
        failure = self.desired.failure
        evaluated = max(self.desired.declared, failure.declared if failure else 0)
        return self.source.resolved == self.source.commit and evaluated >= self.application.position

    @property
    def open_request(self) -> Request | None:
        """The sync that a person asked for and that has not been answered yet."""
        request, synced = self.target.request, self.target.synced
        if request is None or (synced and synced.position > request.position):
            return None
        return request

    @property
    def adoption(self) -> Adoption | None:
        """The take-over that a person asked for and that has not come to its end."""
        return self.target.adoption

    @property
    def is_fetched(self) -> bool:
        """Whether the open request's look at the repository has happened and gone well."""
        request = self.open_request
        return (
            request is not None
            and self.source.requested >= request.position
            and not (self.source.requested_failed and self.source.failure)
            and self.is_current
        )

    @cached_property
    def run(self) -> int:
        """Which sync the target is in, or was in last: the position of what it is for.

        A render, a rollback or its end, or a person's request once the look that it asks for has
        happened. Never less than that of a sync that was begun.
        """
        target, request = self.target, self.target.request
        is_turn = request is not None and (self.open_request is None or self.is_fetched)
        asked = request.position if request and is_turn else 0
        wanted = target.pin.position if target.pin else max(self.desired.position, target.turned)
        return max(wanted, asked, self.corrections.run)

    @property
    def in_run(self) -> bool:
        """Whether that sync has not come to its end yet."""
        synced = self.target.synced
        return not (
            synced and synced.position > self.run and synced.desired == self.desired.position
        )

    @property
    def is_first(self) -> bool:
        """Whether the target has never been synced, so that this is its installation."""
        return self.target.synced is None

    def kind(self, ref: ObjectRef) -> KindState | None:
        """Return what is known of an object's kind on the cluster."""
        return self.cluster.kinds.get(kind_key(ref.api_version, ref.kind))

    def kind_of_extra(self, ref: ObjectRef) -> KindState | None:
        """Return what is known of the kind of an object that is not desired.

        It is looked at in the version that the desired objects of its kind are written in, where
        there are any.
        """
        versions = self._versions.get((ref.group, ref.kind)) or {ref.api_version}
        states = [self.cluster.kinds.get(kind_key(version, ref.kind)) for version in versions]
        return max(states, key=lambda state: "" if state is None else state.code or " ")

    @cached_property
    def _versions(self) -> Mapping[tuple[str, str], set[str]]:
        versions: dict[tuple[str, str], set[str]] = {}
        for desired in self.inventory:
            ref = desired.ref
            versions.setdefault((ref.group, ref.kind), set()).add(ref.api_version)
        return versions

    def places(self, ref: ObjectRef) -> set[str]:
        """Return the identities that an object may have whose kind's scope is not known."""
        namespaces = {ref.namespace, "", self.target.namespace}
        return {
            ObjectRef(ref.api_version, ref.kind, namespace, ref.name).identity
            for namespace in namespaces
        }

    def placed(self, ref: ObjectRef, kind: KindState) -> ObjectRef:
        """Give a reference the namespace that it has on this target."""
        namespace = (ref.namespace or self.target.namespace) if kind.namespaced else ""
        return ObjectRef(ref.api_version, ref.kind, namespace, ref.name)


def unrecorded(observed: Mapping[str, ObservedDocument]) -> Iterable[str]:
    """Name the live bodies that tell whose work an object is of which no apply is on record."""
    return (
        document.body
        for document in observed.values()
        if document.applied is None and document.body
    )


def in_force(desired: DesiredDocument, pin: Pin | None) -> DesiredDocument:
    """Return the desired state that holds for a target: what it was rolled back to masks others."""
    if pin is None:
        return desired
    return DesiredDocument(
        commit=pin.commit,
        renderer=desired.renderer,
        objects=pin.objects,
        count=pin.count,
        position=pin.desired,
        at=pin.at,
    )


def suspects(
    observed: Mapping[str, ObservedDocument], *, every: bool = False
) -> list[ObservedDocument]:
    """Name the objects that may differ: those that are no longer as the last apply left them.

    All that we applied, where `every` says that what others have in them counts.
    """
    return [
        document
        for document in observed.values()
        if document.applied
        and document.presence is not Presence.ABSENT
        and (every or document.digest != document.applied.digest)
    ]


def asks_for_every_body(situation: Situation) -> bool:
    """Whether what others have in our objects counts here, so that each has to be looked at."""
    spec = situation.spec
    is_foreign = spec is not None and spec.foreign_fields.policy != "allow"
    return is_foreign or situation.adoption is not None
