"""What every benchmark is made of: a figure, and the alternation with its ceiling."""

from __future__ import annotations

import math
import os
import statistics
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct


class Figure(Struct, frozen=True):
    """One measured value. `ceiling` is what the bare work came to, in the same unit and run."""

    name: str
    value: float
    unit: str
    ceiling: float | None = None
    params: dict[str, Any] = {}

    @property
    def ratio(self) -> float | None:
        """Value over ceiling: of rates more is better, of times and sizes less."""
        return self.value / self.ceiling if self.ceiling else None

    def line(self) -> str:
        """Return the figure as one JSON object."""
        shown = {
            "name": self.name,
            "value": _short(self.value),
            "unit": self.unit,
            "ceiling": _short(self.ceiling),
            "ratio": _short(self.ratio),
            "params": self.params,
        }
        return msgspec.json.encode(shown).decode()


class CannotRun(Exception):
    """A benchmark lacks something of this machine; says what, and how to get it."""


Measure = Callable[[], Awaitable[float]]


async def alternate(subject: Measure, ceiling: Measure, rounds: int = 3) -> tuple[float, float]:
    """Measure both in turn, who goes first changing each round; return the medians.

    So what else the machine does, and what warms up, falls on both alike.
    """
    values: list[float] = []
    ceilings: list[float] = []
    for number in range(rounds):
        pair = [(subject, values), (ceiling, ceilings)]
        for measure, into in pair if number % 2 else reversed(pair):
            into.append(await measure())
    return statistics.median(values), statistics.median(ceilings)


def percentile(values: list[float], share: float) -> float:
    """Return the least value that `share` (0 to 1) of the values do not exceed; raises for none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values to take a percentile of")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def memory(pid: int) -> float:
    """Return the resident memory of a process in MB; raises OSError where it is gone."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_memory(pid: int) -> float:
    """Return the most memory that a process ever had resident, in MB; raises OSError as above."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has used; raises OSError where it is gone."""
    # The second field is a name in parentheses that may hold spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def say(text: str) -> None:
    """Tell on standard error how far a benchmark is; standard output has figures alone."""
    print(text, file=sys.stderr, flush=True)


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}") if abs(value) < 1e4 else round(value)
