"""The named queries of the views, all in one mapping."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from events.queries import load

_FILES = ("keep.sql", "read.sql", "past.sql", "rebuild.sql", "lease.sql", "checkup.sql")


def _load() -> Mapping[str, str]:
    queries: dict[str, str] = {}
    for file in _FILES:
        some = load("projections", file)
        if queries.keys() & some.keys():
            raise ValueError(f"projections/sql/{file}: a query of this name is in another file")
        queries.update(some)
    return MappingProxyType(queries)


QUERIES = _load()
"""SQL by name."""
