"""Whether what an application names exists, or comes with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.resources.model import Application, Resource
from engine.resources.parse import Problem
from engine.resources.record import kind_of
from engine.resources.spelling import nearest
from events.event import StreamName, stream
from projections.declared import DECLARED
from projections.projection import Reader


async def check_references(reader: Reader, resources: Sequence[Resource]) -> list[Problem]:
    """Return a problem for each repository or cluster that is named and not there."""
    coming = {
        (kind_of(resource), resource.metadata.project, resource.metadata.name)
        for resource in resources
    }
    wanted = [
        (application, kind, field, name)
        for application in resources
        if isinstance(application, Application)
        for kind, field, name in _named(application)
        if (kind, application.metadata.project, name) not in coming
    ]
    streams = {_stream(app, kind, name) for app, kind, _, name in wanted}
    found = await reader.get_many(DECLARED, streams)
    there = {key for key, item in found.items() if not item.document.withdrawn}
    problems = []
    for application, kind, field, name in wanted:
        if _stream(application, kind, name) in there:
            continue
        project = application.metadata.project
        others = {other for of, at, other in coming if of == kind and at == project}
        prefix = _stream(application, kind, "")
        page = await reader.page(DECLARED, prefix=prefix, where={"kind": kind}, limit=1000)
        others.update(item.document.name for item in page)
        near = nearest(name, others)
        problems.append(
            Problem(
                f"Application/{application.metadata.name}",
                0,
                field,
                f"there is no {kind} {name} in project {project}",
                f"did you mean {near}?" if near else "",
            )
        )
    return problems


def _named(application: Application) -> Iterator[tuple[str, str, str]]:
    spec = application.spec
    yield "Repository", "spec.source.repository", spec.source.repository
    for place, name in enumerate(spec.targets.clusters):
        yield "Cluster", f"spec.targets.clusters[{place}]", name


def _stream(application: Application, kind: str, name: str) -> StreamName:
    return stream("repo" if kind == "Repository" else "cluster", application.metadata.project, name)
