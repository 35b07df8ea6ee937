"""Whether a resource that is good by itself may be declared here: its paths, and what it names.

The same holds for what a person declares and for what a control repository does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from engine.decide.dependencies import cycle_from
from engine.resources import shape
from engine.resources.meaning import url_scheme
from engine.resources.model import (
    STREAM_KINDS,
    Application,
    Cluster,
    Notification,
    Repository,
    Resource,
)
from engine.resources.record import kind_of, stream_of
from engine.resources.spelling import nearest
from engine.settings import is_inside
from events.event import StreamName, stream
from projections.declared import DECLARED
from projections.projection import Reader
from projections.views import read_all


class Roots(Struct, frozen=True):
    """The folders below which the paths that resources name may lie."""

    repositories: tuple[Path, ...] = ()
    kubeconfigs: tuple[Path, ...] = ()
    secrets: tuple[Path, ...] = ()


class Objection(Struct, frozen=True):
    """What speaks against a resource, at which of its fields."""

    resource: Resource
    path: shape.Path
    message: str
    hint: str = ""


def check_roots(roots: Roots, resources: Iterable[Resource]) -> Iterator[Objection]:
    """Yield an objection for each path that lies below no configured folder."""
    for resource in resources:
        for field, path, setting, folders in _paths(roots, resource):
            if not is_inside(path, folders):
                yield Objection(
                    resource,
                    field,
                    f"{path} lies below none of the folders in the setting {setting}",
                    "add its folder there, and restart the engine",
                )


def _paths(
    roots: Roots, resource: Resource
) -> Iterator[tuple[shape.Path, str, str, tuple[Path, ...]]]:
    if isinstance(resource, Repository):
        spec = resource.spec
        if url_scheme(spec.url) == "file":
            path = unquote(urlsplit(spec.url).path)
            yield ("spec", "url"), path, "repository_roots", roots.repositories
        credentials = spec.credentials
        if credentials is not None:
            for name, value in (
                ("tokenFile", credentials.token_file),
                ("sshKeyFile", credentials.ssh_key_file),
                ("knownHostsFile", credentials.known_hosts_file),
            ):
                if value is not None:
                    field: shape.Path = ("spec", "credentials", name)
                    yield field, value, "secret_roots", roots.secrets
    elif isinstance(resource, Cluster) and resource.spec.kubeconfig is not None:
        path = resource.spec.kubeconfig
        yield ("spec", "kubeconfig"), path, "kubeconfig_roots", roots.kubeconfigs
    elif isinstance(resource, Notification):
        hook, slack = resource.spec.webhook, resource.spec.slack
        for of, name, value in (
            ("webhook", "secretFile", hook.secret_file if hook else None),
            ("webhook", "urlFile", hook.url_file if hook else None),
            ("slack", "urlFile", slack.url_file if slack else None),
        ):
            if value is not None:
                yield ("spec", of, name), value, "secret_roots", roots.secrets


async def check_references(
    reader: Reader, resources: Sequence[Resource], leaving: Collection[str] = ()
) -> list[Objection]:
    """Object to what is named and is neither there nor coming along, and to what goes in circles.

    `leaving` are the streams of resources that are about to be withdrawn.
    """
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
    there = {
        key for key, item in found.items() if not item.document.withdrawn and key not in leaving
    }
    objections = []
    for application, kind, field, name in wanted:
        if _stream(application, kind, name) in there:
            continue
        project = application.metadata.project
        others = {other for of, at, other in coming if of == kind and at == project}
        prefix = _stream(application, kind, "")
        page = await reader.page(DECLARED, prefix=prefix, where={"kind": kind}, limit=1000)
        others.update(item.document.name for item in page if item.key not in leaving)
        near = nearest(name, others)
        objections.append(
            Objection(
                application,
                field,
                f"there is no {kind} {name} in project {project}",
                f"did you mean {near}?" if near else "",
            )
        )
    return objections or await _cycles(reader, resources)


async def users_of(
    reader: Reader, kind: str, name: StreamName, besides: Collection[str] = ()
) -> list[str]:
    """Name the declared applications that name a repository or cluster.

    Those whose streams are in `besides` do not count.
    """
    if kind not in ("Repository", "Cluster"):
        return []
    _, project, short = name.split("/", 2)
    where = {"kind": "Application"} if kind == "Cluster" else {"repository": name}
    found = await read_all(reader, DECLARED, prefix=f"app/{project}/", where=where)
    return [
        item.document.name
        for item in found
        if item.key not in besides
        and (kind == "Repository" or short in item.document.spec["targets"].get("clusters", ()))
    ]


async def governors(reader: Reader, streams: Iterable[str]) -> set[str]:
    """Return those of some repositories' streams that are control repositories now."""
    found = await reader.get_many(DECLARED, set(streams))
    return {
        key
        for key, item in found.items()
        if not item.document.withdrawn and item.document.spec.get("control")
    }


def streams_of(resources: Iterable[Resource]) -> set[StreamName]:
    """Return the streams of resources."""
    return {stream_of(resource) for resource in resources}


def _named(application: Application) -> Iterator[tuple[str, shape.Path, str]]:
    spec = application.spec
    yield "Repository", ("spec", "source", "repository"), spec.source.repository
    for place, name in enumerate(spec.targets.clusters):
        yield "Cluster", ("spec", "targets", "clusters", place), name
    for place, name in enumerate(spec.depends_on):
        yield "Application", ("spec", "dependsOn", place), name


def _stream(application: Application, kind: str, name: str) -> StreamName:
    return stream(STREAM_KINDS[kind], application.metadata.project, name)


async def _cycles(reader: Reader, resources: Sequence[Resource]) -> list[Objection]:
    """Object to each application that would come to wait for itself."""
    coming = [each for each in resources if isinstance(each, Application) and each.spec.depends_on]
    known: dict[str, tuple[str, ...]] = {
        stream_of(each): _streams_of(each.metadata.project, each.spec.depends_on)
        for each in resources
        if isinstance(each, Application)
    }
    wanted = {name for names in known.values() for name in names} - known.keys()
    while wanted:
        found = await reader.get_many(DECLARED, wanted)
        for name in wanted:
            item = found.get(name)
            spec = item.document.spec if item and not item.document.withdrawn else {}
            project = name.split("/", 2)[1]
            known[name] = _streams_of(project, spec.get("dependsOn", ()))
        wanted = {name for names in known.values() for name in names} - known.keys()
    objections = []
    for application in coming:
        way = cycle_from(stream_of(application), known)
        if way:
            told = " -> ".join(name.split("/", 2)[2] for name in way)
            objections.append(
                Objection(
                    application,
                    ("spec", "dependsOn"),
                    f"it would wait for itself: {told}",
                    "take one of them out",
                )
            )
    return objections


def _streams_of(project: str, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(stream(STREAM_KINDS["Application"], project, name) for name in names)
