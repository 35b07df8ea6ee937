"""Just enough of PromQL to tell which series and labels an expression is about."""

from __future__ import annotations

import re

from msgspec import Struct

_FUNCTIONS = frozenset(
    {"absent", "avg", "histogram_quantile", "increase", "label_values", "max", "min", "rate", "sum"}
)
_WORDS = frozenset({"and", "by", "ignoring", "offset", "on", "or", "unless", "without"})
_TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*")|(?P<range>\[[^\]]*\])|(?P<number>\d[\w.]*)
    |(?P<name>[A-Za-z_:][\w:]*)|(?P<sign>=~|!~|!=|==|<=|>=|[-+*/%^(){}=<>,])|(?P<space>\s+)""",
    re.VERBOSE,
)


class Series(Struct, frozen=True):
    """A selector: the series' name, and its matchers by label (operator, text)."""

    name: str
    matchers: dict[str, tuple[str, str]]


class Expression(Struct, frozen=True):
    """What an expression selects, and the labels that it groups by."""

    series: tuple[Series, ...]
    groups: frozenset[str]


class Malformed(Exception):
    """An expression that is none."""


def read(text: str) -> Expression:
    """Read an expression; raises `Malformed`."""
    tokens = _tokens(text)
    series: list[Series] = []
    groups: set[str] = set()
    depth = at = 0
    while at < len(tokens):
        token = tokens[at]
        depth += {"(": 1, ")": -1}.get(token, 0)
        if depth < 0:
            raise Malformed(f"a ) too many: {text}")
        at += 1
        if token in ("by", "without", "on", "ignoring"):
            labels, at = _until(tokens, at, "(", ")")
            if any(comma != "," for comma in labels[1::2]) or "," in labels[::2]:
                raise Malformed(f"labels {' '.join(labels)} in: {text}")
            groups |= set(labels[::2])
        elif token[0].isalpha() or token[0] == "_":
            if token in _WORDS:
                continue
            if token in _FUNCTIONS:
                if at == len(tokens) or tokens[at] not in ("(", "by", "without"):
                    raise Malformed(f"{token} is called without arguments: {text}")
                continue
            matchers: dict[str, tuple[str, str]] = {}
            if at < len(tokens) and tokens[at] == "{":
                found, at = _until(tokens, at, "{", "}")
                matchers = _matchers(found, text)
            series.append(Series(token, matchers))
    if depth:
        raise Malformed(f"a ( too many: {text}")
    return Expression(tuple(series), frozenset(groups))


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise Malformed(f"{text[at : at + 20]!r} in: {text}")
        at = match.end()
        if match.lastgroup != "space":
            tokens.append(match[0])
    return tokens


def _until(tokens: list[str], at: int, opening: str, closing: str) -> tuple[list[str], int]:
    if at >= len(tokens) or tokens[at] != opening or closing not in tokens[at:]:
        raise Malformed(f"{opening}…{closing} is missing in {' '.join(tokens)}")
    end = tokens.index(closing, at)
    return tokens[at + 1 : end], end + 1


def _matchers(found: list[str], text: str) -> dict[str, tuple[str, str]]:
    groups = [found[start : start + 3] for start in range(0, len(found), 4)]
    if any(comma != "," for comma in found[3::4]) or any(len(group) != 3 for group in groups):
        raise Malformed(f"matchers {' '.join(found)} in: {text}")
    return {label: (sign, value[1:-1]) for label, sign, value in groups}
