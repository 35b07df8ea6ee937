"""The nearest known name to one that is not known. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name most like `name`, "" where none is like it.

    A name that another one begins with counts as like it: `repo` is meant as `repository`.
    """
    folded = {item.lower(): item for item in known}
    wanted = name.lower()[:100]
    found = difflib.get_close_matches(wanted, folded, n=1, cutoff=0.6)
    if not found and len(wanted) > 2:
        found = [item for item in sorted(folded) if item.startswith(wanted)]
    return folded[found[0]] if found else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?`, or "" where no known name is like `name`."""
    found = nearest(name, known)
    return f"; did you mean {found}?" if found else ""
