"""Deeds: server-side apply and delete, each with its preconditions, each with an outcome.

A deed says which observation it was decided on. The object's resourceVersion may have moved on
since through mere status, so what counts is the observation's digest: while that is the same, the
deed goes on with the new version; else it is stale, and what is there now is looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import orjson
from msgspec.structs import replace

from engine.clusters import deed
from engine.clusters.alter import Alterations
from engine.clusters.connect import Connection, Refused, Unreachable
from engine.clusters.deed import Before, NotSent
from engine.clusters.discovery import Discovery, KindUnknown
from engine.clusters.look import Eyes, look
from engine.clusters.memory import Held, Memory
from engine.clusters.observe import Observer
from engine.clusters.status import lacks_namespace
from engine.clusters.wire import Garbage, Response, header, object_of
from engine.objects.displaced import taken_over
from engine.objects.identity import ObjectRefused
from engine.objects.kept import Kept, freeze
from engine.objects.mutated import mutated
from engine.objects.ownership import MANAGER
from engine.objects.prepare import is_secret
from engine.ports import Answer, ApplyRequest, KindInfo
from events.vocabulary import FieldRule, Health, ObjectRef, Observation, Outcome, Presence

_APPLY = "application/apply-patch+yaml"
_JSON_PATCH = "application/json-patch+json"
_TRIES = 4
"""How often a deed is sent while only the object's status moves on."""

DesiredBody = Callable[[ObjectRef], Awaitable[dict[str, Any] | None]]
"""The whole body that was last applied to an object; None where it is not to be had."""

_Done = Callable[[ObjectRef, KindInfo], Awaitable[Answer]]

_logger = logging.getLogger(__name__)


