"""Who is logged in: links that are good once, sessions that end. Kept in memory, hashed.

A session is bound to the token that asked for its link: it ends with that token. A restart of the
engine ends all of them; a new link is one command away.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict

from msgspec import Struct

from engine.ports import Clock
from events.event import Actor

CODE_SECONDS = 60.0
IDLE_SECONDS = 4 * 3600.0
LONGEST_SECONDS = 12 * 3600.0
_MOST_CODES = 100
_MOST_SESSIONS = 1000
ATTEMPTS = 10
"""Wrong codes that one address may show in `ATTEMPTS_SECONDS`."""
ATTEMPTS_SECONDS = 60.0
_MOST_ADDRESSES = 1000


class Session(Struct):
    """One browser of one actor. Times are of the monotonic clock."""

    actor: Actor
    token: str
    """The digest of the token that it is bound to."""
    began: float
    seen: float


class _Code(Struct, frozen=True):
    actor: Actor
    token: str
    until: float


class Sessions:
    """Codes of login links, the sessions that were made of them, and wrong attempts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._codes: OrderedDict[str, _Code] = OrderedDict()
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()

    def offer(self, actor: Actor, token: str) -> str:
        """Return a code that makes one session for this actor, once, within `CODE_SECONDS`.

        The oldest code gives way where there are too many.
        """
        code = secrets.token_urlsafe(32)
        until = self._clock.monotonic() + CODE_SECONDS
        self._codes[_hashed(code)] = _Code(actor, token, until)
        while len(self._codes) > _MOST_CODES:
            self._codes.popitem(last=False)
        return code

    def offered(self, code: str) -> Actor | None:
        """Return whom a code is for, without using it up; None where it is not good."""
        found = self._codes.get(_hashed(code))
        return found.actor if found and found.until > self._clock.monotonic() else None

    def redeem(self, code: str) -> tuple[str, Session] | None:
        """Use a code up; return the secret of a new session, and the session."""
        found, now = self._codes.pop(_hashed(code), None), self._clock.monotonic()
        if found is None or found.until <= now:
            return None
        secret = secrets.token_urlsafe(32)
        session = Session(found.actor, found.token, now, now)
        self._sessions[_hashed(secret)] = session
        while len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return secret, session

    def find(self, secret: str) -> Session | None:
        """Return the session of a secret, which counts as seen now; None where it has ended."""
        key, now = _hashed(secret), self._clock.monotonic()
        session = self._sessions.get(key)
        if session is None:
            return None
        if now - session.seen > IDLE_SECONDS or now - session.began > LONGEST_SECONDS:
            del self._sessions[key]
            return None
        session.seen = now
        self._sessions.move_to_end(key)
        return session

    def close(self, secret: str) -> None:
        """End a session."""
        self._sessions.pop(_hashed(secret), None)

    def wrong(self, address: str) -> None:
        """Note that an address showed a code that is none."""
        self._wrong.setdefault(address, []).append(self._clock.monotonic())
        self._wrong.move_to_end(address)
        while len(self._wrong) > _MOST_ADDRESSES:
            self._wrong.popitem(last=False)

    def is_barred(self, address: str) -> bool:
        """Whether an address has shown too many wrong codes of late."""
        since = self._clock.monotonic() - ATTEMPTS_SECONDS
        recent = [when for when in self._wrong.get(address, ()) if when > since]
        if not recent:
            self._wrong.pop(address, None)
            return False
        self._wrong[address] = recent[-ATTEMPTS:]
        return len(recent) >= ATTEMPTS


def _hashed(secret: str) -> str:
    # 256 random bits need no salt. A look-up by digest tells nothing of the secret by its timing.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
