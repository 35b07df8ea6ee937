"""Signature Version 4 against the examples of Amazon's own documentation."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.signing.heads import read_credentials
from engine.signing.s3 import Credentials, signed_headers

EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
AT = datetime(2013, 5, 24, tzinfo=UTC)
HOST = "https://examplebucket.s3.amazonaws.com"


def signature(*arguments: object, **options: object) -> str:
    headers = signed_headers(
        *arguments,  # type: ignore[arg-type]
        credentials=EXAMPLE,
        region="us-east-1",
        at=AT,
        **options,  # type: ignore[arg-type]
    )
    return headers["authorization"].rpartition("Signature=")[2]


def test_getting_an_object() -> None:
    assert (
        signature("GET", f"{HOST}/test.txt", b"", headers={"Range": "bytes=0-9"})
        == "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def test_putting_an_object() -> None:
    headers = {
        "Date": "Fri, 24 May 2013 00:00:00 GMT",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
    }
    assert (
        signature("PUT", f"{HOST}/test%24file.text", b"Welcome to Amazon S3.", headers=headers)
        == "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    )


def test_credentials_are_read_and_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text("[default]\naws_access_key_id = AKIA\naws_secret_access_key = s3cr3t\n")
    assert read_credentials(path) == Credentials("AKIA", "s3cr3t")
    assert "s3cr3t" not in repr(read_credentials(path))
    for text in ("s3cr3t", "[default]\ns3cr3t = 1", "[other]\naws_access_key_id = s3cr3t"):
        path.write_text(text)
        with pytest.raises(ValueError) as caught:
            read_credentials(path)
        assert "s3cr3t" not in str(caught.value)
