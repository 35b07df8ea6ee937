"""What people call a subject, and what the timeline files it under."""

from __future__ import annotations

import re

from engine.http.problem import Refusal, bad_request, conflict, not_found
from engine.http.resources import names_of
from engine.resources.spelling import did_you_mean
from events.event import stream
from projections.clusters import CLUSTERS
from projections.commits import COMMITS, commit_key
from projections.declared import DECLARED
from projections.projection import Reader
from projections.targets import TARGETS
from projections.timeline import TIMELINE, actor_subject, commit_subject, object_subject

KINDS = {
    "application": ("app", "Application"),
    "app": ("app", "Application"),
    "cluster": ("cluster", "Cluster"),
    "repository": ("repo", "Repository"),
    "repo": ("repo", "Repository"),
    "notification": ("notification", "Notification"),
}
_STREAM_KINDS = frozenset(
    {"repo", "cluster", "app", "target", "notification", "token", "engine", "view", "actor"}
)
_COMMIT = re.compile(r"(?:commit/)?([0-9a-f]{7,40})")
_FORMS = (
    "app@cluster, application/NAME, cluster/NAME, repository/NAME, notification/NAME, "
    "a commit (7 digits or more), an author (git:…), or an object: cluster/namespace/Kind/name"
)


async def resolve(reader: Reader, words: str, project: str) -> str:
    """Return the timeline's subject for what a person wrote.

    Raises `Refusal` where nothing is called so (with the nearest name), or several things are.
    """
    parts = words.split("/")
    if not words:
        raise bad_request(f"subject is missing: {_FORMS}")
    if commit := _COMMIT.fullmatch(words.lower()):
        return await _commit(reader, commit[1], project)
    if words.startswith("object/"):
        return words
    if words.startswith("git:"):
        return await _actor(reader, words)
    if len(parts) == 3 and parts[0] in _STREAM_KINDS and await _has_events(reader, words):
        return words
    if len(parts) == 1 and "@" in words:
        return await _target(reader, words, project)
    if len(parts) == 2 and parts[0].lower() in KINDS:
        return await _declared(reader, *KINDS[parts[0].lower()], parts[1], project)
    if len(parts) == 4:
        namespace = "" if parts[1] in ("", "-") else parts[1]
        return await _object(reader, parts[0], namespace, parts[2], parts[3], project)
    if len(parts) == 3:
        return await _object(reader, parts[0], "", parts[1], parts[2], project)
    if len(parts) == 1:
        return await _declared(reader, "app", "Application", words, project)
    raise not_found(f"{words[:100]!r} is no subject; write {_FORMS}")


async def _has_events(reader: Reader, subject: str) -> bool:
    return bool(await reader.subjects(TIMELINE, subject, limit=1))


async def _actor(reader: Reader, pseudonym: str) -> str:
    subject = actor_subject(pseudonym)
    if await _has_events(reader, subject):
        return subject
    raise not_found(f"no commit of {pseudonym[:80]} was seen")


async def _target(reader: Reader, label: str, project: str) -> str:
    subject = stream("target", project, label)
    if await _has_events(reader, subject):
        return subject
    page = await reader.page(TARGETS, prefix=f"target/{project}/", limit=1000)
    labels = [found.key.split("/", 2)[2] for found in page]
    raise not_found(f"there is no target {label}{did_you_mean(label, labels)}")


async def _declared(reader: Reader, kind: str, word: str, name: str, project: str) -> str:
    subject = stream(kind, project, name)
    if await _has_events(reader, subject):
        return subject
    near = did_you_mean(name, await names_of(reader, word, project))
    raise not_found(f"there is no {word} {name} in project {project}{near}")


async def _commit(reader: Reader, digits: str, project: str) -> str:
    page = await reader.page(COMMITS, prefix=commit_key(project, digits), limit=6)
    if len(page) == 1:
        return commit_subject(page[0].document.commit)
    if not page:
        if len(digits) == 40 and await _has_events(reader, commit_subject(digits)):
            return commit_subject(digits)
        raise not_found(f"no commit that was seen in project {project} begins with {digits}")
    shown = ", ".join(found.document.commit[:12] for found in page[:5])
    raise conflict("ambiguous", f"several commits begin with {digits}: {shown}")


async def _object(
    reader: Reader, cluster: str, namespace: str, kind: str, name: str, project: str
) -> str:
    cluster_stream = stream("cluster", project, cluster)
    if await reader.get(DECLARED, cluster_stream) is None:
        near = did_you_mean(cluster, await names_of(reader, "Cluster", project))
        raise not_found(f"there is no Cluster {cluster} in project {project}{near}")
    word, _, group = kind.partition(".")
    known = await _kinds_of(reader, cluster_stream)
    groups = {at for at, of in known if of.lower() == word.lower() and (not group or at == group)}
    spelt = next((of for _, of in known if of.lower() == word.lower()), word)
    candidates = [
        object_subject(project, cluster, f"{at}/{spelt}|{namespace}|{name}")
        for at in sorted(groups)
    ]
    found = [subject for subject in candidates if await _has_events(reader, subject)]
    if len(found) > 1:
        kinds = ", ".join(f"{spelt}.{at}" if at else spelt for at in sorted(groups))
        raise conflict("ambiguous", f"several kinds are called {word} on {cluster}: {kinds}")
    if found:
        return found[0]
    raise _no_object(cluster, namespace, kind, name, known, bool(groups))


async def _kinds_of(reader: Reader, cluster_stream: str) -> set[tuple[str, str]]:
    found = await reader.get(CLUSTERS, cluster_stream)
    kinds = set()
    for key in found.document.kinds if found else ():
        api_version, _, kind = key.rpartition("/")
        group, slash, _ = api_version.rpartition("/")
        kinds.add((group if slash else "", kind))
    return kinds


def _no_object(
    cluster: str, namespace: str, kind: str, name: str, known: set[tuple[str, str]], is_known: bool
) -> Refusal:
    place = f" in namespace {namespace}" if namespace else ""
    if is_known:
        return not_found(f"nothing is recorded of {kind}/{name}{place} on {cluster}")
    near = did_you_mean(kind, {of for _, of in known})
    return not_found(f"no objects of kind {kind} are looked at on {cluster}{near}")
