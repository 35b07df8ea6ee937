"""Named queries: SQL lives in `.sql` files, each statement under a line `-- name: what_it_is`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files

_NAME = re.compile(r"^-- name: ([a-z_]+)\n", re.MULTILINE)


def load(package: str, file: str) -> Mapping[str, str]:
    """Return the queries of `<package>/sql/<file>` by name.

    Raises ValueError for a name given twice or a file that does not begin with a name.
    """
    text = files(package).joinpath("sql", file).read_text("utf-8")
    before, *parts = _NAME.split(text)
    names, bodies = parts[::2], parts[1::2]
    if before.strip() or len(set(names)) != len(names):
        raise ValueError(f"{package}/sql/{file}: every query needs a name of its own")
    return dict(zip(names, (body.strip() for body in bodies), strict=True))
