"""Kubernetes' quantities: `500m` and `0.5` are one, and the server writes what it likes. Pure."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

from engine.objects.fieldset import Path

_FORM = re.compile(
    r"([+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40}))"
    r"([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,3}|)"
)
_FACTORS: Final = {
    "": Decimal(1),
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    **{letter: Decimal(1000) ** -power for power, letter in enumerate("mun", 1)},
}
_FIELDS: Final = frozenset(
    f"f:{name}"
    for name in (
        "averageValue",
        "capacity",
        "default",
        "defaultRequest",
        "divisor",
        "hard",
        "limits",
        "max",
        "maxLimitRequestRatio",
        "min",
        "podFixed",
        "requests",
        "sizeLimit",
        "storage",
    )
)
"""Fields that are quantities, or maps of them. Elsewhere `1.10` and `1.1` may be two versions."""


def parsed(value: Any) -> Decimal | None:
    """Read a quantity as a manifest writes it; None for what is none."""
    if type(value) in (int, float):
        value = str(value)
    found = _FORM.fullmatch(value) if type(value) is str else None
    if found is None:
        return None
    number, suffix = found.groups()
    if suffix in _FACTORS:
        return Decimal(number) * _FACTORS[suffix]
    return Decimal(number) * Decimal(10) ** int(suffix[1:])


def same_quantity(sent: Any, answer: Any, path: Path) -> bool:
    """Whether what was sent is the quantity that the server answers, at a path of quantities."""
    if type(answer) is not str or _FIELDS.isdisjoint(path):
        return False
    one = parsed(sent)
    return one is not None and one == parsed(answer)
