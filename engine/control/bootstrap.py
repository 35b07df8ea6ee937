"""`trueup run --control`: the control repository that an engine is started with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from engine.admission import Roots, check_roots, governors
from engine.ports import Clock
from engine.resources.meaning import url_scheme
from engine.resources.parse import Problem, Refused, check_values, field_name
from engine.resources.record import declared, stream_of, written
from engine.resources.spelling import did_you_mean
from events.catalog import Declared
from events.event import Actor, NewEvent, StreamName, stream
from events.log import EventLog
from projections.declared import DECLARED, DeclaredDocument
from projections.views import Views, read_all

ACTOR = Actor("engine:supervisor")
NAME = "control"


class Asked(Struct, frozen=True):
    """What the settings ask for: a URL, or the name of a declared repository (`[project/]name`).

    `path` and `branch` are "" where nothing is said: what is declared stays.
    """

    repository: str
    path: str = ""
    branch: str = ""


async def ensure_control(
    log: EventLog, views: Views, clock: Clock, roots: Roots, asked: Asked
) -> None:
    """Declare what `--control` names as a control repository, unless it is declared so already.

    A URL is declared as Repository `control` of project default. Raises ValueError where that
    cannot be done.
    """
    name = _stream_of(asked.repository)
    version = await log.version(name)
    await views.reached(await log.head())
    async with views.snapshot() as reader:
        found = await reader.get(DECLARED, name)
        document = found.document if found and not found.document.withdrawn else None
        others = await read_all(reader, DECLARED, where={"kind": "Repository"})
        is_owned = document is not None and bool(await governors(reader, [document.owner]))
    if document is None and not url_scheme(asked.repository):
        known = [item.document.name for item in others]
        raise ValueError(
            f"--control names {asked.repository}, and no such repository is declared"
            f"{did_you_mean(asked.repository, known)}; give its URL, or declare it first"
        )
    fact = _wanted(name, document, roots, asked)
    if document is not None and document.spec == fact.spec:
        return
    if document is not None and is_owned:
        raise ValueError(
            f"repository {document.name} is declared by {document.owner}, in {document.file}, in "
            "other words than --control asks for: change it there, or start without --control"
        )
    event = NewEvent(
        event_id=clock.event_id(),
        stream=name,
        fact=fact,
        actor=ACTOR,
        occurred_at=clock.now(),
        expected=version,
    )
    appended = await log.append([event])
    await views.reached(appended.last)


def _stream_of(repository: str) -> StreamName:
    if url_scheme(repository):
        return stream("repo", "default", NAME)
    project, slash, name = repository.rpartition("/")
    return stream("repo", project if slash else "default", name)


def _wanted(
    name: StreamName, document: DeclaredDocument | None, roots: Roots, asked: Asked
) -> Declared:
    _, project, short = name.split("/", 2)
    spec: dict[str, Any] = dict(document.spec) if document else {}
    spec["control"] = True
    if url_scheme(asked.repository):
        spec["url"] = asked.repository
    if asked.path:
        spec["controlPath"] = asked.path
    if asked.branch:
        spec["ref"] = {"branch": asked.branch}
    labels = document.labels if document else {}
    try:
        (resource,) = check_values(
            [written("Repository", project, short, spec, labels)], "--control"
        )
    except Refused as refused:
        raise ValueError(_told(refused.problems)) from refused
    objections = [
        Problem("--control", 0, field_name(item.path), item.message, item.hint)
        for item in check_roots(roots, [resource])
    ]
    if objections:
        raise ValueError(_told(objections))
    assert stream_of(resource) == name
    return declared(resource)


def _told(problems: Sequence[Problem]) -> str:
    return "; ".join(map(str, problems))
