"""How many targets stand, counted and found by index: what is each one's own, joined with the rest.

Pure. `sync_of` says of a target's own word (see `projections.fleet`) and its application what
`engine.decide.state.status` says of a target: a test holds the two to each other.
"""

from __future__ import annotations

from msgspec import Struct

from engine.decide.state import SyncState
from projections import fleet
from projections.declared import DeclaredDocument
from projections.desired import DesiredDocument
from projections.sources import SourceDocument


class AppState(Struct, frozen=True):
    """What is the same for all targets of an application. `desired` is its render's position."""

    suspended: bool
    failed: bool
    current: bool
    desired: int


def app_state(
    application: DeclaredDocument | None, source: SourceDocument, desired: DesiredDocument
) -> AppState:
    """Say what an application and its repository add to how each of its targets stands."""
    failure = desired.failure
    evaluated = max(desired.declared, failure.declared if failure else 0)
    return AppState(
        suspended=application is not None and application.suspended is not None,
        failed=failure is not None or (source.failure is not None and not source.commit),
        current=application is not None
        and bool(source.commit)
        and source.resolved == source.commit
        and evaluated >= application.position,
        desired=desired.position,
    )


def sync_of(word: str, app: AppState) -> SyncState:
    """Return the state of a target out of its own word and its application's state."""
    match word:
        case fleet.UNASSIGNED:
            return SyncState.UNASSIGNED
        case fleet.CORRECTING:
            return SyncState.PENDING
    if word == fleet.SUSPENDED or app.suspended:
        return SyncState.SUSPENDED
    if word == fleet.FAILED or app.failed:
        return SyncState.FAILED
    if word == fleet.HELD:
        return SyncState.HELD
    if word == fleet.WAITING:
        return SyncState.PENDING
    if word == fleet.DRIFTED:
        return SyncState.OUT_OF_SYNC
    is_there = word == f"{fleet.SYNCED}@{app.desired}"
    return SyncState.SYNCED if app.current and is_there else SyncState.PENDING
