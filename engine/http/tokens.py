"""Access tokens: made, told from the log, checked. Only their digests are recorded."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import os
import re
import secrets
from pathlib import Path

from engine.http.local import TOKEN_FILE, read_token, write_private
from engine.ports import Clock
from events.catalog import Fact, TokenCreated, TokenRevoked
from events.codec import fact_of
from events.event import ABSENT, START, Actor, NewEvent, Position, StreamName, Version, stream
from events.log import EventLog, WrongVersion
from projections.projection import Reader
from projections.tokens import TOKENS

PREFIX = "trueup_"
FIRST = "admin"
ACTOR = Actor("engine:access")
NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_SHAPE = re.compile(r"trueup_[A-Za-z0-9_-]{43}")
_log = logging.getLogger("trueup.http")


def new_token() -> str:
    """Return a fresh token: 256 random bits, recognisable by its prefix."""
    return PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode("ascii")


def digest(token: str) -> str:
    """Return what is recorded of a token. It has 256 random bits, so one SHA-256 is enough."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def token_stream(name: str) -> StreamName:
    """Return the stream of a token's name."""
    return stream("token", "default", name)


async def actor_of(reader: Reader, token: str) -> Actor | None:
    """Return whose token this is, None where it is nobody's."""
    shown = digest(token)
    for found in await reader.page(TOKENS, where={"digest": shown}, limit=2):
        document = found.document
        # The index has compared already; this says so in constant time, whatever the store does.
        if not document.revoked and hmac.compare_digest(document.digest, shown):
            return Actor(f"user:{document.name}")
    return None


async def is_good(reader: Reader, token: str) -> bool:
    """Whether the token with this digest has not been revoked."""
    found = await reader.page(TOKENS, where={"digest": token}, limit=1)
    return bool(found)


async def ensure_first_token(log: EventLog, clock: Clock, data_dir: Path) -> Position | None:
    """See that the token in `data_dir/token` is good; make it where there is none.

    The file comes before the event, so that a crash in between leaves a token that the next start
    records. A revoked first token stays revoked. Returns the position where something was recorded.
    Raises OSError where the file cannot be written, or can be read by others.
    """
    path = data_dir / TOKEN_FILE
    token = read_token(path)
    if token is None or not _SHAPE.fullmatch(token):
        token = new_token()
        write_private(path, token.encode("ascii") + b"\n")
    name = token_stream(FIRST)
    while True:
        version, last = await _state(log, name)
        if isinstance(last, TokenRevoked):
            return None
        if isinstance(last, TokenCreated) and hmac.compare_digest(last.digest, digest(token)):
            return None
        event = NewEvent(
            event_id=clock.event_id(),
            stream=name,
            fact=TokenCreated(digest(token)),
            actor=ACTOR,
            occurred_at=clock.now(),
            expected=version,
        )
        try:
            appended = await log.append([event])
        except WrongVersion:
            continue
        _log.info("recorded the first token", extra={"file": os.fspath(path)})
        return appended.last


async def _state(log: EventLog, name: StreamName) -> tuple[Version, Fact | None]:
    version, last, after = ABSENT, None, START
    while events := await log.read(after, stream=name):
        version, after = events[-1].version, events[-1].position
        last = fact_of(events[-1])
    return version, last
