"""What is alive in a running engine, by type, after each round; and what has grown in every one."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import anyio

PROBE = Path(__file__).with_name("probe")
ROUNDS = 10
"""So many rounds in a row in which there are more of a type than before are no chance."""
AT_HAND = frozenset(
    {
        "engine.objects.fieldset.FieldSet",
        "engine.objects.kept.Kept",
        "engine.ports.Rendered",
        "engine.render.files.NeededFile",
        "engine.render.files.Plan",
        "events.vocabulary.Desired",
        "events.vocabulary.ObjectRef",
    }
)
"""What caches have that are bounded by bytes: there is more of it until they are full."""
_PATIENCE = 60.0
_OURS = ("engine.", "events.", "projections.", "aiohttp.", "anyio.", "asyncio.", "asyncpg.")


class Census:
    """The counts of each round, of one process. `environment` is what it is to be started with."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "census.json"
        path = os.pathsep.join([str(PROBE), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.environment: Mapping[str, str] = {"PYTHONPATH": path, "SOAK_CENSUS": str(self._file)}
        self.resident: list[float] = []
        """In MB."""
        self.blocks: list[int] = []
        self.counts: list[Counter[str]] = []

    async def take(self, process: int) -> None:
        """Count once more. Raises TimeoutError where the process does not answer."""
        self._file.unlink(missing_ok=True)
        os.kill(process, signal.SIGUSR2)
        with anyio.fail_after(_PATIENCE):
            while not self._file.exists():  # noqa: ASYNC110 - another process
                await anyio.sleep(0.05)
        found = json.loads(self._file.read_text())
        self.resident.append(found["resident"] / 1e6)
        self.blocks.append(found["blocks"])
        self.counts.append(Counter(found["alive"]))

    def grown(self) -> dict[str, list[int]]:
        """Return the types of which there were more after each of the last rounds; {} too early.

        Of ours, and of the libraries that hold tasks and connections; but what caches have.
        """
        last = self.counts[-ROUNDS - 1 :]
        if len(last) <= ROUNDS:
            return {}
        return {
            name: [count[name] for count in last]
            for name in sorted(last[-1])
            if name.startswith(_OURS) and name not in AT_HAND
            if all(before[name] < after[name] for before, after in pairwise(last))
        }
