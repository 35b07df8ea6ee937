"""Expressions in CEL, as they are declared: their syntax, and what bounds their cost. Pure.

CEL: https://github.com/google/cel-spec. The library is loaded when the first expression is met.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

LONGEST: Final = 2_000
NESTING: Final = 2
"""How deep macros that go over lists may be nested."""
_DEEPEST = 40
_MACRO = re.compile(r"\.\s*(?:all|exists|exists_one|filter|map)\s*$")
_MET = (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, AttributeError)
"""The library raises Python's own exceptions for whatever it meets."""
_BOUND = re.compile(r"\.\s*(?:all|exists|exists_one|filter|map)\s*\(\s*([A-Za-z_]\w*)\s*,")
_VARIABLES = frozenset({"object"})


class Expression:
    """An expression that was found good; raises `ValueError` where it is not."""

    def __init__(self, text: str) -> None:
        wrong = expression_fault(text)
        if wrong:
            raise ValueError(wrong)
        self.text, self.nesting, self._program = text, nesting(text), _compile(text)

    def value(self, variables: Mapping[str, Any]) -> Any:
        """Return its value; raises `ValueError` with the reason."""
        try:
            return self._program.execute(dict(variables))
        except KeyError as error:
            raise ValueError(f"there is no field {error.args[0]} (ask with has())") from None
        except _MET as error:
            said = str(error).partition(". ")[0]
            raise ValueError(said[:200] or type(error).__name__) from None


def expression_fault(text: str) -> str:
    """Say what is wrong with an expression; "" for nothing."""
    if len(text) > LONGEST:
        return f"must be at most {LONGEST} characters"
    try:
        deep = nesting(text)
    except ValueError as error:
        return str(error)
    if deep > NESTING:
        return f"goes over lists within lists {deep} deep: at most {NESTING}"
    try:
        program = _compile(text)
    except _MET as error:
        return f"is no CEL expression: {_syntax(str(error))}"
    if "matches" in program.functions():
        # Each call compiles its pattern, which takes up to a tenth of a second, however short the
        # list that a macro goes over.
        return "must not use matches(): use startsWith, endsWith or contains"
    unknown = sorted(set(program.variables()) - _VARIABLES - set(_BOUND.findall(text)))
    return f"knows no {unknown[0]!r}: it sees the object as `object`" if unknown else ""


def nesting(text: str) -> int:
    """Return how deep macros are nested in an expression; raises `ValueError` on odd brackets."""
    opened: list[bool] = []
    deepest = at = 0
    while at < len(text):
        char = text[at]
        if text.startswith(('"""', "'''"), at):
            raise ValueError("must have no strings in triple quotes")
        if char in "\"'":
            at = _end_of_string(text, at)
        elif char in "([{":
            opened.append(char == "(" and _MACRO.search(text, 0, at) is not None)
            if len(opened) > _DEEPEST:
                raise ValueError(f"must have brackets at most {_DEEPEST} deep")
            deepest = max(deepest, sum(opened))
        elif char in ")]}":
            if not opened:
                raise ValueError("closes a bracket that is not open")
            opened.pop()
        at += 1
    if opened:
        raise ValueError("leaves a bracket open")
    return deepest


def _end_of_string(text: str, start: int) -> int:
    raw = start > 0 and text[start - 1] in "rR"
    at = start + 1
    while at < len(text) and text[at] != text[start]:
        at += 1 if raw or text[at] != "\\" else 2
    if at >= len(text):
        raise ValueError("leaves a string open")
    return at


@cache
def _library() -> Any:
    import cel

    return cel


def _compile(text: str) -> Any:
    return _library().compile(text)


def _syntax(message: str) -> str:
    lines = [line for line in message.splitlines() if "ERROR" in line]
    return (lines[0].rpartition("ERROR: ")[2] if lines else message)[:200]
