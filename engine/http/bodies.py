"""Bodies by digest: showing one, and erasing one that should never have been kept."""

from __future__ import annotations

import msgspec
from aiohttp import web

from engine.http.api import Api, api_of
from engine.http.problem import Refusal, conflict, not_found
from engine.http.wire import Query, body_of, only, reply
from engine.http.writes import Write, append, earlier, reason_of
from events.catalog import BodyRedacted
from events.codec import fact_of
from events.event import START, Digest, Event, StreamName, stream
from events.limits import digest_bytes
from events.vocabulary import Desired

routes = web.RouteTableDef()
_listing = msgspec.json.Decoder(tuple[Desired, ...])


@routes.get("/v1/blobs/{digest}")
async def show_body(request: web.Request) -> web.Response:
    """Return the body that an event names by its digest: redacted, as it is kept."""
    api = api_of(request)
    Query(request).done()
    digest = _digest(request)
    bodies = await api.log.blobs([digest])
    if digest not in bodies:
        raise await _no_body(api, digest)
    return web.Response(body=bodies[digest], content_type="application/json")


@routes.post("/v1/blobs/{digest}/redact")
async def redact_body(request: web.Request) -> web.Response:
    """Erase a body for good. The digest, every event that names it, and the proof stay."""
    api = api_of(request)
    Query(request).done()
    digest = _digest(request)
    given = await body_of(request)
    only(given, "reason")
    reason = reason_of(given, required=True)
    before = await earlier(request)
    bodies = await api.log.blobs([digest])
    if digest in bodies and not before:
        _refuse_listing(bodies[digest])
    known = await _redaction(api, digest)
    if known is None:
        if digest not in bodies:
            raise await _no_body(api, digest)
        # The word first: should we be killed before the deed, the next start does it.
        await append(request, [Write(_stream(digest), BodyRedacted(reason))])
        known = await _redaction(api, digest)
        assert known is not None
    await api.log.erase([digest])
    return reply(
        {
            "position": known.position,
            "subject": digest,
            "changed": digest in bodies,
            "size": len(bodies.get(digest, b"")),
        }
    )


def _refuse_listing(body: bytes) -> None:
    try:
        listed = _listing.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    raise conflict(
        "listing",
        f"this body names {len(listed)} desired objects and holds nothing of them: "
        "redact the bodies that it names",
    )


async def _no_body(api: Api, digest: Digest) -> Refusal:
    if not await api.log.erased([digest]):
        return not_found(f"no body is kept under {digest}")
    told = await _redaction(api, digest)
    if told is None:
        return Refusal(410, "redacted", f"the body {digest} was erased")
    fact = fact_of(told)
    reason = fact.reason if isinstance(fact, BodyRedacted) else ""
    detail = f"the body {digest} was redacted by {told.actor}: {reason}"
    return Refusal(410, "redacted", detail, position=told.position)


async def _redaction(api: Api, digest: Digest) -> Event | None:
    """Return the event that says that a body was redacted."""
    events = await api.log.read(START, stream=_stream(digest), limit=1)
    return events[0] if events else None


def _stream(digest: Digest) -> StreamName:
    return stream("body", "default", digest.removeprefix("sha256:"))


def _digest(request: web.Request) -> Digest:
    digest = Digest(request.match_info["digest"])
    try:
        digest_bytes(digest)
    except ValueError as error:
        raise not_found(str(error)) from error
    return digest
