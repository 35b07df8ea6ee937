"""Kept forms at hand: shared between clusters, bounded, and read again when they are needed."""

from __future__ import annotations

import pytest

from engine.clusters.kept import KeptForms
from engine.clusters.settings import ClusterSettings
from engine.objects.kept import Kept
from events.event import Blob
from events.memory import MemoryLog
from tests.fakes import ManualClock

pytestmark = pytest.mark.anyio


class CountingLog(MemoryLog):
    """A log that counts how many bodies it is asked for."""

    asked = 0

    async def blobs(self, digests):  # type: ignore[no-untyped-def]
        self.asked += len(digests)
        return await super().blobs(digests)


def form(name: str) -> Kept:
    return Kept("v1", {"f:data": {f"f:{name}": {}}}, {"data": {name: "x"}}, {})


async def test_the_same_form_is_held_once_and_a_dropped_one_is_read_again() -> None:
    clock = ManualClock()
    log = CountingLog(clock.now)
    forms = KeptForms(log, clock, ClusterSettings(kept_forms=2))
    stored: list[Blob] = [forms.put(form(name)) for name in ("a", "a", "b", "c")]
    await log.put(stored)
    assert stored[0] == stored[1]
    assert len(forms._forms) == 2
    assert await forms.get(stored[3].digest) == form("c")
    assert log.asked == 0
    assert await forms.get(stored[0].digest) == form("a")
    assert log.asked == 1
    assert len(forms._forms) == 2
