"""What a control repository changes: from all that it declares now to declarations to append.

Pure. A control repository takes back only what it declared itself, never itself, and never
everything at once unless its declaration says so; what a person or another control repository
declares, it may take over only in exactly the same words.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from msgspec import Struct

from engine.resources.parse import Located, Problem
from engine.resources.record import declared, kind_of, stream_of
from events.catalog import Declared, Withdrawn
from events.event import StreamName
from projections.declared import DeclaredDocument


class Change(Struct, frozen=True):
    """A fact to append to a resource's stream. `file` is where it stands, or stood."""

    stream: StreamName
    fact: Declared | Withdrawn
    file: str


class Plan(Struct, frozen=True):
    """What would be appended; nothing of it where there are `problems`."""

    changes: tuple[Change, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def leaving(self) -> set[StreamName]:
        """The streams of what is withdrawn."""
        return {item.stream for item in self.changes if isinstance(item.fact, Withdrawn)}


class Control(Struct, frozen=True):
    """A control repository at a commit. `place` is what a problem of the whole is told of."""

    stream: StreamName
    commit: str
    place: str
    allow_empty: bool = False

    @property
    def project(self) -> str:
        """The repository's project."""
        return self.stream.split("/", 2)[1]


def plan(
    control: Control,
    wanted: Sequence[Located],
    known: Mapping[str, DeclaredDocument],
    governing: Collection[str],
) -> Plan:
    """Compare what a control repository declares with what is declared.

    `known` has the document of every wanted resource that was ever declared, and of everything
    that the control repository declared and has not withdrawn. `governing` are the streams of the
    repositories that are control repositories now: what any other declared counts as a person's.
    """
    changes: list[Change] = []
    problems: list[Problem] = []
    for item in wanted:
        problem = _objection(control, item, known, governing)
        if problem is not None:
            problems.append(problem)
        elif not _stands(control, item, known):
            fact = declared(item.resource, owner=control.stream, file=item.file, at=control.commit)
            changes.append(Change(stream_of(item.resource), fact, item.file))
    there = {stream_of(item.resource) for item in wanted}
    left = {
        key: document
        for key, document in known.items()
        if document.owner == control.stream and not document.withdrawn and key not in there
    }
    problems += _never_by_accident(control, wanted, left)
    for key, document in left.items():
        cascade = document.spec.get("onRemoval") == "cascade"
        reason = f"{document.file} no longer declares it"
        ended = Withdrawn(document.kind, cascade, reason=reason, commit=control.commit)
        changes.append(Change(StreamName(key), ended, document.file))
    return Plan((), tuple(problems)) if problems else Plan(tuple(changes))


def _stands(control: Control, item: Located, known: Mapping[str, DeclaredDocument]) -> bool:
    document = known.get(stream_of(item.resource))
    return (
        document is not None
        and not document.withdrawn
        and document.owner == control.stream
        and _same(item, document)
    )


def _same(item: Located, document: DeclaredDocument) -> bool:
    fact = declared(item.resource)
    return fact.spec == document.spec and fact.labels == document.labels


def _objection(
    control: Control,
    item: Located,
    known: Mapping[str, DeclaredDocument],
    governing: Collection[str],
) -> Problem | None:
    metadata = item.resource.metadata

    def problem(field: str, message: str, hint: str) -> Problem:
        return Problem(item.file, item.line_of(tuple(field.split("."))), field, message, hint)

    if control.project != "default" and metadata.project != control.project:
        return problem(
            "metadata.project" if metadata.project != "default" else "metadata",
            f"is in project {metadata.project}, and the control repository in {control.project}",
            f"write project: {control.project}; only one in project default declares for others",
        )
    document = known.get(stream_of(item.resource))
    if document is None or document.withdrawn or document.owner == control.stream:
        return None
    name = f"{kind_of(item.resource)} {metadata.name}"
    if document.owner in governing:
        _, project, other = document.owner.split("/", 2)
        return problem(
            "metadata.name",
            f"{name} is declared by the control repository {project}/{other}, in {document.file}",
            "take it out there first",
        )
    if _same(item, document):
        return None
    return problem(
        "metadata.name",
        f"{name} is declared by hand (by {document.actor}), in other words than here",
        "write here what `trueup get -o yaml` shows under resource to hand it over, or delete it",
    )


def _never_by_accident(
    control: Control, wanted: Sequence[Located], left: Mapping[str, DeclaredDocument]
) -> Iterator[Problem]:
    own = left.get(control.stream)
    if own is not None:
        yield Problem(
            own.file,
            0,
            "",
            f"no longer declares the control repository {own.name} itself",
            "keep it; to let go of everything, set control: false in it first",
        )
    if not wanted and not control.allow_empty:
        loss = f": {len(left)} would be withdrawn" if left else ""
        yield Problem(
            control.place,
            0,
            "",
            f"there is no resource in any YAML file{loss}",
            "mind spec.controlPath; where it is meant, set spec.controlAllowEmpty: true",
        )
