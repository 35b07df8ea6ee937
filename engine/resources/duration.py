"""Durations as people write them: `30s`, `5m`, `1h30m`, `250ms`. Pure."""

from __future__ import annotations

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]{1,9})(ms|s|m|h)")
_WHOLE = re.compile(r"(?:[0-9]{1,9}(?:ms|s|m|h))+")


def seconds(text: str) -> float:
    """Return the seconds that a duration says.

    Raises ValueError for anything that is not numbers with the units ms, s, m and h.
    """
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration: write for example 30s, 5m or 1h30m")
    return sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def spell(duration: float) -> str:
    """Write seconds as a duration that `seconds` reads back, to the millisecond."""
    left = round(duration * 1000)
    parts = []
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
