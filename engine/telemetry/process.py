"""What the process itself uses, read from the kernel when metrics are collected."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from engine.telemetry.instruments import CPU_TIME, MEMORY, Reading

_STATM = Path("/proc/self/statm")


def report() -> None:
    """Tell memory and processor time from now on."""
    MEMORY.ask(_memory)
    CPU_TIME.ask(_cpu)


def _memory() -> list[Reading]:
    try:
        pages = int(_STATM.read_text("ascii").split()[1])
    except OSError:
        return []  # no Linux: nothing is better than a peak that is called the present
    return [(float(pages * os.sysconf("SC_PAGE_SIZE")), {})]


def _cpu() -> list[Reading]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return [(used.ru_utime, {"cpu.mode": "user"}), (used.ru_stime, {"cpu.mode": "system"})]
