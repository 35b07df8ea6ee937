"""Quantities in their canonical form: `2000m` is written `2`, `1024Mi` is `1Gi`. Pure."""

from __future__ import annotations

import re
from fractions import Fraction

_FORM = re.compile(
    r"([+-]?)(\d{1,40}\.?\d{0,40}|\.\d{1,40})"
    r"(?:([numkMGTPE]|[KMGTPE]i)?|[eE]([+-]?\d{1,3}))\Z"
)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BY_EXPONENT = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def canonical(text: str) -> str | None:
    """The canonical form of a quantity; None when the text is none."""
    match = _FORM.match(text)
    if match is None:
        return None
    sign, digits, suffix, exponent = match.groups()
    value = Fraction(digits if digits[0] != "." else "0" + digits)
    suffix = suffix or ""
    if exponent is not None:
        return sign.strip("+") + _exponent(value * Fraction(10) ** int(exponent))
    if suffix in _BINARY[1:]:
        value *= 1024 ** _BINARY.index(suffix)
        # Below 1024 a binary quantity is written as a decimal one.
        if value >= 1024:
            return sign.strip("+") + _binary(value)
    else:
        value *= Fraction(10) ** _DECIMAL[suffix]
    return sign.strip("+") + _decimal(value)


def _binary(value: Fraction) -> str:
    number, power = -(-value.numerator // value.denominator), 0
    while number % 1024 == 0 and power < len(_BINARY) - 1:
        number, power = number // 1024, power + 1
    return f"{number}{_BINARY[power]}"


def _nano(value: Fraction) -> tuple[int, int]:
    """Mantissa and exponent, a multiple of three; what is finer than a nano is rounded up."""
    scaled = value * 10**9
    number, exponent = -(-scaled.numerator // scaled.denominator), -9
    while number and number % 1000 == 0 and exponent < 18:
        number, exponent = number // 1000, exponent + 3
    return (number, exponent) if number else (0, 0)


def _decimal(value: Fraction) -> str:
    number, exponent = _nano(value)
    return f"{number}{_BY_EXPONENT[exponent]}"


def _exponent(value: Fraction) -> str:
    number, exponent = _nano(value)
    return f"{number}e{exponent}" if exponent else str(number)
