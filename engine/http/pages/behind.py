"""How far behind a target is: how many commits lie between where it is and where it should be."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from engine.decide.state import TargetStatus
from projections.commits import COMMITS, commit_key
from projections.projection import Reader

FURTHEST = 50
ELSEWHERE = "another line"
"""Said of a target whose commit is not among those that led to where it should be."""
_KEPT = 64


class Distances:
    """Counts commits along first parents, `FURTHEST` at most; what it walked it remembers.

    A commit's parents never change, so what is remembered stays true.
    """

    def __init__(self) -> None:
        self._chains: OrderedDict[tuple[str, str], list[str]] = OrderedDict()

    async def of(self, reader: Reader, items: Iterable[TargetStatus]) -> dict[str, str]:
        """Return how far behind each target is that is (`3`, `50+`), by `project/target`."""
        behind = {}
        for item in items:
            if not item.revision or item.revision == item.desired_revision:
                continue
            chain = await self._chain(reader, item.project, item.desired_revision)
            if item.revision in chain:
                far = str(chain.index(item.revision))
            else:
                far = f"{FURTHEST}+" if len(chain) > FURTHEST else ELSEWHERE
            behind[f"{item.project}/{item.target}"] = far
        return behind

    async def _chain(self, reader: Reader, project: str, tip: str) -> list[str]:
        chain = self._chains.get((project, tip))
        if chain is None:
            chain = [tip]
            while len(chain) <= FURTHEST:
                found = await reader.get(COMMITS, commit_key(project, chain[-1]))
                if found is None or not found.document.parents:
                    break
                chain.append(found.document.parents[0])
            self._chains[project, tip] = chain
            if len(self._chains) > _KEPT:
                self._chains.popitem(last=False)
        return chain
