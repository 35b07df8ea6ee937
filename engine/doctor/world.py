"""The world outside: every declared repository and cluster, asked now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime

import anyio
import msgspec

from engine.clusters.access import AccessReader
from engine.clusters.connect import Connection, Unreachable
from engine.clusters.discovery import Discovery, KindUnknown
from engine.clusters.settings import ClusterSettings
from engine.clusters.status import explain
from engine.doctor.check import Check, fail, ok, warn
from engine.doctor.database import skew
from engine.explain.errors import entries
from engine.ports import Clock
from engine.resources.model import ClusterSpec, RepositorySpec
from engine.resources.parse import Problem
from engine.sources.failure import SourceError
from engine.sources.mirror import Mirrors
from projections.clusters import CLUSTERS
from projections.declared import DECLARED, DeclaredDocument
from projections.sources import SOURCES, SourceDocument
from projections.views import Views, read_all

PATIENCE = 15.0
"""Seconds for one repository or cluster."""
AT_ONCE = 8
VERBS = ("get", "list", "watch", "create", "patch", "delete")
"""What the engine does to objects of each kind that it keeps."""
_REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


async def world(
    views: Views, mirrors: Mirrors, settings: ClusterSettings, clock: Clock
) -> list[Check]:
    """Look at every declared repository and cluster, some at a time. Raises what views raise."""
    async with views.snapshot() as reader:
        found = [item.document for item in await read_all(reader, DECLARED)]
        declared = [document for document in found if not document.withdrawn]
        clusters = await reader.get_many(CLUSTERS, {_stream(each) for each in declared})
        kinds = {key: tuple(item.document.kinds) for key, item in clusters.items()}
        followed = await reader.get_many(SOURCES, {_stream(each, "repo") for each in declared})
        sources = {key: item.document for key, item in followed.items()}
    checks: list[list[Check]] = [[] for _ in declared]
    slots = anyio.Semaphore(AT_ONCE)

    async def one(place: int, document: DeclaredDocument) -> None:
        async with slots:
            name = _named(document)
            try:
                with anyio.fail_after(PATIENCE):
                    if document.kind == "Repository":
                        # What it was found to declare is known, whether it answers now or not.
                        source = sources.get(_stream(document, "repo"), SourceDocument())
                        checks[place] = configured(document, name, source)
                        checks[place].append(await _repository(document, name, mirrors))
                    else:
                        known = kinds.get(_stream(document), ())
                        checks[place] = await _cluster(document, name, known, settings, clock)
            except TimeoutError:
                said = f"no answer within {PATIENCE:g} s"
                checks[place].append(_failed(document.kind.lower(), name, "timeout", said))

    async with anyio.create_task_group() as group:
        for place, document in enumerate(declared):
            if document.kind in ("Repository", "Cluster"):
                group.start_soon(one, place, document)
    return [check for some in checks for check in some]


async def _repository(document: DeclaredDocument, name: str, mirrors: Mirrors) -> Check:
    spec = msgspec.convert(document.spec, RepositorySpec)
    try:
        tip = await mirrors.open(spec.url, spec.credentials).fetch(spec.ref)
    except SourceError as error:
        return _failed("repository", name, error.code, error.message)
    return ok("repository", name, f"{tip.ref or 'the commit'} is at {tip.commit[:12]}")


def configured(document: DeclaredDocument, name: str, source: SourceDocument) -> list[Check]:
    """Say of a control repository whether what it declares is in force; [] of another one."""
    if not msgspec.convert(document.spec, RepositorySpec).control:
        return []
    area, what, found = "repository", f"{name} configuration", source.configuration
    if found is None:
        return [warn(area, what, "it has not been looked at yet", "ask again in a while")]
    in_force = f"commit {found.commit[:12]} is in force" if found.commit else "none is in force"
    if found.refused is None:
        return [ok(area, what, f"{in_force}, with {found.resources} resources")]
    first, more = found.refused.problems[0], len(found.refused.problems) + found.refused.omitted - 1
    told = Problem(first.file, first.line, first.field, first.message, first.hint)
    others = f" (and {more} more)" if more else ""
    message = f"commit {found.refused.commit[:12]} is refused: {told}{others}; {in_force}"
    return [fail(area, what, message, "mend it and push: a commit is taken whole or not at all")]


async def _cluster(
    document: DeclaredDocument,
    name: str,
    kinds: Iterable[str],
    settings: ClusterSettings,
    clock: Clock,
) -> list[Check]:
    spec = msgspec.convert(document.spec, ClusterSpec)
    access = AccessReader(spec, settings, clock)
    async with Connection(access, settings, document.name) as connection:
        before = clock.now()
        try:
            answer = await connection.request("GET", "/version")
        except Unreachable as error:
            return [_failed("cluster", name, error.code, error.message)]
        if not answer.is_success:
            code = {401: "unauthorised", 403: "forbidden"}.get(answer.status, "unavailable")
            return [_failed("cluster", name, code, explain(answer))]
        checks = [ok("cluster", name, "answers, and takes our credentials")]
        if answer.date:
            ours = (before + clock.now()) / 2 / 1_000_000
            checks += _clock(name, answer.date, ours)
        checks.append(await _permissions(connection, name, kinds, clock))
        return checks


def _clock(name: str, date: str, ours: float) -> list[Check]:
    try:
        # The header has whole seconds.
        theirs = parsedate_to_datetime(date).timestamp() + 0.5
    except ValueError:
        message = "the cluster's header Date is no date"
        return [warn("clock", f"cluster {name}", message, "look at what stands before it")]
    return [skew(f"cluster {name}", theirs - ours)]


async def _permissions(
    connection: Connection, name: str, kinds: Iterable[str], clock: Clock
) -> Check:
    """Ask the cluster what we may do to every kind that its targets use."""
    area, what = "cluster", f"{name} permissions"
    discovery = Discovery(connection, clock, 0.0)
    lacking: list[str] = []
    number = 0
    for key in sorted(kinds):
        api_version, _, kind = key.rpartition("/")
        try:
            info = await discovery.find(api_version, kind)
        except KindUnknown:
            continue  # said of the kind itself: there is nothing to be allowed to
        except Unreachable as error:
            return _failed(area, what, error.code, error.message)
        group, slash, _ = api_version.rpartition("/")
        number += 1
        for verb in VERBS:
            attributes = {
                "verb": verb,
                "group": group if slash else "",
                "resource": info.plural,
            }
            allowed = await _allowed(connection, attributes)
            if allowed is None:
                message = "the cluster does not answer what we may do"
                return warn(area, what, message, "see that it serves SelfSubjectAccessReviews")
            if not allowed:
                lacking.append(f"{verb} {info.plural}{'.' + group if slash else ''}")
    if lacking:
        shown = ", ".join(lacking[:10]) + (f" and {len(lacking) - 10} more" if lacking[10:] else "")
        remedy = "grant these in the ClusterRole of the credentials that the kubeconfig names"
        return fail(area, what, f"not allowed: {shown}", remedy, "forbidden")
    if not number:
        return ok(area, what, "no kind is used here yet")
    return ok(area, what, f"{', '.join(VERBS)} are allowed for all {number} kinds used")


async def _allowed(connection: Connection, attributes: Mapping[str, str]) -> bool | None:
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    try:
        answer = await connection.request("POST", _REVIEW, body=msgspec.json.encode(body))
        review = msgspec.json.decode(answer.body) if answer.is_success else {}
        allowed = review.get("status", {}).get("allowed")
    except (Unreachable, msgspec.MsgspecError, AttributeError):
        return None
    return allowed if isinstance(allowed, bool) else None


def _failed(area: str, name: str, code: str, message: str) -> Check:
    known = entries().get(code)
    remedy = known.remedy if known else "look at the server's log"
    return fail(area, name, f"{code}: {message}", remedy, code if known else "")


def _stream(document: DeclaredDocument, kind: str = "cluster") -> str:
    return f"{kind}/{document.project}/{document.name}"


def _named(document: DeclaredDocument) -> str:
    return document.name if document.project == "default" else f"{document.project}/{document.name}"
