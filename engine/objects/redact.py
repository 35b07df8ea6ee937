"""Secret values replaced by keyed digests, before anything is digested, compared or stored. Pure.

A value becomes `hmac:<key id>:<64 hexadecimal digits>`: HMAC-SHA-256 of a fixed context and the
value's bytes. So "it changed" can be said and the value not guessed. Neither the Secret's name nor
the field goes in: a value that moves to another key or Secret is seen to be the same, at the price
that two Secrets with equal values are seen to be equal by who reads the log. Base64 is decoded
first, so that `data` and `stringData` of one value agree.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final

from engine.objects.prepare import is_secret

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_CONTEXT = b"trueup.dev/secret-value/v1\x00"
_MIN_KEY = 16


class Redactor:
    """Redacts with one key. `key` has 16 bytes or more; `key_id` is a short name without colons."""

    def __init__(self, key: bytes, key_id: str) -> None:
        if len(key) < _MIN_KEY:
            raise ValueError(f"The redaction key needs {_MIN_KEY} bytes or more.")
        if not key_id or not key_id.replace("-", "").isalnum() or not key_id.isascii():
            raise ValueError("The redaction key's id must be letters, digits and dashes.")
        self._key, self._prefix = key, f"hmac:{key_id}:"

    def redact(self, obj: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """Return the object without secret values, and whether there were any.

        The input is left alone. What is no Secret comes back as it is, not copied.
        """
        if not is_secret(obj):
            return (obj if isinstance(obj, dict) else dict(obj)), False
        redacted, found = dict(obj), False
        for field in ("data", "stringData"):
            if obj.get(field):
                redacted[field], found = self._values(obj[field], field == "data"), True
        metadata = obj.get("metadata")
        if isinstance(metadata, Mapping):
            annotations = metadata.get("annotations")
            if isinstance(annotations, Mapping):
                telling = [key for key, text in annotations.items() if _tells(key, text)]
                if telling:
                    hidden = {key: self._digest(_raw(annotations[key])) for key in telling}
                    redacted["metadata"] = {**metadata, "annotations": {**annotations, **hidden}}
                    found = True
        return redacted, found

    def _values(self, values: Any, encoded: bool) -> Any:
        if not isinstance(values, Mapping):
            # Malformed, and refused by a server; a value may still be in it.
            return self._digest(_raw(values))
        return {
            key: self._digest(_decoded(value) if encoded else _raw(value))
            for key, value in values.items()
        }

    def _digest(self, value: bytes) -> str:
        return self._prefix + hmac.digest(self._key, _CONTEXT + value, "sha256").hex()


def _tells(name: Any, text: Any) -> bool:
    """Whether an annotation holds a copy of the Secret: kubectl's does, and so do other tools'."""
    if name == LAST_APPLIED:
        return True
    if not isinstance(text, str) or "ata" not in text or not text.lstrip().startswith(("{", "[")):
        return False
    return '"data"' in text or '"stringData"' in text


def _decoded(value: Any) -> bytes:
    if isinstance(value, str):
        try:
            return b64decode(value.encode(), validate=True)
        except (binascii.Error, ValueError):
            return _raw(value)
    return _raw(value)


def _raw(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if value is None:
        return b""  # as the server reads it
    # Not a string, so no Secret that a server would take; whatever it is, it is not to be shown.
    return repr(value).encode()
