"""What becomes of a sync that does not make a target well: it is said, and by policy undone. Pure.

After a sync a target has `sync.healthTimeout` to be healthy. Where it is not by then, that goes on
record, and with `sync.onDegraded: rollback` the target goes back to the last revision that was
healthy. A revision that was gone back from once is not gone back from again.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from engine.decide.compare import Findings
from engine.decide.situation import Situation
from engine.decide.stages import WAVE_TIMED_OUT, Step
from engine.resources.duration import seconds
from events.catalog import Fact, HealthTimedOut, RolledBack
from projections.targets import WELL


class Aftermath(Struct, frozen=True):
    """Facts to append; `until` is when to look again though nothing has happened, 0 for never."""

    facts: tuple[Fact, ...] = ()
    until: int = 0


def aftermath(situation: Situation, found: Findings, step: Step) -> Aftermath:
    """Look whether the last sync has made the target well in time."""
    spec, target = situation.spec, situation.target
    if spec is None or situation.suspension or not situation.cluster.connected:
        return Aftermath()
    if step.hold and step.hold.code == WAVE_TIMED_OUT:
        reason = f"not healthy in time: {step.hold.message}"
        return Aftermath(tuple(_back(situation, reason)))
    synced = target.synced
    if spec.sync.health_timeout is None:
        return Aftermath()
    time = int(seconds(spec.sync.health_timeout) * 1_000_000)
    if synced is None or situation.in_run:
        # Perhaps this very decision says that it is synced.
        return Aftermath(until=situation.now + time)
    is_told = target.timed_out > synced.position
    was_well = target.well is not None and target.well.position >= synced.position
    if is_told or was_well or found.health in WELL:
        return Aftermath()
    deadline = synced.at + time
    if situation.now < deadline:
        return Aftermath(until=deadline)
    late = HealthTimedOut(synced.commit, synced.desired, found.health, found.health_message)
    reason = f"{found.health} {spec.sync.health_timeout} after the sync to {synced.commit[:12]}"
    told = f"{reason}: {found.health_message}" if found.health_message else reason
    return Aftermath((late, *_back(situation, told)))


def _back(situation: Situation, reason: str) -> Iterator[RolledBack]:
    """Yield the rollback to what was healthy last, where policy wants it and it is news."""
    spec, target, well = situation.spec, situation.target, situation.target.well
    here = situation.desired.position
    if spec is None or spec.sync.on_degraded != "rollback" or target.pin or well is None:
        return
    if here in (well.desired, target.gone_back_from):
        return
    yield RolledBack(well.commit, well.desired, well.objects, well.count, reason, instead=here)
