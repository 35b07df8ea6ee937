"""Who is behind a pseudonym: sealed when a commit is seen, opened for whoever is logged in.

Names are in events only as `events.sealed` seals them, and the keys are outside the events. To
forget somebody is to destroy the key: nothing that was recorded changes, and nobody can read it.
A forgotten actor stays forgotten: later commits of the same pseudonym would name the earlier ones.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping

from msgspec import Struct

from events.actor_keys import ActorKeys
from events.catalog import ActorForgotten
from events.codec import fact_of
from events.event import START, Actor
from events.log import EventLog
from events.sealed import KEY_BYTES, NONCE_BYTES, Person, SealBroken, seal, unseal
from projections.people import PEOPLE, PersonDocument
from projections.projection import Reader
from projections.timeline import actor_subject

_PAGE = 1000


class Known(Struct, frozen=True):
    """What may be told of a pseudonym. `person`: None where forgotten, or never kept."""

    document: PersonDocument
    person: Person | None


class People:
    """Seals names, opens them, and destroys what opens them."""

    def __init__(self, keys: ActorKeys) -> None:
        self._keys = keys

    async def seal(self, people: Mapping[Actor, Person]) -> Mapping[Actor, str]:
        """Seal who these actors are; the forgotten are left out. Raises `LogError`."""
        if not people:
            return {}
        fresh = {actor: secrets.token_bytes(KEY_BYTES) for actor in people}
        keys = await self._keys.keep(fresh)
        return {
            actor: seal(people[actor], actor, key, secrets.token_bytes(NONCE_BYTES))
            for actor, key in keys.items()
        }

    async def known(self, reader: Reader, actors: Collection[str]) -> Mapping[str, Known]:
        """Return what may be told of these pseudonyms; those that no commit has are left out."""
        wanted = {actor_subject(actor) for actor in actors if actor.startswith("git:")}
        if not wanted:
            return {}
        found = await reader.get_many(PEOPLE, wanted)
        documents = [item.document for item in found.values()]
        sealed = [Actor(document.actor) for document in documents if document.sealed]
        keys = await self._keys.get(sealed)
        return {document.actor: Known(document, _opened(document, keys)) for document in documents}

    async def names(self, reader: Reader, actors: Collection[str]) -> Mapping[str, str]:
        """Return how to call these pseudonyms, where there is more to say than the pseudonym."""
        known = await self.known(reader, actors)
        names = {actor: label(one) for actor, one in known.items()}
        return {actor: name for actor, name in names.items() if name}

    async def forget(self, actors: Collection[Actor]) -> None:
        """Destroy what opens these actors' names, for good. Raises `LogError`."""
        await self._keys.forget(actors)


def label(known: Known) -> str:
    """Return a name to be shown: "forgotten" for whoever is, "" where none is known."""
    if known.document.forgotten:
        return "forgotten"
    return (known.person.name or known.person.email) if known.person else ""


def _opened(document: PersonDocument, keys: Mapping[Actor, bytes]) -> Person | None:
    actor = Actor(document.actor)
    if not document.sealed or document.forgotten or actor not in keys:
        return None
    try:
        return unseal(document.sealed, actor, keys[actor])
    except SealBroken:
        # Sealed with a key that a restore has lost: as good as never kept.
        return None


async def forget_again(log: EventLog, people: People) -> None:
    """Destroy the keys of all of whom the log says that they are forgotten.

    An engine may have been killed between the word and the deed, and a restore brings keys back.
    """
    after = START
    while page := await log.read(after, _PAGE, types=[ActorForgotten.__name__]):
        facts = [fact_of(event) for event in page]
        await people.forget([Actor(f.actor) for f in facts if isinstance(f, ActorForgotten)])
        after = page[-1].position
