"""What the folds share: how the streams are called, and the shape of a small projection.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from msgspec import Struct

from events.catalog import Fact
from events.event import Event, StreamName, stream
from projections.projection import SNAPSHOT_EVERY

D = TypeVar("D", bound=Struct)


class StreamFold(Generic[D]):
    """A projection with one document a stream, for the streams of some kinds.

    Subclasses set `name`, `version`, `document`, `types`, `kinds` and write `fold`.
    """

    name: str
    version: int = 1
    document: type[D]
    types: frozenset[str]
    kinds: tuple[str, ...]
    indexes: tuple[str, ...] = ()
    snapshot_every: int = SNAPSHOT_EVERY
    present_only: tuple[str, ...] = ()

    def keys(self, event: Event, fact: Fact) -> Iterable[str]:
        """Name the stream, where it is of a kind that is folded here."""
        return (event.stream,) if event.stream.partition("/")[0] in self.kinds else ()

    def apply(self, key: str, document: D | None, event: Event, fact: Fact) -> D | None:
        """Fold one event."""
        raise TypeError(f"{type(self).__name__} does not say how to fold {type(fact).__name__}")

    def index(self, document: D) -> tuple[str | None, ...]:
        """Return the indexed values: none, unless a subclass has some."""
        return ()

    def subject(self, key: str) -> str | None:
        """None: a document is folded from the stream that its key names."""
        return None


class TargetId(Struct, frozen=True, order=True):
    """One application on one cluster, both of one project."""

    project: str
    application: str
    cluster: str

    @property
    def stream(self) -> StreamName:
        """The stream of the target's own events."""
        return stream("target", self.project, f"{self.application}@{self.cluster}")

    @property
    def app_stream(self) -> StreamName:
        """The stream of its application."""
        return stream("app", self.project, self.application)

    @property
    def cluster_stream(self) -> StreamName:
        """The stream of its cluster."""
        return stream("cluster", self.project, self.cluster)

    @property
    def label(self) -> str:
        """The target as people write it: `app@cluster`."""
        return f"{self.application}@{self.cluster}"


def target_of(stream_name: str) -> TargetId:
    """Read a target stream's name; ValueError where it is none."""
    kind, project, name = stream_name.split("/", 2)
    application, at, cluster = name.rpartition("@")
    if kind != "target" or not at:
        raise ValueError(f"{stream_name} is not the stream of a target")
    return TargetId(project, application, cluster)


def names(fact_types: Iterable[type[Fact]]) -> frozenset[str]:
    """Return the type names of some facts."""
    return frozenset(fact.__name__ for fact in fact_types)


def object_key(cluster_stream: str, identity: str) -> str:
    """Return the key of an object's document: its cluster's stream and its identity."""
    return f"{cluster_stream}|{identity}"
