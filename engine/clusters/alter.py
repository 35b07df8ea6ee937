"""Deeds that look at the whole live object first: sparing its values, taking over, taking out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from engine.clusters import deed
from engine.clusters.connect import Connection, Refused
from engine.clusters.deed import Before, NotSent
from engine.clusters.look import Eyes, look
from engine.clusters.memory import Memory
from engine.clusters.observe import Observer
from engine.clusters.wire import Response, header, object_of
from engine.objects.foreign import foreign_found
from engine.objects.left import spared
from engine.objects.ownership import MANAGER
from engine.objects.removal import removal
from engine.objects.takeover import adopted
from engine.ports import Answer, ApplyRequest
from events.vocabulary import FieldRule, ObjectRef, Outcome

_JSON_PATCH = "application/json-patch+json"
_TRIES = 4


class Alterations:
    """What is done to one cluster's objects besides plain applies and deletes.

    `doubt` has an object looked at once its deed has ended.
    """

    def __init__(
        self,
        connection: Connection,
        memory: Memory,
        observer: Observer,
        eyes: Eyes,
        doubt: Callable[[ObjectRef], None],
    ) -> None:
        self._connection, self._memory, self._observer = connection, memory, observer
        self._eyes, self._doubt = eyes, doubt

    async def adopt(self, request: ApplyRequest, path: str, before: Before) -> Before:
        """Make the fields of other tools ours, where they have some; nothing else changes.

        Raises `NotSent` where the object has moved on, and what a request raises.
        """
        live, before = await self._now(request.ref, path, before)
        patch = adopted(live, request.ref.api_version, request.managers)
        if not patch:
            return before
        response = await self._json_patch(path, patch)
        if not response.is_success:
            raise Refused(response)
        # Whose the fields are counts, so that the observation that was decided on is no more.
        version = header(response.body).resource_version
        return Before(before.uid, version, before.entry, altered=True)

    async def spared(
        self, request: ApplyRequest, path: str, before: Before, rules: Sequence[FieldRule]
    ) -> tuple[Before, dict[str, Any]]:
        """Return what to send so that fields that rules are about stay as they are live.

        Raises `NotSent` where the object has moved on, and what a request raises.
        """
        live, before = await self._now(request.ref, path, before)
        return before, spared(request.body, live, rules)

    async def remove(
        self, ref: ObjectRef, path: str, before: Before, paths: frozenset[str]
    ) -> Answer:
        """Take out foreign fields of these shown paths, as long as they are as they are read.

        Raises `NotSent` where the object has moved on, and what a request raises.
        """
        is_secret = ref.kind == "Secret"
        for _ in range(_TRIES):
            live, before = await self._now(ref, path, before)
            kept = await self._observer.kept_form(ref)
            found = foreign_found(kept, live, ref)
            patch = removal(live, [item.path for item in found if item.difference.path in paths])
            if not patch:
                return Answer(outcome=Outcome.UNCHANGED, uid=before.uid)
            response = await self._json_patch(path, patch)
            if response.is_success:
                seen = look(ref, object_of(response.body), self._eyes)
                verdict = self._observer.applied(seen, kept, is_frozen=False)
                return Answer(
                    outcome=Outcome.CHANGED,
                    uid=seen.uid,
                    resource_version=seen.version,
                    observed=verdict.observation,
                    blobs=verdict.blobs,
                )
            answer = deed.refused(response, is_secret)
            if answer.outcome is not Outcome.STALE:
                return answer
        self._doubt(ref)
        return deed.stale("The object changes faster than its fields can be taken out.")

    async def _now(
        self, ref: ObjectRef, path: str, before: Before
    ) -> tuple[dict[str, Any], Before]:
        """Fetch an object, whole. Raises `NotSent` where more than its status has moved on."""
        response = await self._connection.request("GET", path)
        if response.status == 404:
            raise NotSent(deed.stale("The object is gone since it was observed."))
        if not response.is_success:
            raise Refused(response)
        live = object_of(response.body)
        seen = look(ref, live, self._eyes)
        if seen.uid != before.uid:
            raise NotSent(deed.stale("The object was made anew since it was observed."))
        if seen.version == before.version:
            return live, before
        entry = self._memory.get(ref)
        if entry is None or not before.by_digest or not await self._observer.unmoved(entry, seen):
            self._doubt(ref)
            raise NotSent(deed.stale("The object has changed since it was observed."))
        entry = self._memory.get(ref)
        return live, Before(seen.uid, seen.version, entry, True, altered=before.altered)

    async def _json_patch(self, path: str, patch: list[dict[str, Any]]) -> Response:
        return await self._connection.request(
            "PATCH",
            path,
            params={"fieldManager": MANAGER},
            body=orjson.dumps(patch),
            content_type=_JSON_PATCH,
        )
