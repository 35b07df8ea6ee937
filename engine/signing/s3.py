"""Requests to an S3-compatible store, signed as AWS Signature Version 4 has it.

Pure: no more of it than one object needs that is put and got.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import quote, unquote, urlsplit

from msgspec import Struct

_ALGORITHM = "AWS4-HMAC-SHA256"


class Credentials(Struct, frozen=True):
    """Whose requests they are; never shown."""

    key_id: str
    secret: str
    session_token: str = ""

    def __repr__(self) -> str:
        return "Credentials(…)"


def signed_headers(
    method: str,
    url: str,
    body: bytes,
    *,
    credentials: Credentials,
    region: str,
    at: datetime,
    headers: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the headers of a request, its signature among them. `at` is in UTC.

    `headers` are further ones to sign. The URL must have no query.
    """
    parts = urlsplit(url)
    stamp = at.strftime("%Y%m%dT%H%M%SZ")
    sent = {
        "host": parts.netloc,
        "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
        "x-amz-date": stamp,
        **{name.lower(): value.strip() for name, value in (headers or {}).items()},
    }
    if credentials.session_token:
        sent["x-amz-security-token"] = credentials.session_token
    names = ";".join(sorted(sent))
    request = "\n".join(
        [
            method,
            quote(unquote(parts.path), safe="/~") or "/",
            "",
            *(f"{name}:{sent[name]}" for name in sorted(sent)),
            "",
            names,
            sent["x-amz-content-sha256"],
        ]
    )
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}"
    key = f"AWS4{credentials.secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    sent["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.key_id}/{scope},"
        f"SignedHeaders={names},Signature={signature}"
    )
    return sent
