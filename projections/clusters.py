"""Which clusters answer, and which kinds can be read there.

Pure.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from events.catalog import (
    ClusterConnected,
    ClusterLost,
    Fact,
    KindReadable,
    KindUnreadable,
    ObservationConfirmed,
)
from events.event import Event
from projections.fold import StreamFold, names
from projections.sources import Failure


class KindState(Struct, frozen=True, omit_defaults=True):
    """Whether a kind can be read, and its scope; `code` is "" where it can."""

    namespaced: bool = True
    code: str = ""
    message: str = ""
    position: int = 0


class ClusterDocument(Struct, frozen=True, omit_defaults=True):
    """A cluster. `kinds` is keyed by `apiVersion/Kind` as declared.

    A kind that is not there has not been looked at; one with a code is unknown, never empty.
    """

    connected: bool = False
    server_version: str = ""
    lost: Failure | None = None
    since: int = 0
    kinds: dict[str, KindState] = {}
    confirmed_at: int = 0
    confirmed_objects: int = 0
    confirmed_root: str = ""


def kind_key(api_version: str, kind: str) -> str:
    """Return the key of a kind in `ClusterDocument.kinds`."""
    return f"{api_version}/{kind}"


class ClustersView(StreamFold[ClusterDocument]):
    """Clusters by stream."""

    name = "clusters"
    document = ClusterDocument
    types = names(
        (ClusterConnected, ClusterLost, KindReadable, KindUnreadable, ObservationConfirmed)
    )
    kinds = ("cluster",)

    def apply(
        self, key: str, document: ClusterDocument | None, event: Event, fact: Fact
    ) -> ClusterDocument | None:
        """Fold one event."""
        known = document or ClusterDocument()
        match fact:
            case ClusterConnected():
                return replace(
                    known,
                    connected=True,
                    server_version=fact.server_version,
                    lost=None,
                    since=event.recorded_at,
                )
            case ClusterLost():
                lost = Failure(fact.code, fact.message, event.position, event.recorded_at)
                return replace(known, connected=False, lost=lost, since=event.recorded_at)
            case KindReadable():
                state = KindState(namespaced=fact.namespaced, position=event.position)
                return _with_kind(known, fact.api_version, fact.kind, state)
            case KindUnreadable():
                state = KindState(code=fact.code, message=fact.message, position=event.position)
                return _with_kind(known, fact.api_version, fact.kind, state)
            case ObservationConfirmed():
                return replace(
                    known,
                    confirmed_at=event.recorded_at,
                    confirmed_objects=fact.objects,
                    confirmed_root=fact.root,
                )
        return document


def _with_kind(
    document: ClusterDocument, api_version: str, kind: str, state: KindState
) -> ClusterDocument:
    return replace(document, kinds=document.kinds | {kind_key(api_version, kind): state})


CLUSTERS = ClustersView()
