"""Runs benchmarks: `python -m benchmarks [NAME ...] [option=value ...]`, or `make bench`.

A benchmark is a module of this package with an async generator `figures`; its keyword arguments,
with their defaults, are its options.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import benchmarks
from benchmarks.frame import CannotRun, say

_NO_BENCHMARKS = frozenset({"__main__", "frame"})


class BadWords(Exception):
    """The command line names what is not there."""


def names() -> list[str]:
    """Name every benchmark: each module here, but for packages, which hold what they share."""
    found = pkgutil.iter_modules(benchmarks.__path__)
    return [each.name for each in found if not each.ispkg and each.name not in _NO_BENCHMARKS]


def chosen(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Split words into benchmarks (all, where none is named) and options; raises `BadWords`."""
    options = dict(word.split("=", 1) for word in words if "=" in word)
    asked = [word for word in words if "=" not in word]
    known = names()
    for name in asked:
        if name not in known:
            raise BadWords(f"no benchmark {name!r}; there are {', '.join(known)}")
    return asked or known, options


def options_of(name: str, given: Mapping[str, str]) -> dict[str, Any]:
    """Read options as the types of their defaults; raises `BadWords` for an unknown or bad one."""
    figures = importlib.import_module(f"benchmarks.{name}").figures
    parameters = inspect.signature(figures).parameters
    found: dict[str, Any] = {}
    for key, text in given.items():
        if key not in parameters:
            raise BadWords(f"{name} has no option {key!r}; it has {', '.join(parameters)}")
        try:
            found[key] = type(parameters[key].default)(text)
        except ValueError:
            raise BadWords(f"{name}: {key}={text} is not a {_kind(parameters[key])}") from None
    return found


def _kind(parameter: inspect.Parameter) -> str:
    return type(parameter.default).__name__


async def measure(name: str, options: Mapping[str, Any]) -> bool:
    """Run one benchmark, printing each figure as it comes; False where it cannot run here."""
    say(f"{name} ...")
    try:
        async for figure in importlib.import_module(f"benchmarks.{name}").figures(**options):
            print(figure.line(), flush=True)
    except CannotRun as why:
        say(f"{name}: {why}")
        return False
    return True


def main(words: Sequence[str]) -> int:
    """Return the status to exit with: 0 measured, 1 something could not run, 2 bad words."""
    try:
        asked, given = chosen(words)
        options = {name: options_of(name, given) for name in asked}
    except BadWords as error:
        say(str(error))
        return 2
    results = [asyncio.run(measure(name, options[name])) for name in asked]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
