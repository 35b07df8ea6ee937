"""What can go wrong with a repository, in words that may be shown to anybody."""

from __future__ import annotations

import re
from collections.abc import Iterable

_LONGEST = 300
# Control characters, and those that turn the direction of writing: a remote chooses its words.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")
# Without the scheme before it: of a megabyte of letters each would be the beginning of one.
_USERINFO = re.compile(r"(?<=://)[^/@\s]*@")


class SourceError(Exception):
    """A repository cannot be read. `code` is stable; `message` holds no secret and says why.

    Codes: url-refused, path-refused, credentials-refused, credentials-missing, auth-failed,
    host-unknown, unreachable, timeout, too-large, ref-missing, commit-missing, mirror-broken,
    no-space, remote-failed.
    """

    def __init__(self, code: str, message: str) -> None:
        # Both, so that it comes whole out of a worker process.
        super().__init__(code, message)
        self.code, self.message = code, message

    def __str__(self) -> str:
        return self.message


def clean(text: str, secrets: Iterable[str] = (), longest: int = _LONGEST) -> str:
    """Return text from elsewhere as one line without control characters, secrets or userinfo."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "…")
    text = _USERINFO.sub("", _UNFIT.sub(" ", text)).strip()
    return text if len(text) <= longest else text[: longest - 1] + "…"
