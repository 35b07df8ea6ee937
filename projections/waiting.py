"""Which targets wait for another target, so that they are looked at when that one moves on.

Pure.
"""

from __future__ import annotations

from msgspec import Struct

from events.catalog import Fact, HoldLifted, ReconcileHeld, TargetUnassigned
from events.event import Event
from projections.fold import StreamFold, names


class WaitingDocument(Struct, frozen=True, omit_defaults=True):
    """What a target waits for: the other's stream; "" for nothing."""

    on: str = ""


class WaitingView(StreamFold[WaitingDocument]):
    """By target stream; indexed by the stream of the target that is waited for."""

    name = "waiting"
    document = WaitingDocument
    types = names((ReconcileHeld, HoldLifted, TargetUnassigned))
    kinds = ("target",)
    indexes: tuple[str, ...] = ("on",)

    def apply(
        self, key: str, document: WaitingDocument | None, event: Event, fact: Fact
    ) -> WaitingDocument | None:
        """Fold one event."""
        if isinstance(fact, ReconcileHeld) and fact.waits_for:
            return WaitingDocument(fact.waits_for)
        return None

    def index(self, document: WaitingDocument) -> tuple[str | None, ...]:
        """The target that is waited for."""
        return (document.on,)


WAITING = WaitingView()
