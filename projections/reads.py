"""What every reader of views checks and computes alike.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from projections.batch import LAST
from projections.projection import Projection

_SURROGATES = range(0xD800, 0xE000)


def check_limit(limit: int) -> None:
    """Raise ValueError where a page would hold nothing."""
    if limit < 1:
        raise ValueError(f"a page needs a limit of at least 1, not {limit}")


def check_where(view: Projection[Any], where: Mapping[str, str] | None) -> dict[int, str]:
    """Return the wanted value by index column; ValueError for an index that the view lacks."""
    wanted: dict[int, str] = {}
    for name, value in (where or {}).items():
        if name not in view.indexes:
            known = ", ".join(view.indexes) or "none"
            raise ValueError(f"the view {view.name} has no index {name}, only: {known}")
        wanted[view.indexes.index(name)] = value
    return wanted


def columns_of(view: Projection[Any], by: tuple[str, str]) -> tuple[int, int]:
    """Return the columns of two indexes; ValueError for one that the view lacks."""
    first, second = (next(iter(check_where(view, {name: ""}))) for name in by)
    return first, second


def keys_until(prefix: str) -> str:
    """Return the first string after all that begin with a prefix, in order of code points."""
    for place in range(len(prefix) - 1, -1, -1):
        after = ord(prefix[place]) + 1
        if after in _SURROGATES:
            after = _SURROGATES.stop
        if after <= ord(LAST):
            return prefix[:place] + chr(after)
    return LAST


def storable(text: str) -> bool:
    """Whether a text can be in the views at all: nothing is found under one that cannot."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def key_after(after: str) -> str:
    """Return `after` as a key that can be stored, with the same keys after it.

    Raises ValueError where it is no text.
    """
    cut, _, _ = after.partition("\0")  # no key goes on with a NUL
    if not storable(cut):
        raise ValueError("a page cannot begin after what is no text")
    return cut
