"""What people declared, and whether they suspended it. One document a resource.

Pure. A withdrawn resource stays as a document without an index entry, so that what its end asked
for (`cascade`) can still be carried out.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from events.catalog import Declared, Fact, Resumed, Suspended, Withdrawn
from events.event import Event
from projections.fold import StreamFold, names


class Suspension(Struct, frozen=True):
    """Who suspended, why, and where in the log it says so; `until` when, 0 for ever."""

    reason: str
    actor: str
    position: int
    at: int
    until: int = 0


class DeclaredDocument(Struct, frozen=True, omit_defaults=True):
    """A declared resource as it stands. `position` and `at` are those of its last declaration.

    `owner` is the stream of the control repository that declared it, "" where a person did;
    `file` and `commit` say where it stood when it last changed.
    """

    kind: str
    project: str
    name: str
    spec: dict[str, Any]
    labels: dict[str, str]
    position: int
    at: int
    actor: str
    withdrawn: bool = False
    cascade: bool = False
    suspended: Suspension | None = None
    owner: str = ""
    file: str = ""
    commit: str = ""


class DeclaredView(StreamFold[DeclaredDocument]):
    """Resources by stream; while declared, indexed by kind, an application's repository, owner."""

    name = "declared"
    version = 3
    document = DeclaredDocument
    types = names((Declared, Withdrawn, Suspended, Resumed))
    kinds = ("repo", "cluster", "app", "notification")
    indexes: tuple[str, ...] = ("kind", "repository", "owner")

    def apply(
        self, key: str, document: DeclaredDocument | None, event: Event, fact: Fact
    ) -> DeclaredDocument | None:
        """Fold one event."""
        match fact:
            case Declared():
                _, project, name = key.split("/", 2)
                return DeclaredDocument(
                    kind=fact.kind,
                    project=project,
                    name=name,
                    spec=fact.spec,
                    labels=fact.labels,
                    position=event.position,
                    at=event.recorded_at,
                    actor=event.actor,
                    suspended=document.suspended if document else None,
                    owner=fact.owner,
                    file=fact.file,
                    commit=fact.commit,
                )
            case Withdrawn() if document:
                return replace(
                    document,
                    withdrawn=True,
                    cascade=fact.cascade,
                    position=event.position,
                    at=event.recorded_at,
                    actor=event.actor,
                    suspended=None,
                )
            case Suspended() if document:
                return replace(document, suspended=suspension(event, fact))
            case Resumed() if document:
                return replace(document, suspended=None)
        return document

    def index(self, document: DeclaredDocument) -> tuple[str | None, ...]:
        """The kind, the repository's stream and the owner's, while declared."""
        if document.withdrawn:
            return (None, None, None)
        owner = document.owner or None
        if document.kind != "Application":
            return (document.kind, None, owner)
        repository = document.spec["source"]["repository"]
        return (document.kind, f"repo/{document.project}/{repository}", owner)


def suspension(event: Event, fact: Suspended) -> Suspension:
    """Note who suspended, and why."""
    return Suspension(fact.reason, event.actor, event.position, event.recorded_at, fact.until)


DECLARED = DeclaredView()
