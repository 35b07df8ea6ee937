"""Where each repository stands: the commit that its ref names, and what is known of it.

Pure.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from events.catalog import (
    ConfigurationApplied,
    ConfigurationRefused,
    Fact,
    RefMoved,
    RevisionResolved,
    SourceChecked,
    SourceFailed,
    SourceRecovered,
)
from events.event import Event
from events.vocabulary import ConfigurationProblem
from projections.fold import StreamFold, names


class Failure(Struct, frozen=True, omit_defaults=True):
    """What went wrong, since when."""

    code: str
    message: str
    position: int
    at: int


class Refusal(Struct, frozen=True, omit_defaults=True):
    """Why a commit's configuration is not in force, since when."""

    commit: str
    declared: int
    problems: tuple[ConfigurationProblem, ...]
    position: int
    at: int
    omitted: int = 0


class Configuration(Struct, frozen=True, omit_defaults=True):
    """What a control repository has put in force, and what of it is refused now.

    `commit` is the last good one, "" where there was none; `declared` the repository's
    declaration that it was read by; `resources` how many it declares.
    """

    commit: str = ""
    declared: int = 0
    resources: int = 0
    position: int = 0
    at: int = 0
    refused: Refusal | None = None


class SourceDocument(Struct, frozen=True, omit_defaults=True):
    """A repository. `resolved` is the last commit whose meaning is known for every application.

    `requested` is the position of the last SyncRequested that a look has answered.
    """

    ref: str = ""
    commit: str = ""
    moved: int = 0
    moved_at: int = 0
    forced: bool = False
    resolved: str = ""
    resolved_position: int = 0
    requested: int = 0
    requested_failed: str = ""
    failure: Failure | None = None
    configuration: Configuration | None = None


class SourcesView(StreamFold[SourceDocument]):
    """Repositories by stream."""

    name = "sources"
    document = SourceDocument
    types = names(
        (
            RefMoved,
            SourceFailed,
            SourceRecovered,
            SourceChecked,
            RevisionResolved,
            ConfigurationApplied,
            ConfigurationRefused,
        )
    )
    kinds = ("repo",)

    def apply(
        self, key: str, document: SourceDocument | None, event: Event, fact: Fact
    ) -> SourceDocument | None:
        """Fold one event."""
        known = document or SourceDocument()
        match fact:
            case RefMoved():
                return replace(
                    known,
                    ref=fact.ref,
                    commit=fact.commit,
                    forced=fact.forced,
                    moved=event.position,
                    moved_at=event.recorded_at,
                )
            case RevisionResolved():
                return replace(known, resolved=fact.commit, resolved_position=event.position)
            case SourceChecked():
                return replace(known, requested=fact.requested, requested_failed=fact.failed)
            case SourceFailed():
                failure = Failure(fact.code, fact.message, event.position, event.recorded_at)
                return replace(known, failure=failure)
            case SourceRecovered():
                return replace(known, failure=None)
            case ConfigurationApplied() | ConfigurationRefused():
                return replace(known, configuration=_configured(known.configuration, event, fact))
        return document


def _configured(
    known: Configuration | None, event: Event, fact: ConfigurationApplied | ConfigurationRefused
) -> Configuration:
    if isinstance(fact, ConfigurationRefused):
        refusal = Refusal(
            commit=fact.commit,
            declared=fact.declared,
            problems=fact.problems,
            position=event.position,
            at=event.recorded_at,
            omitted=fact.omitted,
        )
        return replace(known or Configuration(), refused=refusal)
    return Configuration(
        commit=fact.commit,
        declared=fact.declared,
        resources=fact.resources,
        position=event.position,
        at=event.recorded_at,
    )


SOURCES = SourcesView()
