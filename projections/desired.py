"""What each application should be: the last good render, and what is wrong with a later one.

Pure. The objects themselves are in a blob: a list of references and digests.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from events.catalog import DesiredRendered, Fact, RenderFailed, Withdrawn
from events.event import Event
from projections.fold import StreamFold, names


class RenderFailure(Struct, frozen=True, omit_defaults=True):
    """Why a commit does not render."""

    commit: str
    declared: int
    code: str
    message: str
    position: int
    at: int
    inputs: str = ""
    file: str = ""
    document: int = 0
    line: int = 0


class DesiredDocument(Struct, frozen=True, omit_defaults=True):
    """The last good render of an application; `position` is 0 where there is none yet.

    `failure` is that of a later attempt, None where the last one went well.
    """

    commit: str = ""
    declared: int = 0
    inputs: str = ""
    renderer: str = ""
    objects: str = ""
    count: int = 0
    position: int = 0
    at: int = 0
    failure: RenderFailure | None = None


class DesiredView(StreamFold[DesiredDocument]):
    """Applications by stream."""

    name = "desired"
    version = 2
    document = DesiredDocument
    types = names((DesiredRendered, RenderFailed, Withdrawn))
    kinds = ("app",)

    def apply(
        self, key: str, document: DesiredDocument | None, event: Event, fact: Fact
    ) -> DesiredDocument | None:
        """Fold one event."""
        match fact:
            case Withdrawn():
                # One of this name that is declared later starts from its own first render.
                return None
            case DesiredRendered():
                return DesiredDocument(
                    commit=fact.commit,
                    declared=fact.declared,
                    inputs=fact.inputs,
                    renderer=fact.renderer,
                    objects=fact.objects,
                    count=fact.count,
                    position=event.position,
                    at=event.recorded_at,
                )
            case RenderFailed():
                failure = RenderFailure(
                    commit=fact.commit,
                    declared=fact.declared,
                    code=fact.code,
                    message=fact.message,
                    position=event.position,
                    at=event.recorded_at,
                    inputs=fact.inputs,
                    file=fact.file,
                    document=fact.document,
                    line=fact.line,
                )
                return replace(document or DesiredDocument(), failure=failure)
        return document


DESIRED = DesiredView()
