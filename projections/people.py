"""Who is behind a pseudonym, as far as the log may tell: the sealed name, or that it is forgotten.

Pure: nothing is opened here.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from events.catalog import ActorForgotten, CommitSeen, Fact
from events.event import Event
from projections.fold import names
from projections.projection import SNAPSHOT_EVERY
from projections.timeline import actor_subject, actors_of


class Forgetting(Struct, frozen=True):
    """By whom, when and why somebody was forgotten."""

    position: int
    at: int
    actor: str
    reason: str


class PersonDocument(Struct, frozen=True, omit_defaults=True):
    """A pseudonym, and the newest that was sealed of its name; "" where it is forgotten."""

    actor: str
    sealed: str = ""
    position: int = 0
    forgotten: Forgetting | None = None


class PeopleView:
    """People by pseudonym, their names sealed."""

    name = "people"
    version = 1
    document = PersonDocument
    types = names((CommitSeen, ActorForgotten))
    indexes: tuple[str, ...] = ()
    snapshot_every = SNAPSHOT_EVERY
    present_only: tuple[str, ...] = ()

    def keys(self, event: Event, fact: Fact) -> Iterable[str]:
        """Name those who made the commit, or who was forgotten."""
        return (actor_subject(actor) for actor in actors_of(event, fact))

    def apply(
        self, key: str, document: PersonDocument | None, event: Event, fact: Fact
    ) -> PersonDocument | None:
        """Fold one event."""
        actor = key.rpartition("/")[2]
        known = document or PersonDocument(actor)
        if isinstance(fact, ActorForgotten):
            if known.forgotten:
                return known
            told = Forgetting(event.position, event.recorded_at, event.actor, fact.reason)
            return PersonDocument(actor, forgotten=told)
        if not isinstance(fact, CommitSeen) or known.forgotten:
            return known
        sealed = fact.author if event.actor == actor else ""
        if not sealed and fact.committer is not None and fact.committer.actor == actor:
            sealed = fact.committer.text
        if not sealed:
            return known
        return replace(known, sealed=sealed, position=event.position)

    def index(self, document: PersonDocument) -> tuple[str | None, ...]:
        """Nothing besides the key."""
        return ()

    def subject(self, key: str) -> str | None:
        """The actor."""
        return key


PEOPLE = PeopleView()
