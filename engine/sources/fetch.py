"""One fetch into a mirror. Everything here blocks; of the network, it runs in a worker process.

What a remote sends is read by C code, and a crash there must not be the engine's: libgit2 1.9 for
one ends with a segmentation fault where a server redirects to `…/info/refs` without its query. So
a fetch takes one picklable job and nothing of the engine, and can be killed at any moment.
"""

from __future__ import annotations

import ctypes
import hashlib
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pygit2
from msgspec import Struct

from engine.resources.model import GitRef
from engine.sources.address import Address
from engine.sources.connection import (
    Callbacks,
    FetchLimits,
    RemoteRef,
    advertised,
    connected,
    prepare_libgit2,
    use_known_hosts,
)
from engine.sources.credentials import Secret
from engine.sources.failure import SourceError


class FetchJob(Struct, frozen=True):
    """What to fetch, from where, into which folder."""

    folder: str
    ref: GitRef
    address: Address
    secret: Secret | None
    limits: FetchLimits


class Tip(Struct, frozen=True):
    """The commit that a ref names. `rebuilt`: the mirror was damaged, and was cloned again."""

    ref: str
    commit: str
    rebuilt: bool = False


class MirrorDamaged(Exception):
    """The mirror's own files cannot be read."""


def fetch_in_worker(job: FetchJob) -> Tip:
    """Fetch, in a process that ends with the engine."""
    if sys.platform == "linux":
        _end_with_parent()
    prepare_libgit2(job.limits)
    if job.address.kind == "ssh" and job.secret is not None:
        use_known_hosts(Path(job.folder).with_name("home"), job.secret.known_hosts)
    return fetch(job, threading.Event())


def fetch(job: FetchJob, stop: threading.Event) -> Tip:
    """Ask what a ref names and fetch what is new; `stop` ends it at the next chance.

    Raises `SourceError`, `MirrorDamaged`, or `Cancelled`.
    """
    local = local_name(job.ref)
    repository = _opened(Path(job.folder))
    with _own_damage():
        if job.ref.commit is not None and _is_commit(repository, job.ref.commit):
            # A commit never changes: what is here needs no remote.
            _set(repository, local, job.ref.commit)
            return Tip(job.ref.commit, job.ref.commit)
    try:
        name = _fetch_ref(repository, job, local, stop)
    except SourceError as error:
        if error.code == "remote-failed" and not _is_whole(repository, local):
            raise MirrorDamaged from error
        raise
    with _own_damage():
        commit = peeled(repository, local)
    if commit is None:
        raise SourceError("ref-missing", f"{name} names no commit")
    return Tip(name, commit)


def local_name(ref: GitRef) -> str:
    """Return the mirror's own ref for what is followed.

    A digest, because the remote may turn branch `a` into `a/b`, which would be in the way.
    """
    name = f"branch {ref.branch}" if ref.branch else f"tag {ref.tag}" if ref.tag else "default"
    name = f"commit {ref.commit}" if ref.commit else name
    return f"refs/trueup/followed/{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def peeled(repository: pygit2.Repository, name: str) -> str | None:
    """Return the commit that a ref of the mirror leads to; raises where it cannot be read."""
    if name not in repository.references:
        return None
    try:
        commit = repository.references[name].peel(pygit2.Commit)
    except (pygit2.InvalidSpecError, ValueError):
        return None
    repository[commit.tree_id]
    return str(commit.id)


def tidy(folder: Path) -> None:
    """Remove what a fetch that was killed has left: locks, and half of a pack."""
    if folder.exists():
        for lock in [*folder.glob("*.lock"), *(folder / "refs").rglob("*.lock")]:
            lock.unlink(missing_ok=True)
        for part in (folder / "objects" / "pack").glob("pack_git2_*"):
            part.unlink(missing_ok=True)


def _end_with_parent() -> None:
    # PR_SET_PDEATHSIG; without it an engine that was killed would leave its worker fetching.
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)


