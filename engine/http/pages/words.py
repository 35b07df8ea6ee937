"""Times, numbers and values as pages write them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

MICROS = 1_000_000
_STEPS = ((86_400 * 365, "y"), (86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
MAX_VALUE = 400


def iso(micros: int) -> str:
    """Write microseconds since the epoch as RFC 3339 in UTC, to the millisecond."""
    moment_ = datetime.fromtimestamp(micros // MICROS, UTC)
    return f"{moment_:%Y-%m-%dT%H:%M:%S}.{micros % MICROS // 1000:03d}Z"


def moment(micros: int) -> str:
    """Write microseconds since the epoch for people, in UTC."""
    return f"{datetime.fromtimestamp(micros // MICROS, UTC):%Y-%m-%d %H:%M:%S}"


def ago(micros: int, now: int) -> str:
    """Write how long ago something was, in its largest unit, as `kubectl` writes ages."""
    seconds = (now - micros) // MICROS
    if seconds < 0:
        return "in " + span(-seconds)
    return span(seconds) + " ago" if seconds else "just now"


def span(seconds: int) -> str:
    """Write a duration in its largest unit."""
    for size, unit in _STEPS:
        if seconds >= size * (2 if unit == "min" else 1):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def short(commit: str) -> str:
    """Write a commit's id as people do."""
    return commit[:10]


def number(value: int) -> str:
    """Write a number with its thousands apart."""
    return f"{value:,}".replace(",", "\u202f")


def count(value: int, thing: str, things: str = "") -> str:
    """Write how many there are."""
    return f"{number(value)} {thing if value == 1 else things or thing + 's'}"


def value(of: Any) -> str:
    """Write a field's value: text as it is, anything else as JSON; cut where it is long."""
    written = of if isinstance(of, str) else msgspec.json.encode(of).decode()
    return written if len(written) <= MAX_VALUE else written[:MAX_VALUE] + " …"


def sum_but_unassigned(states: Mapping[str, int]) -> int:
    """Add up how many targets there are, but for those that are none any more."""
    return sum(count for state, count in states.items() if state != "unassigned")
