"""Appending what a person asked for: with their name, once, and shown by the views afterwards.

A request with an Idempotency-Key is told from a second one by the log itself: its events' ids are
derived from log, actor, method, path and key, and their correlation is the request's fingerprint.
So a repeated request is known as such for as long as the log remembers ids, also by another engine
after a crash, and nothing else has to be kept. A request that wrote nothing leaves no trace: sent
again, it is looked at afresh.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from aiohttp import web
from msgspec import Struct

from engine.http.api import ACTOR, api_of
from engine.http.problem import Refusal, bad_request
from events.catalog import Fact
from events.event import Event, EventId, NewEvent, Position, StreamName, Version
from events.log import Appended, IdReused

MAX_REASON = 500
_PAGE = 500
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Write(Struct, frozen=True):
    """One fact to append, with the version that its stream must be at; None for any."""

    stream: StreamName
    fact: Fact
    expected: Version | None = None


async def append(request: web.Request, writes: Sequence[Write]) -> Appended:
    """Append all, or none; say where they went. Raises what the log raises."""
    api = api_of(request)
    key = _idempotency_key(request)
    story = await _fingerprint(request) if key else ""
    events = [
        NewEvent(
            event_id=_derived(request, api.log.log_id, key, place) if key else api.clock.event_id(),
            stream=write.stream,
            fact=write.fact,
            actor=request[ACTOR],
            occurred_at=api.clock.now(),
            expected=write.expected,
            correlation=story,
        )
        for place, write in enumerate(writes)
    ]
    try:
        return await api.log.append(events)
    except IdReused as error:
        if not key:
            raise
        detail = f"this Idempotency-Key cannot be used for this request: {error}"
        raise Refusal(422, "key-reused", detail) from error


async def earlier(request: web.Request) -> Sequence[Event]:
    """Return what the same request wrote when it was sent before with this Idempotency-Key.

    Raises a refusal where the key came with another request.
    """
    api = api_of(request)
    key = _idempotency_key(request)
    if not key:
        return ()

    def derived(place: int) -> EventId:
        return _derived(request, api.log.log_id, key, place)

    first = await api.log.find(derived(0))
    if first is None:
        return ()
    found: list[Event] = []
    # The events of one append are neighbours.
    while page := await api.log.read(Position(first - 1 + len(found)), _PAGE):
        ours = [
            event
            for place, event in enumerate(page, len(found))
            if event.event_id == derived(place)
        ]
        found += ours
        if len(ours) < _PAGE:
            break
    if found[0].correlation != await _fingerprint(request):
        detail = "this Idempotency-Key came before with another request: take a new one"
        raise Refusal(422, "key-reused", detail)
    return found


async def settled(request: web.Request, position: Position) -> bool:
    """Wait a little until the views show a position, so that the caller reads its own write.

    False where they do not yet: the write stands all the same.
    """
    api = api_of(request)
    try:
        await api.views.reached(position, api.limits.settle)
    except TimeoutError:
        return False
    return True


def reason_of(body: dict[str, Any], *, required: bool) -> str:
    """Return why a person asks for something: one line."""
    reason = body.get("reason", "")
    if not isinstance(reason, str):
        raise bad_request("reason must be text")
    reason = reason.strip()
    if required and not reason:
        raise bad_request("a reason is needed: it is what the record will say")
    if len(reason) > MAX_REASON:
        raise bad_request(f"reason is longer than {MAX_REASON} characters")
    if any(ord(char) < 32 or 127 <= ord(char) < 160 for char in reason):
        raise bad_request("reason must be one line, without control characters")
    return reason


def _idempotency_key(request: web.Request) -> str:
    key = request.headers.get("Idempotency-Key", "").strip().strip('"')
    if len(key) > 200 or not key.isprintable():
        raise bad_request("Idempotency-Key must be at most 200 printable characters")
    return key


async def _fingerprint(request: web.Request) -> str:
    parts = (
        request.method,
        request.path,
        *(f"{key}={value}" for key, value in sorted(request.query.items())),
    )
    told = "\0".join(parts).encode("utf-8", "surrogatepass") + b"\0\0" + await request.read()
    return "request:" + hashlib.sha256(told).hexdigest()[:32]


def _derived(request: web.Request, log_id: str, key: str, place: int) -> EventId:
    # The key counts for one caller and one path: another's same key is another request.
    material = "\0".join(
        (log_id, request[ACTOR], request.method, request.path, key, str(place))
    ).encode("utf-8", "surrogatepass")
    digits = hashlib.sha256(material).hexdigest()
    # The log forgets ids by the time in them, and refuses those that it would have forgotten. So
    # a key that is a UUIDv7 lends its own time; any other gets one that never grows old.
    made = key.lower().replace("-", "")[:12] if _UUID7.fullmatch(key.lower()) else "f" + digits[:11]
    variant = "89ab"[int(digits[16], 16) & 3]
    return EventId(
        f"{made[:8]}-{made[8:12]}-7{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"
    )
