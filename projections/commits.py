"""Which commits are known: one document a commit and project, so that a short id can be found.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from events.catalog import CommitSeen, Fact, RefMoved
from events.event import Event
from projections.fold import names
from projections.projection import SNAPSHOT_EVERY
from projections.timeline import commit_subject


class CommitDocument(Struct, frozen=True, omit_defaults=True):
    """A commit as first seen. `author` is a pseudonym; `position` is 0 where only a ref named it.

    `repositories` names those of the project that have it.
    """

    commit: str
    repositories: tuple[str, ...]
    position: int = 0
    at: int = 0
    subject: str = ""
    author: str = ""
    parents: tuple[str, ...] = ()


class CommitsView:
    """Commits by `project/sha`."""

    name = "commits"
    version = 1
    document = CommitDocument
    types = names((CommitSeen, RefMoved))
    indexes: tuple[str, ...] = ()
    snapshot_every = SNAPSHOT_EVERY
    present_only: tuple[str, ...] = ()

    def keys(self, event: Event, fact: Fact) -> Iterable[str]:
        """Name the commit."""
        kind, project, _ = event.stream.split("/", 2)
        if kind == "repo" and isinstance(fact, CommitSeen | RefMoved):
            yield commit_key(project, fact.commit)

    def apply(
        self, key: str, document: CommitDocument | None, event: Event, fact: Fact
    ) -> CommitDocument | None:
        """Fold one event."""
        repository = event.stream.split("/", 2)[2]
        commit = key.partition("/")[2]
        known = document or CommitDocument(commit, ())
        if repository not in known.repositories:
            known = replace(known, repositories=(*known.repositories, repository))
        if isinstance(fact, CommitSeen) and not known.position:
            known = replace(
                known,
                position=event.position,
                at=event.recorded_at,
                subject=fact.subject,
                author=event.actor,
                parents=fact.parents,
            )
        return known

    def index(self, document: CommitDocument) -> tuple[str | None, ...]:
        """Nothing besides the key."""
        return ()

    def subject(self, key: str) -> str | None:
        """The commit."""
        return commit_subject(key.partition("/")[2])


def commit_key(project: str, commit: str) -> str:
    """Return the key of a commit's document; of its first digits, the prefix of its key."""
    return f"{project}/{commit}"


COMMITS = CommitsView()
