"""What the reconciler needs of the world, and what the world answers.

The reconciler and the decisions see these shapes only; `engine.compose` puts the real sources,
renderers and clusters behind them, and tests put fakes that pass the same contract tests.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from msgspec import Struct

from engine.resources.model import Render
from events.event import Blob, EventId, Micros
from events.vocabulary import Desired, FieldRule, ObjectRef, Observation, Outcome


class Clock(Protocol):
    """Time and chance, so that tests can have their own."""

    def now(self) -> Micros:
        """Wall time, UTC microseconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards, for time-outs and durations."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def random(self) -> float:
        """A number in [0, 1), for jitter."""
        ...

    def event_id(self) -> EventId:
        """A fresh UUIDv7."""
        ...


class Owner(Struct, frozen=True):
    """Whose objects these are: written into each object's annotation and, hashed, its label."""

    log_id: str
    project: str
    application: str

    @property
    def annotation(self) -> str:
        """The value of `trueup.dev/owner`."""
        return f"{self.log_id}/{self.project}/{self.application}"


class Rendered(Struct, frozen=True):
    """What a commit renders to.

    `objects` is sorted and has no two of one identity; `bodies` has the redacted canonical JSON of
    each under its digest; `secrets` has the bodies that were redacted, whole, by identity: in
    memory only, for the apply at hand, never to be stored.
    """

    inputs: str
    renderer: str
    objects: tuple[Desired, ...]
    bodies: Mapping[str, bytes]
    secrets: Mapping[str, dict[str, Any]]


class RenderRefused(Exception):
    """A commit does not render. `code` is stable; `file`, `document` (from 1), `line` say where."""

    def __init__(
        self, code: str, message: str, *, file: str = "", document: int = 0, line: int = 0
    ) -> None:
        super().__init__(message)
        self.code, self.message = code, message
        self.file, self.document, self.line = file, document, line


class Tree(Protocol):
    """The files of one commit, read from a mirror without a checkout."""

    @property
    def commit(self) -> str:
        """The commit's full id."""
        ...

    async def entries(self, path: str) -> Mapping[str, TreeEntry]:
        """Return the entries of a folder by name; raises `RenderRefused("path-missing")`."""
        ...

    async def entry(self, path: str) -> TreeEntry | None:
        """Return what is at a path, None where there is nothing."""
        ...

    async def read(self, ids: Collection[str]) -> Mapping[str, bytes]:
        """Return file bodies by blob id; raises `RenderRefused("too-large")` over the limit."""
        ...


class TreeEntry(Struct, frozen=True):
    """A file, folder, symlink or submodule of a commit. `id` is Git's object id."""

    kind: str
    """file, executable, tree, symlink or submodule."""
    id: str
    size: int = 0


class Renderer(Protocol):
    """From the files of a commit to objects."""

    async def inputs(self, tree: Tree, path: str, render: Render, owner: Owner) -> str:
        """Return the digest of all that a render would depend on, without rendering.

        Equal digests mean equal renders: so a commit that leaves it alone does not touch the
        application. Raises `RenderRefused`.
        """
        ...

    async def render(self, tree: Tree, path: str, render: Render, owner: Owner) -> Rendered:
        """Render. Raises `RenderRefused`."""
        ...


class ApplyRequest(Struct, frozen=True):
    """One server-side apply. `body` is whole (not redacted) and carries our label and annotation.

    `uid`, `resource_version` and `observed` (an observation's digest) are preconditions where not
    "": where the object has another resourceVersion, but the same digest, the apply goes on with
    the new one; where the digest is another too, the outcome is STALE. `desired` is the digest
    that the body came from. Fields that `leave` is about keep the live value. `adopt` takes over
    what other tools manage, `managers` further ones, and an object of one of the applications
    `owners` (`project/name`).
    """

    ref: ObjectRef
    body: dict[str, Any]
    desired: str
    force: bool
    uid: str = ""
    resource_version: str = ""
    observed: str = ""
    leave: tuple[FieldRule, ...] = ()
    adopt: bool = False
    managers: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()


class Answer(Struct, frozen=True):
    """What came of one request, in the log's terms; `blobs` are the bodies that it names."""

    outcome: Outcome
    uid: str = ""
    resource_version: str = ""
    kept: str | None = None
    observed: Observation | None = None
    mutated: tuple[Any, ...] = ()
    message: str = ""
    managers: tuple[str, ...] = ()
    blobs: tuple[Blob, ...] = ()
    retry_after: float | None = None
    """Seconds, where the server said so."""


class NotRehearsed(Exception):
    """What a plan would come to cannot be asked now; the message says why."""


class KindInfo(Struct, frozen=True):
    """What discovery says of a kind."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool
    verbs: frozenset[str]


class ClusterPort(Protocol):
    """One Kubernetes API. Every deed returns an `Answer`; only cancellation is raised."""

    @property
    def ready(self) -> bool:
        """Whether the cluster answers and every wanted kind was listed, or found unreadable.

        What was observed until then is appended to the log before this turns true.
        """
        ...

    async def until_ready(self) -> None:
        """Wait until `ready`."""
        ...

    async def want(self, application: str, kinds: Collection[tuple[str, str]]) -> None:
        """Say which (apiVersion, kind) an application (`project/name`) uses here; () for none.

        The cluster observes the union over its applications.
        """
        ...

    async def kind(self, api_version: str, kind: str) -> KindInfo | None:
        """Look a kind up in discovery, refreshed when unknown; None where there is none."""
        ...

    async def apply(self, request: ApplyRequest) -> Answer:
        """Server-side apply as manager `trueup`."""
        ...

    async def delete(
        self, ref: ObjectRef, uid: str, resource_version: str, observed: str
    ) -> Answer:
        """Delete in the background, with the same preconditions as an apply."""
        ...

    async def remove_fields(
        self, ref: ObjectRef, uid: str, observed: str, paths: Collection[str]
    ) -> Answer:
        """Take foreign fields out, each named as a difference shows it, if they are as observed."""
        ...

    async def rehearse(self, request: ApplyRequest) -> Answer:
        """Ask by a dry run what an apply would come to: nothing is written, nothing observed."""
        ...

    async def rehearse_delete(self, ref: ObjectRef, uid: str) -> Answer:
        """The same of a delete."""
        ...

    async def established(self, name: str, timeout: float) -> bool:
        """Wait until a CustomResourceDefinition is Established; False after `timeout` seconds."""
        ...
