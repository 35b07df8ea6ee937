"""Where what lies in an export: it is a C2SP tlog-tiles log in a folder, with payloads and bodies.

checkpoint              the newest signed checkpoint, written last
checkpoints/SIZE        earlier ones, one an hour
keys                    the public keys, one a line
tile/LEVEL/N            the tree's hashes
tile/entries/N          the events' canonical headers
payloads/N              their payloads, one a line (optional)
blobs/XX/DIGEST         the bodies that payloads name (optional)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from events.event import Digest
from events.tiles import WIDTH, bundle_path, number_path

CHECKPOINT = "checkpoint"
CHECKPOINTS = "checkpoints"
KEYS = "keys"
PAYLOADS = "payloads"
BLOBS = "blobs"
_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")


def bundles_of(size: int) -> Iterator[tuple[int, int]]:
    """Yield the number and width of every bundle of a log."""
    for index in range(-(-size // WIDTH)):
        yield index, min(WIDTH, size - index * WIDTH)


def entries_file(folder: Path, index: int, width: int) -> Path:
    """Return where a bundle of headers lies."""
    return folder / bundle_path(index, width)


def payloads_name(index: int, width: int) -> str:
    """Return where the payloads of the same events lie in an export."""
    return f"{PAYLOADS}/{number_path(index, width)}"


def body_name(digest: Digest) -> str:
    """Return where a body lies in an export."""
    return f"{BLOBS}/{digest[7:9]}/{digest[7:]}"


def named_in(payload: bytes) -> list[Digest]:
    """Return what is written like a digest, each once: bodies, and the digests of images too."""
    return [Digest(item.decode()) for item in dict.fromkeys(_DIGEST.findall(payload))]


def is_list(body: bytes) -> bool:
    """Whether a body is a list of objects by digest (what a commit renders to), no manifest."""
    return body.startswith(b"[")
