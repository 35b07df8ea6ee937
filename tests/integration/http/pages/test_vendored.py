"""What was written elsewhere and is served by us is exactly what was published."""

from __future__ import annotations

import hashlib
from importlib.resources import files

PINNED = {
    "htmx-2.0.11.min.js": "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
    "htmx.LICENSE.txt": "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
}
"""SHA-256 by file: of the package `htmx.org` 2.0.11, `dist/htmx.min.js` and `LICENSE`."""


def test_vendored_files_are_the_published_ones() -> None:
    folder = files("engine.http.pages").joinpath("static", "vendored")
    found = {item.name: hashlib.sha256(item.read_bytes()).hexdigest() for item in folder.iterdir()}
    assert found == PINNED
