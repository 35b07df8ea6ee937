"""Dry runs: what the API server would answer to a deed. Nothing is written, nothing observed."""

from __future__ import annotations

from typing import Any

import orjson

from engine.clusters import deed
from engine.clusters.connect import Connection, Refused, Unreachable
from engine.clusters.deed import NotSent
from engine.clusters.discovery import Discovery, KindUnknown
from engine.clusters.look import Eyes, look
from engine.clusters.memory import Memory
from engine.clusters.wire import Garbage, Response, object_of
from engine.objects.identity import ObjectRefused
from engine.objects.left import spared
from engine.objects.mutated import mutated
from engine.objects.ownership import MANAGER
from engine.objects.prepare import is_secret
from engine.ports import Answer, ApplyRequest
from events.vocabulary import ObjectRef, Outcome

_DRY_RUN = {"dryRun": "All"}


class Rehearsals:
    """Asks one cluster what it would answer."""

    def __init__(
        self, connection: Connection, discovery: Discovery, memory: Memory, eyes: Eyes
    ) -> None:
        self._connection, self._discovery = connection, discovery
        self._memory, self._eyes = memory, eyes

    async def apply(self, request: ApplyRequest) -> Answer:
        """Ask what an apply would come to: a success, with what admission would alter, or why not.

        Every failure is an answer. The object's uid is a precondition, its resourceVersion is not.
        """
        try:
            return await self._apply(request)
        except (NotSent, KindUnknown, Unreachable, Refused, Garbage, ObjectRefused) as error:
            return _failed(error, is_secret(request.body))

    async def delete(self, ref: ObjectRef, uid: str) -> Answer:
        """Ask what a delete would come to. Every failure is an answer."""
        try:
            info = await self._discovery.find(ref.api_version, ref.kind)
            options = orjson.loads(deed.delete_options(uid, "")) | {"dryRun": ["All"]}
            path = deed.path_of(info, ref)
            body = orjson.dumps(options)
            response = await self._connection.request("DELETE", path, params=_DRY_RUN, body=body)
            if response.status == 404:
                return Answer(outcome=Outcome.GONE, uid=uid)
            if not response.is_success:
                return deed.refused(response, ref.kind == "Secret")
            return Answer(outcome=Outcome.DELETED, uid=uid)
        except (NotSent, KindUnknown, Unreachable) as error:
            return _failed(error, ref.kind == "Secret")

    async def _apply(self, request: ApplyRequest) -> Answer:
        info = await self._discovery.find(request.ref.api_version, request.ref.kind)
        path = deed.path_of(info, request.ref)
        live = await self._live(path)
        whole, rules = request.body, deed.rules_of(request)
        if live is not None:
            seen = look(request.ref, live, self._eyes)
            if request.uid and seen.uid != request.uid:
                return deed.stale("The object was made anew since it was observed.")
            another = deed.owned_by_another(seen, request.body, request.owners)
            if another is not None and not request.uid:
                return another
            whole = spared(request.body, live, rules) if rules else whole
        elif request.uid:
            return deed.stale("The object is gone since it was observed.")
        response = await self._patch(request, path, deed.sent(whole, info, request.ref, "", ""))
        if not response.is_success:
            return deed.refused(response, is_secret(request.body))
        would = look(request.ref, object_of(response.body), self._eyes)
        shown, _ = self._eyes.redact(request.body)
        return Answer(
            outcome=self._outcome(request.ref, live is None, would.body, would.signature),
            uid=would.uid if live is not None else "",
            mutated=tuple(mutated(shown, would.live, request.ref, leave=rules)),
        )

    async def _live(self, path: str) -> dict[str, Any] | None:
        response = await self._connection.request("GET", path)
        if response.status == 404:
            return None
        if not response.is_success:
            raise Refused(response)
        return object_of(response.body)

    async def _patch(self, request: ApplyRequest, path: str, body: dict[str, Any]) -> Response:
        force = "true" if request.force or request.adopt else "false"
        return await self._connection.request(
            "PATCH",
            path,
            params={"fieldManager": MANAGER, "force": force, **_DRY_RUN},
            body=deed.encoded(body),
            content_type="application/apply-patch+yaml",
        )

    def _outcome(self, ref: ObjectRef, is_new: bool, body: bytes, signature: bytes) -> Outcome:
        entry = self._memory.get(ref)
        if is_new:
            return Outcome.CREATED
        is_same = entry is not None and (entry.body, entry.signature) == (body, signature)
        return Outcome.UNCHANGED if is_same else Outcome.CHANGED


def _failed(error: Exception, secret: bool) -> Answer:
    match error:
        case NotSent():
            return error.answer
        case Refused():
            return deed.refused(error.response, secret)
        case Unreachable():
            return deed.unreachable(error)
        case KindUnknown():
            return Answer(outcome=Outcome.FAILED, message=error.message)
    return Answer(outcome=Outcome.FAILED, message=f"The server's answer has {error}.")
