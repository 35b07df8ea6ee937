"""How the fleet stands, counted for those who watch metrics; read from the views when they ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import anyio
from msgspec import Struct
from msgspec.structs import replace

from engine.decide.state import SyncState
from engine.http.standing import standings
from engine.ports import Clock
from engine.telemetry import instruments
from engine.telemetry.instruments import Labels, Reading, broken_down
from events.vocabulary import Health
from projections.batch import Parked
from projections.clusters import CLUSTERS
from projections.declared import DECLARED
from projections.drift import DRIFT
from projections.projection import Reader
from projections.targets import TARGETS
from projections.views import Views, read_all

_EVERY = 10.0
"""Seconds for which what was read is good enough."""
_SHARE = 50
"""At most one part in so many of the time goes into counting, however large the fleet."""
_PAGE = 500
MICROS = 1_000_000
_Key = tuple[tuple[str, str | int], ...]


class ParkedViews(Views, Protocol):
    """Views that can say what is parked in them."""

    async def parked(self, limit: int = 1000) -> list[Parked]:
        """Return what is parked."""


class Standing(Struct, frozen=True):
    """What was counted, and at which position and time (microseconds)."""

    position: int = -1
    targets: tuple[Reading, ...] = ()
    healths: tuple[Reading, ...] = ()
    clusters: tuple[Reading, ...] = ()
    drift: int = 0
    oldest_drift: int = 0
    parked: int = 0


class Fleet:
    """Counts targets, clusters and drift; what it counted last is what the gauges tell."""

    def __init__(self, views: ParkedViews, clock: Clock) -> None:
        self._views, self._clock = views, clock
        self._lock = anyio.Lock()
        self._not_before = 0.0
        self._standing = Standing()

    def tell(self) -> None:
        """Have the gauges ask here from now on."""
        instruments.TARGETS.ask(lambda: self._standing.targets)
        instruments.HEALTHS.ask(lambda: self._standing.healths)
        instruments.CLUSTERS.ask(lambda: self._standing.clusters)
        instruments.DRIFT_OPEN.ask(lambda: [(self._standing.drift, {})])
        instruments.DRIFT_AGE.ask(lambda: [(self._drift_age(), {})])
        instruments.PARKED.ask(lambda: [(self._standing.parked, {})])

    async def refresh(self) -> None:
        """Count anew, unless nothing happened since, or that was a moment ago.

        Raises what the views raise.
        """
        async with self._lock:
            began = self._clock.monotonic()
            if began < self._not_before:
                return
            async with self._views.snapshot() as reader:
                if reader.position == self._standing.position:
                    return
                counted = await self._count(reader)
            parked = await self._views.parked()
            self._standing = replace(counted, parked=len(parked))
            took = self._clock.monotonic() - began
            self._not_before = began + max(_EVERY, took * _SHARE)

    async def _count(self, reader: Reader) -> Standing:
        # Zeros too: an alert on a series that was never there is an alert that never comes.
        targets: Counter[_Key] = Counter()
        targets.update({_key({"trueup.target.state": state.value}): 0 for state in SyncState})
        healths: Counter[_Key] = Counter()
        healths.update({_key({"trueup.health": health.value}): 0 for health in Health})
        after, full = "", True
        while full:
            page = await reader.page(TARGETS, after=after, limit=_PAGE)
            full = len(page) == _PAGE
            after = page[-1].key if page else ""
            documents = [found.document for found in page if found.document.assigned]
            for status in await standings(reader, documents, self._clock.now()):
                more = broken_down(status.cluster, f"{status.project}/{status.application}")
                targets[_key({"trueup.target.state": status.sync.value, **more})] += 1
                healths[_key({"trueup.health": status.health.value, **more})] += 1
        drift = await read_all(reader, DRIFT, where={"state": "open"})
        opened = [found.document.open.opened_at for found in drift if found.document.open]
        return Standing(
            position=reader.position,
            targets=_readings(targets),
            healths=_readings(healths),
            clusters=await _clusters(reader),
            drift=len(opened),
            oldest_drift=min(opened, default=0),
        )

    def _drift_age(self) -> float:
        opened = self._standing.oldest_drift
        return max(self._clock.now() - opened, 0) / MICROS if opened else 0.0


async def _clusters(reader: Reader) -> tuple[Reading, ...]:
    declared = await read_all(reader, DECLARED, where={"kind": "Cluster"})
    there = [found for found in declared if not found.document.withdrawn]
    known = await reader.get_many(CLUSTERS, [found.key for found in there])
    words = ("connected", "lost", "unknown")
    counted: Counter[_Key] = Counter()
    counted.update({_key({"trueup.cluster.state": word}): 0 for word in words})
    for found in there:
        state = known.get(found.key)
        word = "unknown"
        if state is not None:
            word = "connected" if state.document.connected else "lost"
        more = broken_down(found.document.name)
        counted[_key({"trueup.cluster.state": word, **more})] += 1
    return _readings(counted)


def _key(labels: Labels) -> _Key:
    return tuple(sorted(labels.items()))


def _readings(counted: Counter[_Key]) -> tuple[Reading, ...]:
    return tuple((number, dict(key)) for key, number in counted.items())


def ages(observed: Sequence[tuple[str, float]]) -> list[Reading]:
    """Return the ages in seconds of what is known of clusters, or the highest where one is told."""
    if instruments.Breakdown.cluster:
        return [(age, broken_down(cluster)) for cluster, age in observed]
    return [(max(age for _, age in observed), {})] if observed else []