def _opened(folder: Path) -> pygit2.Repository:
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = pygit2.init_repository(str(folder), bare=True)
        folder.chmod(0o700)
        # Neither to another host nor, as far as libgit2 can be told, anywhere else.
        made.config["http.followRedirects"] = "false"
    with _own_damage():
        return pygit2.Repository(str(folder))


@contextmanager
def _own_damage() -> Iterator[None]:
    try:
        yield
    except (pygit2.GitError, KeyError, OSError) as error:
        raise MirrorDamaged from error


def _fetch_ref(
    repository: pygit2.Repository, job: FetchJob, local: str, stop: threading.Event
) -> str:
    """Fetch what a ref names into a ref of the mirror; return its full name."""
    ref = job.ref
    if ref.branch is not None or ref.tag is not None:
        name = f"refs/heads/{ref.branch}" if ref.branch is not None else f"refs/tags/{ref.tag}"
        if not pygit2.reference_is_valid_name(name):
            raise SourceError("ref-missing", "the name of the branch or tag is none that Git has")
    if ref.commit is not None:
        return _fetch_commit(repository, job, ref.commit, local, stop)
    callbacks = Callbacks(job.address, job.secret, job.limits, stop)
    remote = repository.remotes.create_anonymous(job.address.url)
    with connected(remote, callbacks, job.secret):
        found = _wanted(ref, advertised(remote))
        if found is None:
            _set(repository, local, None)
            what = f"branch {ref.branch!r}" if ref.branch else f"tag {ref.tag!r}"
            if ref == GitRef():
                what = "default branch with a commit"
            raise SourceError("ref-missing", f"the repository has no {what}")
        if found.id not in repository:
            remote.fetch([f"+{found.name}:{local}"], callbacks=callbacks)
        _set(repository, local, found.id)
    return found.target or found.name


def _fetch_commit(
    repository: pygit2.Repository, job: FetchJob, commit: str, local: str, stop: threading.Event
) -> str:
    """Fetch one commit: by its id, or where the remote refuses that, with all branches and tags."""
    everything = ["+refs/heads/*:refs/trueup/all/heads/*", "+refs/tags/*:refs/trueup/all/tags/*"]
    for refspecs in ([f"+{commit}:{local}"], everything):
        callbacks = Callbacks(job.address, job.secret, job.limits, stop)
        remote = repository.remotes.create_anonymous(job.address.url)
        try:
            with connected(remote, callbacks, job.secret):
                remote.fetch(refspecs, callbacks=callbacks)
        except SourceError as error:
            if error.code != "remote-failed" or refspecs is everything:
                raise
        if _is_commit(repository, commit):
            _set(repository, local, commit)
            return commit
        # A branch `a` that became a branch `a/b` would be in the way.
        for name in list(repository.references):
            if name.startswith("refs/trueup/all/"):
                repository.references.delete(name)
    raise SourceError("ref-missing", f"the repository has no commit {commit}")


def _wanted(ref: GitRef, refs: dict[str, RemoteRef]) -> RemoteRef | None:
    if ref.branch is not None:
        return refs.get(f"refs/heads/{ref.branch}")
    if ref.tag is not None:
        return refs.get(f"refs/tags/{ref.tag}")
    return refs.get("HEAD")


def _set(repository: pygit2.Repository, name: str, target: str | None) -> None:
    if target is not None:
        repository.references.create(name, target, force=True)
    elif name in repository.references:
        repository.references.delete(name)


def _is_commit(repository: pygit2.Repository, commit: str) -> bool:
    return isinstance(repository.get(commit), pygit2.Commit)


def _is_whole(repository: pygit2.Repository, local: str) -> bool:
    try:
        peeled(repository, local)  # a ref that cannot be read is left out of the list
        for name in repository.references:
            repository.lookup_reference(name).peel()
    except (pygit2.GitError, KeyError, OSError):
        return False
    return True
