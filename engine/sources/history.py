"""Commits and their order, read from a mirror. Everything here blocks: it runs in threads."""

from __future__ import annotations

from collections.abc import Collection

import pygit2
from msgspec import Struct
from pygit2.enums import SortMode

from engine.sources.failure import clean
from events.event import Actor
from events.sealed import Person, git_actor

_SUBJECT = 200
_NAME = 200


class CommitInfo(Struct, frozen=True):
    """What is recorded of a commit. `committed_at` is in microseconds since the epoch.

    `author` is the pseudonym of the author's e-mail address, `people` who author and committer
    are by theirs: not to be recorded in plain.
    """

    commit: str
    parents: tuple[str, ...]
    subject: str
    committed_at: int
    author: Actor
    committer: Actor
    people: dict[Actor, Person]


class NewCommits(Struct, frozen=True):
    """Commits in topological order, the oldest first; `skipped` older ones are left out."""

    commits: tuple[CommitInfo, ...]
    skipped: int = 0


def commit_info(commit: pygit2.Commit) -> CommitInfo:
    """Read what is recorded of a commit."""
    author, committer = git_actor(commit.author.raw_email), git_actor(commit.committer.raw_email)
    first_line = commit.raw_message.lstrip(b"\r\n").split(b"\n", 1)[0]
    return CommitInfo(
        commit=str(commit.id),
        parents=tuple(str(parent) for parent in commit.parent_ids),
        subject=clean(first_line.decode("utf-8", "replace"), longest=_SUBJECT),
        committed_at=max(commit.commit_time, 0) * 1_000_000,
        author=author,
        committer=committer,
        people={committer: _person(commit.committer), author: _person(commit.author)},
    )


def _person(signature: pygit2.Signature) -> Person:
    name, email = (
        clean(raw.decode("utf-8", "replace"), longest=_NAME)
        for raw in (signature.raw_name, signature.raw_email)
    )
    return Person(name, email)


def new_commits(repository: pygit2.Repository, old: str | None, new: str, limit: int) -> NewCommits:
    """Return what is reachable from `new` and not from `old`, at most the `limit` newest.

    Where `old` is not known (None, or not in the mirror), only `new` itself counts.
    """
    tip = repository[new]
    assert isinstance(tip, pygit2.Commit)
    if old is None or old not in repository:
        return NewCommits((commit_info(tip),))
    walker = repository.walk(tip.id, SortMode.TOPOLOGICAL)
    walker.hide(pygit2.Oid(hex=old))
    found: list[CommitInfo] = []
    skipped = 0
    for commit in walker:
        if len(found) < limit:
            found.append(commit_info(commit))
        else:
            skipped += 1
    return NewCommits(tuple(reversed(found)), skipped)


def last_changes(
    repository: pygit2.Repository, old: str, new: str, paths: Collection[str], lookups: int
) -> dict[str, str]:
    """Name, for each path, the newest commit that changed it: reachable from `new`, not `old`.

    A merge that took a file as one of its parents has it changed nothing. Paths that nothing
    changed are left out, and so are those not found within `lookups` looks into trees.
    """
    tip = repository[new]
    if old not in repository or not isinstance(tip, pygit2.Commit):
        return {}
    walker = repository.walk(tip.id, SortMode.TOPOLOGICAL)
    walker.hide(pygit2.Oid(hex=old))
    left, found = set(paths), dict[str, str]()
    for commit in walker:
        lookups -= len(left) * (1 + len(commit.parent_ids))
        if not left or lookups < 0:
            break
        before = [parent.tree for parent in commit.parents]
        for path in sorted(left):
            here = _id_at(commit.tree, path)
            if all(_id_at(tree, path) != here for tree in before) and (before or here):
                found[path] = str(commit.id)
        left -= found.keys()
    return found


def _id_at(tree: pygit2.Tree, path: str) -> pygit2.Oid | None:
    try:
        return tree[path].id
    except KeyError:
        return None


def is_ancestor(repository: pygit2.Repository, old: str, new: str) -> bool:
    """Say whether `old` is `new` or reachable from it; False where it is not in the mirror."""
    if old == new:
        return True
    return old in repository and repository.descendant_of(new, old)
