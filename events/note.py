"""Signed notes and checkpoints, as C2SP signed-note and tlog-checkpoint have them. Ed25519 only.

Pure: keys are made elsewhere. A verifier key is written `name+hash+base64`, a signer's
`PRIVATE+KEY+name+hash+base64`, as Go's note package does. A note may carry several signatures, so
that keys can rotate: one of a known key is enough, and a wrong one of a known key spoils it.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from events.merkle import HASH_BYTES

MAX_NOTE = 64 * 1024
"""Bytes of a note."""
MAX_SIGNATURES = 100
_ED25519 = b"\x01"
_KEY_BYTES = 32
_ID_BYTES = 4
_PRIVATE = "PRIVATE+KEY+"
_NAME = re.compile(r"[^\s+\x00-\x1f]+")


class NoteWrong(Exception):
    """Text that is not a note, key or checkpoint, or is not signed as it should be."""


class VerifierKey(Struct, frozen=True):
    """A public key by the name of who signs with it. `raw` has 32 bytes."""

    name: str
    raw: bytes

    @property
    def id(self) -> bytes:
        """The four bytes that a signature names the key by."""
        name = self.name.encode() + b"\n" + _ED25519
        return hashlib.sha256(name + self.raw).digest()[:_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{_base64(_ED25519 + self.raw)}"

    def accepts(self, text: bytes, signature: bytes) -> bool:
        """Whether the key made this signature of a text."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


class SignerKey(Struct, frozen=True):
    """A private key (32 bytes, never shown) by the name of who signs with it."""

    name: str
    seed: bytes

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        private = Ed25519PrivateKey.from_private_bytes(self.seed)
        return VerifierKey(self.name, private.public_key().public_bytes_raw())

    def secret_text(self) -> str:
        """Write the key as a file holds it."""
        shown = self.verifier
        return f"{_PRIVATE}{shown.name}+{shown.id.hex()}+{_base64(_ED25519 + self.seed)}"

    def sign(self, text: bytes) -> bytes:
        """Sign a text."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(text)

    def __repr__(self) -> str:
        return f"SignerKey({self.name!r})"


class Signature(Struct, frozen=True):
    """One line below a note: whose it says that it is, and the bytes of it."""

    name: str
    key_id: bytes
    bytes: bytes


class Note(Struct, frozen=True):
    """A text (its last newline included) and its signatures, none of them checked."""

    text: str
    signatures: tuple[Signature, ...]


class Checkpoint(Struct, frozen=True):
    """What a log says of itself: of which log, how many leaves, which root."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The text that is signed."""
        lines = (self.origin, str(self.size), _base64(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines)


def parse_verifier(text: str) -> VerifierKey:
    """Read a verifier key; raises `NoteWrong`."""
    name, raw = _parse_key(text)
    key = VerifierKey(name, raw)
    if str(key) != text:
        raise NoteWrong(f"the public key {text[:60]!r} is not written as its own hash says")
    return key


def parse_signer(text: str) -> SignerKey:
    """Read a signer's key; raises `NoteWrong`, which never shows it."""
    if not text.startswith(_PRIVATE):
        raise NoteWrong(f"a signing key begins with {_PRIVATE}")
    name, seed = _parse_key(text.removeprefix(_PRIVATE), hidden=True)
    key = SignerKey(name, seed)
    if key.secret_text() != text:
        raise NoteWrong(f"the signing key of {name} is not written as its own hash says")
    return key


def _parse_key(text: str, *, hidden: bool = False) -> tuple[str, bytes]:
    shown = "the signing key" if hidden else repr(text[:60])
    name, _, rest = text.partition("+")
    _, _, encoded = rest.partition("+")
    data = _bytes(encoded)
    if not _NAME.fullmatch(name) or data is None:
        raise NoteWrong(f"{shown} is not a key: name+hash+base64")
    if data[:1] != _ED25519 or len(data) != 1 + _KEY_BYTES:
        raise NoteWrong(f"{shown} is not an Ed25519 key")
    return name, data[1:]


def sign(text: str, keys: Iterable[SignerKey]) -> str:
    """Write a note: the text, and a signature of every key."""
    if not text.endswith("\n") or _has_controls(text):
        raise NoteWrong("the text of a note ends in a newline and has no other control character")
    lines = [text, "\n"]
    for key in keys:
        signature = key.verifier.id + key.sign(text.encode())
        lines.append(f"— {key.name} {_base64(signature)}\n")
    return "".join(lines)


def parse(data: str) -> Note:
    """Take a note apart, checking nothing of what it says; raises `NoteWrong`."""
    if len(data) > MAX_NOTE:
        raise NoteWrong(f"a note of {len(data)} characters; at most {MAX_NOTE}")
    if _has_controls(data):
        raise NoteWrong("a note has no control characters besides newlines")
    text, blank, below = data.rpartition("\n\n")
    if not blank or not below.endswith("\n"):
        raise NoteWrong("a note is a text, an empty line, and lines of signatures")
    lines = below[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise NoteWrong(f"{len(lines)} signatures; at most {MAX_SIGNATURES}")
    return Note(text + "\n", tuple(_parse_signature(line) for line in lines))


def _parse_signature(line: str) -> Signature:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    data = _bytes(encoded)
    if dash != "—" or not _NAME.fullmatch(name) or data is None or len(data) <= _ID_BYTES:
        raise NoteWrong(f"not a signature line: {line[:60]!r}")
    return Signature(name, data[:_ID_BYTES], data[_ID_BYTES:])


def verify(note: Note, keys: Iterable[VerifierKey]) -> list[VerifierKey]:
    """Return the keys that signed a note; raises `NoteWrong` where none did, or one did wrong."""
    known = {(key.name, key.id): key for key in keys}
    signed = []
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None:
            continue
        if not key.accepts(note.text.encode(), signature.bytes):
            raise NoteWrong(f"the signature of {key.name} (key {key.id.hex()}) is wrong")
        signed.append(key)
    if not signed:
        raise NoteWrong("no known key signed it")
    return signed


def strangers(note: Note, keys: Iterable[VerifierKey]) -> list[Signature]:
    """Return the signatures of keys that are not known."""
    known = {(key.name, key.id) for key in keys}
    return [item for item in note.signatures if (item.name, item.key_id) not in known]


def parse_checkpoint(text: str) -> Checkpoint:
    """Read a note's text as a checkpoint; raises `NoteWrong`."""
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines):
        raise NoteWrong("a checkpoint is three lines or more: origin, size, root")
    origin, size, encoded, *extensions = lines
    root = _bytes(encoded)
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", size):
        raise NoteWrong(f"{size[:30]!r} is not the size of a log")
    if root is None or len(root) != HASH_BYTES:
        raise NoteWrong(f"{encoded[:60]!r} is not a root: base64 of {HASH_BYTES} bytes")
    return Checkpoint(origin, int(size), root, tuple(extensions))


def open_checkpoint(data: str, keys: Sequence[VerifierKey]) -> Checkpoint:
    """Read a checkpoint that one of these keys signed, under the name of its origin.

    Raises `NoteWrong`.
    """
    note = parse(data)
    checkpoint = parse_checkpoint(note.text)
    verify(note, [key for key in keys if key.name == checkpoint.origin])
    return checkpoint


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _bytes(text: str) -> bytes | None:
    """Decode base64 that is written in the one right way; None for anything else."""
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        return None
    return data if _base64(data) == text else None


def _has_controls(text: str) -> bool:
    return any(character < " " and character != "\n" for character in text)
