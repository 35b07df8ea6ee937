"""A bare mirror of one repository: fetched, never checked out, made again when it is damaged."""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_process
import anyio.to_thread
import pygit2
from anyio import BrokenWorkerProcess
from msgspec import Struct

from engine.resources.model import Credentials, GitRef
from engine.sources import history
from engine.sources.address import address_of
from engine.sources.connection import Cancelled, FetchLimits, explained, prepare_libgit2
from engine.sources.credentials import read_secret
from engine.sources.failure import SourceError
from engine.sources.fetch import (
    FetchJob,
    MirrorDamaged,
    Tip,
    fetch,
    fetch_in_worker,
    local_name,
    peeled,
    tidy,
)
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


class Mirrors:
    """All mirrors: one for each pair of URL and credentials, so that none lends its access."""

    def __init__(self, settings: MirrorSettings, fetches: int = 4) -> None:
        self._settings = settings
        self._mirrors: dict[str, Mirror] = {}
        self._fetches = anyio.CapacityLimiter(fetches)
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
        self._base, self._url, self._credentials = folder, url, credentials
        self._kept: Path | None = None
        self._settings, self._fetches = settings, fetches
        self._lock = anyio.Lock()
        self._readers = anyio.CapacityLimiter(_READERS)
        self._suspect = False
        self._is_tidy = False

    @property
    def folder(self) -> Path:
        """Where the mirror is kept; looked up on the disk at first, so not on the loop."""
        if self._kept is None:
            self._kept = self._generations()[-1] if self._generations() else self._base / "1"
        return self._kept

    async def fetch(self, ref: GitRef) -> Tip:
        """Ask the remote what a ref names, and fetch what is new. Raises `SourceError`."""
        async with self._lock:
            if self._suspect:
                return await self._rebuild(ref)
            try:
                tip = await self._fetch(ref)
            except MirrorDamaged:
                return await self._rebuild(ref)
            await self._compact()
            return tip

    async def resolve(self, ref: GitRef) -> str | None:
        """Return the commit that a ref named at the last fetch, None where it named none."""
        return await self._read(lambda repository: peeled(repository, local_name(ref)))

    async def new_commits(self, old: str | None, new: str, limit: int) -> history.NewCommits:
        """Return what is reachable from `new` and not from `old`, at most the newest `limit`.

        Only `new` itself, where `old` is None or not in the mirror.
        """
        return await self._read(lambda repository: history.new_commits(repository, old, new, limit))

    async def is_ancestor(self, old: str, new: str) -> bool:
        """Say whether `old` is `new` or reachable from it; False where it is not in the mirror."""
        return await self._read(lambda repository: history.is_ancestor(repository, old, new))

    async def last_changes(
        self, old: str, new: str, paths: Collection[str], lookups: int = 200_000
    ) -> dict[str, str]:
        """Name the newest commit that changed each path, as `history.last_changes` says."""
        return await self._read(
            lambda repository: history.last_changes(repository, old, new, paths, lookups)
        )

    def tree(self, commit: str) -> GitTree:
        """Return the files of a commit; reading them raises `RenderRefused` where it is missing."""
        return GitTree(
            lambda: self.folder, commit, self._settings.read, self._readers, self._broken
        )

    def _broken(self) -> None:
        self._suspect = True

    async def _read(self, work: Callable[[pygit2.Repository], Result]) -> Result:
        try:
            return await anyio.to_thread.run_sync(
                lambda: work(pygit2.Repository(str(self.folder))), limiter=self._readers
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

    async def _fetch(self, ref: GitRef) -> Tip:
        job = await anyio.to_thread.run_sync(self._job, ref)
        limits = self._settings.fetch
        try:
            if job.address.kind == "local":
                return await self._in_thread(lambda stop: fetch(job, stop))
            with anyio.fail_after(limits.total + limits.connect):
                return await anyio.to_process.run_sync(
                    fetch_in_worker, job, cancellable=True, limiter=self._fetches
                )
        except BrokenWorkerProcess:
            self._is_tidy = False
            raise SourceError(
                "remote-failed", "the fetch crashed on what the remote sent: look at the remote"
            ) from None
        except TimeoutError:
            self._is_tidy = False
            raise SourceError("timeout", f"the fetch took longer than {limits.total:g} s") from None
        except anyio.get_cancelled_exc_class():
            self._is_tidy = False
            raise

    def _job(self, ref: GitRef) -> FetchJob:
        """Check and read afresh what a fetch needs: links move, tokens are rotated."""
        settings = self._settings
        if not self._is_tidy:
            tidy(self.folder)
            self._is_tidy = True
        address = address_of(self._url, settings.repository_roots, settings.allow_http)
        secret = read_secret(address, self._credentials, settings.secret_roots)
        return FetchJob(str(self.folder), ref, address, secret, settings.fetch)

    async def _rebuild(self, ref: GitRef) -> Tip:
        logger.warning("a mirror is damaged and is cloned again", extra={"mirror": self.folder})
        async with self._alone():
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(self._base, ignore_errors=True))
            # Another folder: libgit2 remembers what was wrong with a pack by the pack's path.
            self._kept = self._base / str(int(self.folder.name) + 1)
            self._suspect = False
        try:
            tip = await self._fetch(ref)
        except MirrorDamaged:
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
            repository = pygit2.Repository(str(self.folder))
            repository.pack(str(self.folder / "objects" / "pack"))

        with explained():
            await self._in_thread(pack)
        made = set(await anyio.to_thread.run_sync(self._packs)) - set(packs)
        if not made:
            return
        async with self._alone():
            await anyio.to_thread.run_sync(_remove, packs)

    def _generations(self) -> list[Path]:
        found = [path for path in self._base.glob("*") if path.name.isdecimal()]
        return sorted(found, key=lambda path: int(path.name))

    def _packs(self) -> list[Path]:
        return sorted((self.folder / "objects" / "pack").glob("pack-*.pack"))

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


def _remove(packs: Iterable[Path]) -> None:
    for pack in packs:
        # The index first: without it no reader finds the pack.
        pack.with_suffix(".idx").unlink(missing_ok=True)
        pack.unlink(missing_ok=True)