class Deeds:
    """Carries out applies and deletes on one cluster."""

    def __init__(
        self,
        *,
        connection: Connection,
        discovery: Discovery,
        memory: Memory,
        observer: Observer,
        eyes: Eyes,
        desired_body: DesiredBody | None,
        trouble: Callable[[], None],
        contradicted: Callable[[str, str], None],
        unseen: Callable[[ObjectRef], bool],
    ) -> None:
        self._connection, self._discovery = connection, discovery
        self._memory, self._observer, self._eyes = memory, observer, eyes
        self._desired_body, self._trouble = desired_body, trouble
        self._contacts = deed.Contacts()
        self._alterations = Alterations(connection, memory, observer, eyes, self._doubt)
        self._contradicted, self._unseen = contradicted, unseen
        self._doubted: set[str] = set()
        """Objects whose last deed had no answer, so that no memory of them counts: by identity."""

    async def apply(self, request: ApplyRequest) -> Answer:
        """Apply. Every failure is an answer."""
        secret = is_secret(request.body)

        async def done(ref: ObjectRef, info: KindInfo) -> Answer:
            return await self._apply(replace(request, ref=ref), info, secret)

        return await self._carried(request.ref, secret, done)

    async def delete(self, ref: ObjectRef, uid: str, version: str, observed: str) -> Answer:
        """Delete in the background. Every failure is an answer."""
        if not uid:
            return deed.invalid("A delete needs the uid of the object that was observed.")

        async def done(ref: ObjectRef, info: KindInfo) -> Answer:
            return await self._delete(info, ref, uid, version, observed)

        return await self._carried(ref, ref.kind == "Secret", done)

    async def remove_fields(
        self, ref: ObjectRef, uid: str, observed: str, paths: Collection[str]
    ) -> Answer:
        """Take foreign fields out. Every failure is an answer."""

        async def done(ref: ObjectRef, info: KindInfo) -> Answer:
            path, before = deed.path_of(info, ref), self._precondition(ref, uid, "", observed)
            return await self._alterations.remove(ref, path, before, frozenset(paths))

        return await self._carried(ref, ref.kind == "Secret", done)

    async def fetch(self, ref: ObjectRef) -> bytes | None:
        """GET an object; None where there is none.

        Raises `Unreachable`, `KindUnknown`, and `Refused` for any other answer.
        """
        info = await self._discovery.find(ref.api_version, ref.kind)
        try:
            path = deed.path_of(info, ref)
        except NotSent as error:
            raise KindUnknown("no-such-kind", error.answer.message) from None
        response = await self._connection.request("GET", path)
        if response.status == 404:
            return None
        if response.status == 401:
            raise Unreachable("unauthorised", "The cluster refuses our credentials.")
        if not response.is_success:
            raise Refused(response)
        return response.body

    async def reread(self, ref: ObjectRef, uid: str) -> Kept | None:
        """Ask by a dry run how the server reads what was last applied; None if it cannot be told.

        Raises nothing: without an answer a difference simply stays one.
        """
        body = await self._desired_body(ref) if self._desired_body is not None else None
        if body is None:
            return None
        try:
            info = await self._discovery.find(ref.api_version, ref.kind)
            whole = deed.sent(body, info, ref, uid, "")
            response = await self._patch(deed.path_of(info, ref), whole, force=True, dry_run=True)
            if not response.is_success:
                return None
            answer, _ = self._eyes.redact(object_of(response.body))
            shown, _ = self._eyes.redact(body)
            return freeze(answer, sent=shown)
        except (Unreachable, KindUnknown, NotSent, Garbage, ObjectRefused) as error:
            _logger.info("how the server reads %s now cannot be told: %s", ref, error)
            return None

    async def _carried(self, ref: ObjectRef, secret: bool, done: _Done) -> Answer:
        """Do a deed while its object's events are held; turn what goes wrong into an answer."""
        try:
            info = await self._discovery.find(ref.api_version, ref.kind)
        except KindUnknown as error:
            return Answer(outcome=Outcome.FAILED, message=error.message)
        except Unreachable as error:
            self._trouble()
            return deed.unreachable(error)
        if not info.namespaced:
            ref = replace(ref, namespace="")
        self._memory.begin(ref.identity)
        try:
            answer = await self._attempt(ref, info, secret, done)
        finally:
            # Where this is cancelled, the reader ends too and lists afresh when it starts.
            held = self._memory.end(ref.identity)
        if held is not None:
            await self._release(held)
        if answer.outcome is Outcome.UNREACHABLE:
            # Also where it was answered: a login that has expired is found out by a refusal.
            self._trouble()
        return answer

    async def _attempt(self, ref: ObjectRef, info: KindInfo, secret: bool, done: _Done) -> Answer:
        try:
            return await done(ref, info)
        except NotSent as error:
            return error.answer
        except Refused as error:
            return deed.refused(error.response, secret)
        except Unreachable as error:
            self._doubt(ref)
            return deed.unreachable(error)
        except (Garbage, ObjectRefused) as error:
            self._doubt(ref)
            return Answer(outcome=Outcome.UNREACHABLE, message=f"The server's answer has {error}.")

    async def _release(self, held: Held) -> None:
        try:
            await self._observer.released(held)
        except (Unreachable, Refused, KindUnknown, Garbage, ObjectRefused) as error:
            # It stays a stray, or comes again with the next list.
            _logger.info("what became of %s cannot be told yet: %s", held.ref, error)

    def _doubt(self, ref: ObjectRef) -> None:
        """Have the object looked at once the deed has ended: its effect is not known."""
        self._doubted.add(ref.identity)
        self._memory.hold(Held(ref, left=True))

    async def _apply(self, request: ApplyRequest, info: KindInfo, secret: bool) -> Answer:
        path = deed.path_of(info, request.ref)
        if request.uid:
            before = self._precondition(
                request.ref, request.uid, request.resource_version, request.observed
            )
            return await self._sent(request, info, secret, path, before)
        # One after the other: who looked before another application made it would not see that.
        async with self._contacts.of(request.ref.identity):
            made = None
            if self._is_new(request):
                made = await self._made(request, info, secret, path)
                if made.outcome.is_success:
                    return made
            before = await self._first_contact(request, path)
            if made and made.outcome is Outcome.INVALID and not before.uid:
                # It is not there: to send it again would be refused again.
                return made
            return await self._sent(request, info, secret, path, before)

    def _is_new(self, request: ApplyRequest) -> bool:
        """Whether the object needs no look before it is made: a whole list and its watch lack it.

        They have every object that belongs to an application, another log's too. What else may be
        there is nobody's, and without force nothing is taken from it.
        """
        careful = request.force or request.adopt or request.leave
        identity = request.ref.identity
        return not careful and identity not in self._doubted and self._unseen(request.ref)

    async def _made(self, request: ApplyRequest, info: KindInfo, secret: bool, path: str) -> Answer:
        """Apply without a look; where that is refused, looking tells more."""
        body = deed.sent(request.body, info, request.ref, "", "")
        response = await self._patch(path, body, force=False)
        if not response.is_success:
            return deed.refused(response, secret)
        return self._answered(request, Before(), response, deed.rules_of(request))

    async def _sent(
        self, request: ApplyRequest, info: KindInfo, secret: bool, path: str, before: Before
    ) -> Answer:
        if request.adopt and before.uid:
            before = await self._alterations.adopt(request, path, before)
        rules = deed.rules_of(request)
        taken: Before | None = None
        for _ in range(_TRIES):
            whole = request.body
            if rules and before.uid:
                before, whole = await self._alterations.spared(request, path, before, rules)
            body = deed.sent(whole, info, request.ref, before.uid, before.version)
            response = await self._patch(path, body, force=request.force or request.adopt)
            if response.is_success:
                return self._answered(request, before, response, rules)
            answer = deed.refused(response, secret)
            if response.status == 404:
                self._discovery.forget(request.ref.api_version)
                self._missing_namespace(request.ref, response)
            if answer.outcome is Outcome.INVALID and request.force and not taken:
                taken = await self._taken_over(request, before, path)
                if taken is not None:
                    before = taken
                    continue
            if answer.outcome is not Outcome.STALE:
                return answer
            moved = await self._moved(request.ref, before, path)
            if moved is None:
                self._doubt(request.ref)
                return answer
            before = moved
        return deed.stale("The object's status changes faster than it can be applied.")

    def _missing_namespace(self, ref: ObjectRef, response: Response) -> None:
        """Say so where the server does not have a namespace that was observed to be there."""
        entry = self._memory.get(ObjectRef("v1", "Namespace", "", ref.namespace))
        if entry and entry.presence is not Presence.ABSENT and lacks_namespace(response):
            self._contradicted("v1", "Namespace")

    async def _delete(
        self, info: KindInfo, ref: ObjectRef, uid: str, version: str, observed: str
    ) -> Answer:
        path = deed.path_of(info, ref)
        before = self._precondition(ref, uid, version, observed)
        for _ in range(_TRIES):
            response = await self._connection.request(
                "DELETE", path, body=deed.delete_options(before.uid, before.version)
            )
            if response.status == 404:
                return Answer(
                    outcome=Outcome.GONE, uid=uid, observed=self._ended(ref, uid, version)
                )
            if response.is_success:
                return self._deleted(ref, uid, version, response)
            answer = deed.refused(response, ref.kind == "Secret")
            if answer.outcome is not Outcome.STALE:
                return answer
            moved = await self._moved(ref, before, path)
            if moved is None:
                self._doubt(ref)
                return answer
            before = moved
        return deed.stale("The object's status changes faster than it can be deleted.")

    def _precondition(self, ref: ObjectRef, uid: str, version: str, observed: str) -> Before:
        """Return what to send. Raises `NotSent` where it is known already that all has changed."""
        entry = self._memory.get(ref)
        if entry is None or entry.presence is Presence.ABSENT or not uid:
            return Before(uid, version, entry)
        if entry.uid != uid:
            raise NotSent(deed.stale("The object was made anew since it was observed."))
        if not observed:
            return Before(uid, version, entry)
        if entry.digest != observed:
            raise NotSent(deed.stale("The object has changed since it was observed."))
        return Before(uid, entry.version, entry, by_digest=True)

    async def _first_contact(self, request: ApplyRequest, path: str) -> Before:
        """Look whose it is, if it is there. Raises `NotSent` where it is somebody else's."""
        response = await self._connection.request("GET", path)
        if response.status == 404:
            return Before()
        if response.status == 401:
            raise Unreachable("unauthorised", "The cluster refuses our credentials.")
        if not response.is_success:
            raise Refused(response)
        seen = look(request.ref, object_of(response.body), self._eyes)
        conflict = deed.owned_by_another(seen, request.body, request.owners)
        if conflict is not None:
            raise NotSent(conflict)
        return Before(seen.uid, seen.version, self._memory.get(request.ref))

    async def _taken_over(self, request: ApplyRequest, before: Before, path: str) -> Before | None:
        """Take over edited list items that keep ours out; None where there is none of them.

        If this is the last that is done, the next apply finds them ours, and takes them away.
        """
        response = await self._connection.request("GET", path)
        if not response.is_success:
            return None
        live = object_of(response.body)
        meta = header(response.body)
        if (meta.uid, meta.resource_version) != (before.uid, before.version):
            return None
        fields = taken_over(live, request.body)
        if fields is None:
            return None
        patch = [
            {"op": "replace", "path": "/metadata/managedFields", "value": fields},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": before.version},
        ]
        response = await self._connection.request(
            "PATCH",
            path,
            params={"fieldManager": MANAGER},
            body=orjson.dumps(patch),
            content_type=_JSON_PATCH,
        )
        if not response.is_success:
            return None
        version = header(response.body).resource_version
        return Before(before.uid, version, before.entry, before.by_digest, altered=True)

    async def _moved(self, ref: ObjectRef, before: Before, path: str) -> Before | None:
        """Return new preconditions where only the status has moved on; else None."""
        entry = self._memory.get(ref)
        if entry is None or not before.by_digest:
            return None
        response = await self._connection.request("GET", path)
        if not response.is_success:
            return None
        seen = look(ref, object_of(response.body), self._eyes)
        if entry.ref.api_version != ref.api_version or seen.uid != before.uid:
            return None
        if not await self._observer.unmoved(entry, seen):
            return None
        entry = self._memory.get(ref)
        return Before(seen.uid, seen.version, entry, by_digest=True, altered=before.altered)

    async def _patch(
        self, path: str, body: dict[str, Any], *, force: bool, dry_run: bool = False
    ) -> Response:
        params = {"fieldManager": MANAGER, "force": "true" if force else "false"}
        if dry_run:
            params["dryRun"] = "All"
        return await self._connection.request(
            "PATCH", path, params=params, body=deed.encoded(body), content_type=_APPLY
        )

    def _answered(
        self,
        request: ApplyRequest,
        before: Before,
        response: Response,
        rules: Sequence[FieldRule],
    ) -> Answer:
        self._doubted.discard(request.ref.identity)
        meta = header(response.body)
        ref = ObjectRef(request.ref.api_version, request.ref.kind, meta.namespace, meta.name)
        seen = look(ref, object_of(response.body), self._eyes)
        shown, _ = self._eyes.redact(request.body)
        kept = freeze(seen.live, sent=shown)
        verdict = self._observer.applied(seen, kept)
        return Answer(
            outcome=deed.outcome_of(before, seen, response),
            uid=seen.uid,
            resource_version=seen.version,
            kept=verdict.entry.kept,
            observed=verdict.observation,
            mutated=tuple(mutated(shown, seen.live, ref, leave=rules)),
            blobs=verdict.blobs,
        )

    def _deleted(self, ref: ObjectRef, uid: str, version: str, response: Response) -> Answer:
        live = object_of(response.body)
        if live.get("kind") == ref.kind and deed.is_ending(live):
            seen = look(ref, live, self._eyes)
            verdict = self._observer.ending(seen)
            return Answer(
                outcome=Outcome.DELETED,
                uid=seen.uid,
                resource_version=seen.version,
                observed=verdict.observation,
                blobs=verdict.blobs,
            )
        return Answer(outcome=Outcome.DELETED, uid=uid, observed=self._ended(ref, uid, version))

    def _ended(self, ref: ObjectRef, uid: str, version: str) -> Observation:
        entry = self._memory.get(ref)
        if entry is not None and entry.uid == uid:
            return self._observer.deleted(entry)
        return Observation(
            ref=ref,
            presence=Presence.ABSENT,
            uid=uid,
            resource_version=version,
            health=Health.MISSING,
        )
