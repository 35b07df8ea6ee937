"""A bare mirror of one repository: fetched, never checked out, made again when it is damaged."""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import pygit2
from msgspec import Struct

from engine.resources.model import Credentials, GitRef
from engine.sources import history
from engine.sources.address import Address, address_of
from engine.sources.connection import (
    Callbacks,
    Cancelled,
    FetchLimits,
    RemoteRef,
    advertised,
    connected,
    explained,
    prepare_libgit2,
)
from engine.sources.credentials import Secret, read_secret
from engine.sources.failure import SourceError
from engine.sources.tree import GitTree, ReadLimits

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
_READERS = 4
"""Reads of one mirror at a time."""
_PACKS = 100
"""Each fetch with news leaves a pack, and packs take file handles: beyond this, one is made."""


class MirrorSettings(Struct, frozen=True):
    """Where mirrors are, and what may be read: see `engine.settings`."""

    folder: Path
    repository_roots: tuple[Path, ...] = ()
    secret_roots: tuple[Path, ...] = ()
    allow_http: bool = False
    """Plain http, to this machine alone."""
    fetch: FetchLimits = FetchLimits()
    read: ReadLimits = ReadLimits()
    packs: int = _PACKS


class Tip(Struct, frozen=True):
    """The commit that a ref names. `rebuilt`: the mirror was damaged, and was cloned again."""

    ref: str
    commit: str
    rebuilt: bool = False


class _Damaged(Exception):
    """The mirror's own files cannot be read."""


class Mirrors:
    """All mirrors: one for each pair of URL and credentials, so that none lends its access."""

    def __init__(self, settings: MirrorSettings, threads: int = 8) -> None:
        self._settings = settings
        self._mirrors: dict[str, Mirror] = {}
        self._fetches = anyio.CapacityLimiter(threads)
        prepare_libgit2(settings.fetch)

    def open(self, url: str, credentials: Credentials | None = None) -> Mirror:
        """Return a repository's mirror; nothing is checked or read before its first fetch."""
        parts = [url]
        if credentials is not None:
            parts += [str(getattr(credentials, name)) for name in credentials.__struct_fields__]
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]
        if key not in self._mirrors:
            self._mirrors[key] = Mirror(
                self._settings.folder / key, url, credentials, self._settings, self._fetches
            )
        return self._mirrors[key]


