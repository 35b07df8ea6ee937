"""Put on the path of an engine under test: counts what is alive in it, by type, when asked.

SIGUSR2 writes the counts, the blocks that Python has allocated (texts and bytes are no objects to
the collector, and are among these) and the resident bytes as JSON to the file that SOAK_CENSUS
names, whole or not at all. With SOAK_TRACE=N a snapshot of tracemalloc, N frames deep, goes beside.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from types import FrameType

_FILE = os.environ.get("SOAK_CENSUS", "")
_TRACE = int(os.environ.get("SOAK_TRACE", "0"))


def _count(_number: int, _frame: FrameType | None) -> None:
    # What was there when the engine began to serve counts, too: its caches are.
    gc.unfreeze()
    gc.collect()
    alive = Counter(
        f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects()
    )
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    found = {
        "resident": pages * os.sysconf("SC_PAGE_SIZE"),
        "blocks": sys.getallocatedblocks(),
        "alive": alive,
    }
    beside = Path(f"{_FILE}.new")
    beside.write_text(json.dumps(found))
    if _TRACE:
        tracemalloc.take_snapshot().dump(f"{_FILE}.trace")
    beside.replace(_FILE)


if _FILE:
    if _TRACE:
        tracemalloc.start(_TRACE)
    signal.signal(signal.SIGUSR2, _count)
