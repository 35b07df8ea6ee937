"""A person's name and e-mail address, sealed so that they can be forgotten while the proof stands.

Pure. AES-256-GCM under a key of the person's own, the pseudonym authenticated with it; the text
kept in an event is base64 of nonce and ciphertext. Without the key it is noise for ever.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from events.event import Actor

KEY_BYTES = 32
NONCE_BYTES = 12
_BLOCK = 64
"""What is sealed is filled up to a multiple of this, so that a name's length does not show."""


class Person(Struct, frozen=True, omit_defaults=True):
    """Who somebody is."""

    name: str = ""
    email: str = ""


class SealBroken(Exception):
    """A sealed text does not open: it was sealed under another key, or for another actor."""


def git_actor(email: bytes) -> Actor:
    """Return an author's pseudonym: the same for one e-mail address, whatever its case."""
    return Actor("git:" + hashlib.sha256(email.strip().lower()).hexdigest()[:12])


def seal(person: Person, actor: Actor, key: bytes, nonce: bytes) -> str:
    """Seal who an actor is; `nonce` (12 bytes) must never come twice with one key (32 bytes)."""
    plain = msgspec.json.encode(person)
    filled = plain.ljust(-(-len(plain) // _BLOCK) * _BLOCK)
    sealed = nonce + AESGCM(key).encrypt(nonce, filled, actor.encode())
    return base64.b64encode(sealed).decode()


def unseal(text: str, actor: Actor, key: bytes) -> Person:
    """Open what `seal` made; raises `SealBroken`."""
    try:
        sealed = base64.b64decode(text, validate=True)
        nonce, rest = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        plain = AESGCM(key).decrypt(nonce, rest, actor.encode())
        return msgspec.json.decode(plain, type=Person)
    except (InvalidTag, binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise SealBroken(f"what is sealed of {actor} does not open with its key") from error