class Mirror:
    """One mirror. Everything may be called at the same time; fetches wait for one another."""

    def __init__(
        self,
        folder: Path,
        url: str,
        credentials: Credentials | None,
        settings: MirrorSettings,
        fetches: anyio.CapacityLimiter,
    ) -> None:
        self._folder, self._url, self._credentials = folder, url, credentials
        self._settings, self._fetches = settings, fetches
        self._lock = anyio.Lock()
        self._readers = anyio.CapacityLimiter(_READERS)
        self._suspect = False

    @property
    def folder(self) -> Path:
        """Where the mirror is kept."""
        return self._folder

    async def fetch(self, ref: GitRef) -> Tip:
        """Ask the remote what a ref names, and fetch what is new. Raises `SourceError`."""
        async with self._lock:
            if self._suspect:
                return await self._rebuild(ref)
            try:
                tip = await self._in_thread(lambda stop: self._fetch(ref, stop))
            except _Damaged:
                return await self._rebuild(ref)
            await self._compact()
            return tip

    async def resolve(self, ref: GitRef) -> str | None:
        """Return the commit that a ref named at the last fetch, None where it named none."""
        return await self._read(lambda repository: _peeled(repository, _local_name(ref)))

    async def new_commits(self, old: str | None, new: str, limit: int) -> history.NewCommits:
        """Return what is reachable from `new` and not from `old`, at most the newest `limit`.

        Only `new` itself, where `old` is None or not in the mirror.
        """
        return await self._read(lambda repository: history.new_commits(repository, old, new, limit))

    async def is_ancestor(self, old: str, new: str) -> bool:
        """Say whether `old` is `new` or reachable from it; False where it is not in the mirror."""
        return await self._read(lambda repository: history.is_ancestor(repository, old, new))

    def tree(self, commit: str) -> GitTree:
        """Return the files of a commit; reading them raises `RenderRefused` where it is missing."""
        return GitTree(self._folder, commit, self._settings.read, self._readers, self._broken)

    def _broken(self) -> None:
        self._suspect = True

    async def _read(self, work: Callable[[pygit2.Repository], Result]) -> Result:
        try:
            return await anyio.to_thread.run_sync(
                lambda: work(pygit2.Repository(str(self._folder))), limiter=self._readers
            )
        except (pygit2.GitError, KeyError, OSError):
            self._broken()
            raise SourceError(
                "mirror-broken", "the mirror cannot be read; it is made again at the next look"
            ) from None

    async def _in_thread(self, work: Callable[[threading.Event], Result]) -> Result:
        """Run in a thread that is told when the task is cancelled, and waited for."""
        stop = threading.Event()
        outcome: list[Result | Exception] = []

        def run() -> None:
            try:
                outcome.append(work(stop))
            except Exception as error:  # noqa: BLE001 - handed over, and raised below
                outcome.append(error)

        async def tell() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                stop.set()

        async with anyio.create_task_group() as group:
            group.start_soon(tell)
            await anyio.to_thread.run_sync(run, limiter=self._fetches)
            group.cancel_scope.cancel()
        (result,) = outcome
        if isinstance(result, Cancelled):
            # Only a cancelled task asks the thread to stop; without one this is a fault of ours.
            raise RuntimeError("a fetch was stopped that nobody cancelled")
        if isinstance(result, Exception):
            raise result
        return result

    def _fetch(self, ref: GitRef, stop: threading.Event) -> Tip:
        settings = self._settings
        address = address_of(self._url, settings.repository_roots, settings.allow_http)
        secret = read_secret(address, self._credentials, settings.secret_roots)
        repository = self._opened()
        local = _local_name(ref)
        if ref.commit is not None and _is_commit(repository, ref.commit):
            # A commit never changes: what is here needs no remote.
            _set(repository, local, ref.commit)
            return Tip(ref.commit, ref.commit)
        try:
            name = _fetch_into(repository, ref, local, _Way(address, secret, settings.fetch, stop))
        except SourceError as error:
            if error.code == "remote-failed" and not _is_whole(repository):
                raise _Damaged from error
            raise
        try:
            commit = _peeled(repository, local)
        except (pygit2.GitError, KeyError) as error:
            raise _Damaged from error
        if commit is None:
            raise SourceError("ref-missing", f"{name} names no commit")
        return Tip(name, commit)

    def _opened(self) -> pygit2.Repository:
        if not self._folder.exists():
            self._folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            pygit2.init_repository(str(self._folder), bare=True)
            self._folder.chmod(0o700)
        try:
            return pygit2.Repository(str(self._folder))
        except pygit2.GitError as error:
            raise _Damaged from error

    async def _rebuild(self, ref: GitRef) -> Tip:
        logger.warning("a mirror is damaged and is cloned again", extra={"mirror": self._folder})
        async with self._alone():
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(self._folder, ignore_errors=True))
            self._suspect = False
        try:
            tip = await self._in_thread(lambda stop: self._fetch(ref, stop))
        except _Damaged:
            raise SourceError(
                "mirror-broken",
                "the mirror is damaged even after cloning again: look at the disk and at the "
                "repository itself",
            ) from None
        return Tip(tip.ref, tip.commit, rebuilt=True)

    async def _compact(self) -> None:
        packs = await anyio.to_thread.run_sync(self._packs)
        if len(packs) <= self._settings.packs:
            return

        def pack(_: threading.Event) -> None:
            repository = pygit2.Repository(str(self._folder))
            repository.pack(str(self._folder / "objects" / "pack"))

        with explained():
            await self._in_thread(pack)
        made = set(await anyio.to_thread.run_sync(self._packs)) - set(packs)
        if not made:
            return
        async with self._alone():
            for old in packs:
                # The index first: without it no reader finds the pack.
                old.with_suffix(".idx").unlink(missing_ok=True)
                old.unlink(missing_ok=True)

    def _packs(self) -> list[Path]:
        return sorted((self._folder / "objects" / "pack").glob("pack-*.pack"))

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Keep readers out."""
        borrowers = [object() for _ in range(_READERS)]
        held: list[object] = []
        try:
            for borrower in borrowers:
                await self._readers.acquire_on_behalf_of(borrower)
                held.append(borrower)
            yield
        finally:
            for borrower in held:
                self._readers.release_on_behalf_of(borrower)


class _Way(Struct, frozen=True):
    """How to reach a remote."""

    address: Address
    secret: Secret | None
    limits: FetchLimits
    stop: threading.Event


def _fetch_into(repository: pygit2.Repository, ref: GitRef, local: str, way: _Way) -> str:
    """Fetch what a ref names into a ref of the mirror; return its full name."""
    if ref.branch is not None or ref.tag is not None:
        name = f"refs/heads/{ref.branch}" if ref.branch is not None else f"refs/tags/{ref.tag}"
        if not pygit2.reference_is_valid_name(name):
            raise SourceError("ref-missing", "the name of the branch or tag is none that Git has")
    if ref.commit is not None:
        return _fetch_commit(repository, ref.commit, local, way)
    callbacks = Callbacks(way.address, way.secret, way.limits, way.stop)
    remote = repository.remotes.create_anonymous(way.address.url)
    with connected(remote, callbacks, way.secret):
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


def _fetch_commit(repository: pygit2.Repository, commit: str, local: str, way: _Way) -> str:
    """Fetch one commit: by its id, or where the remote refuses that, with all branches and tags."""
    heads = ("+refs/heads/*:refs/trueup/all/heads/*", "+refs/tags/*:refs/trueup/all/tags/*")
    for refspecs in ([f"+{commit}:{local}"], list(heads)):
        callbacks = Callbacks(way.address, way.secret, way.limits, way.stop)
        remote = repository.remotes.create_anonymous(way.address.url)
        try:
            with connected(remote, callbacks, way.secret):
                remote.fetch(refspecs, callbacks=callbacks)
        except SourceError as error:
            if error.code != "remote-failed" or len(refspecs) > 1:
                raise
        if _is_commit(repository, commit):
            _set(repository, local, commit)
            return commit
        # A branch `a` that became a branch `a/b` would be in the way.
        for name in list(repository.references.iterator()):
            if name.name.startswith("refs/trueup/all/"):
                repository.references.delete(name.name)
    raise SourceError("ref-missing", f"the repository has no commit {commit}")


def _wanted(ref: GitRef, refs: dict[str, RemoteRef]) -> RemoteRef | None:
    if ref.branch is not None:
        return refs.get(f"refs/heads/{ref.branch}")
    if ref.tag is not None:
        return refs.get(f"refs/tags/{ref.tag}")
    return refs.get("HEAD")


def _local_name(ref: GitRef) -> str:
    # A digest, because the remote may turn branch `a` into `a/b`, which would be in the way.
    name = f"branch {ref.branch}" if ref.branch else f"tag {ref.tag}" if ref.tag else "default"
    name = f"commit {ref.commit}" if ref.commit else name
    return f"refs/trueup/followed/{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def _set(repository: pygit2.Repository, name: str, target: str | None) -> None:
    if target is not None:
        repository.references.create(name, target, force=True)
    elif name in repository.references:
        repository.references.delete(name)


def _peeled(repository: pygit2.Repository, name: str) -> str | None:
    """Return the commit that a ref of the mirror leads to; raises where it cannot be read."""
    if name not in repository.references:
        return None
    try:
        commit = repository.references[name].peel(pygit2.Commit)
    except (pygit2.InvalidSpecError, ValueError):
        return None
    repository[commit.tree_id]
    return str(commit.id)


def _is_commit(repository: pygit2.Repository, commit: str) -> bool:
    return isinstance(repository.get(commit), pygit2.Commit)


def _is_whole(repository: pygit2.Repository) -> bool:
    try:
        for name in repository.references:
            _peeled(repository, name)
    except (pygit2.GitError, KeyError, OSError):
        return False
    return True
