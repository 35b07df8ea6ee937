"""The files of one commit, read from a mirror without a checkout.

Contents are read as they are stored: no filter, no line-ending change, no submodule.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import pygit2
from msgspec import Struct
from pygit2.enums import FileMode

from engine.ports import RenderRefused, TreeEntry

Result = TypeVar("Result")

_KINDS = {
    FileMode.TREE: "tree",
    FileMode.BLOB: "file",
    FileMode.BLOB_EXECUTABLE: "executable",
    FileMode.LINK: "symlink",
    FileMode.COMMIT: "submodule",
}


class ReadLimits(Struct, frozen=True):
    """Bytes of a file, bytes of all files of a read, entries of a folder, length of a path."""

    file: int = 10 * 1024**2
    read: int = 256 * 1024**2
    entries: int = 20_000
    path: int = 4096


class GitTree:
    """`engine.ports.Tree` over one commit of a mirror.

    `folder` says where the mirror is now; `broken` is told when it cannot be read, so that it is
    made again.
    """

    def __init__(
        self,
        folder: Callable[[], Path],
        commit: str,
        limits: ReadLimits,
        limiter: anyio.CapacityLimiter,
        broken: Callable[[], None],
    ) -> None:
        self._folder, self._commit, self._limits = folder, commit, limits
        self._limiter, self._broken = limiter, broken
        self._folders: dict[str, dict[str, TreeEntry]] = {}

    @property
    def commit(self) -> str:
        """The commit's full id."""
        return self._commit

    async def entries(self, path: str) -> Mapping[str, TreeEntry]:
        """Return the entries of a folder by name; raises `RenderRefused("path-missing")`."""
        normal = normal_path(path, self._limits)
        known = self._folders.get(normal)
        if known is None:
            known = await self._run(lambda repository: self._entries(repository, normal))
            self._folders[normal] = known
        return known

    async def entry(self, path: str) -> TreeEntry | None:
        """Return what is at a path, None where there is nothing."""
        normal = normal_path(path, self._limits)
        if not normal:
            tree = await self._run(lambda repository: str(_root(repository, self._commit).id))
            return TreeEntry("tree", tree)
        folder, _, name = normal.rpartition("/")
        try:
            return (await self.entries(folder)).get(name)
        except RenderRefused as refused:
            if refused.code == "path-missing":
                return None
            raise

    async def read(self, ids: Collection[str]) -> Mapping[str, bytes]:
        """Return file bodies by blob id; raises `RenderRefused("too-large")` over the limit."""
        if not ids:
            return {}
        return await self._run(lambda repository: self._read(repository, ids))

    async def _run(self, work: Callable[[pygit2.Repository], Result]) -> Result:
        def run() -> Result:
            folder = self._folder()
            if not folder.exists():
                raise _missing(self._commit)  # not fetched yet, which is no damage
            return work(pygit2.Repository(str(folder)))

        try:
            return await anyio.to_thread.run_sync(run, limiter=self._limiter)
        except (pygit2.GitError, KeyError, OSError):
            # Whatever cannot be read of a commit that was fetched whole is damage.
            self._broken()
            raise RenderRefused(
                "mirror-broken",
                f"commit {self._commit[:12]} cannot be read from the mirror, which is made again "
                "at the next look",
            ) from None

    def _entries(self, repository: pygit2.Repository, path: str) -> dict[str, TreeEntry]:
        tree = _root(repository, self._commit)
        for name in path.split("/") if path else ():
            below = _child(tree, name)
            if not isinstance(below, pygit2.Tree):
                raise RenderRefused("path-missing", f"there is no folder {path!r} in the commit")
            tree = below
        if len(tree) > self._limits.entries:
            raise RenderRefused(
                "too-large", f"folder {path!r} has more than {self._limits.entries} entries"
            )
        found: dict[str, TreeEntry] = {}
        for child in tree:
            name = (child.raw_name or b"").decode("utf-8", "backslashreplace")
            if name in ("", ".", "..") or "/" in name or "\x00" in name:
                raise RenderRefused("path-refused", f"folder {path!r} has a name that is no name")
            kind = _KINDS.get(child.filemode, "file")
            size = repository.odb.read_header(child.id)[1] if kind in _SIZED else 0
            found[name] = TreeEntry(kind, str(child.id), size)
        return found

    def _read(self, repository: pygit2.Repository, ids: Collection[str]) -> dict[str, bytes]:
        total = 0
        found: dict[str, bytes] = {}
        for name in ids:
            oid = pygit2.Oid(hex=name)
            # The header first: a small pack can hold a file of gigabytes.
            _, size = repository.odb.read_header(oid)
            total += size
            if size > self._limits.file or total > self._limits.read:
                raise RenderRefused(
                    "too-large",
                    f"a file has {size} bytes (limit {self._limits.file}), or all files together "
                    f"more than {self._limits.read}",
                )
            found[name] = repository.odb.read(oid)[1]
        return found


_SIZED = ("file", "executable")


def normal_path(path: str, limits: ReadLimits) -> str:
    """Return a path from the commit's root without `.` and `..`; "" is the root.

    Raises `RenderRefused("path-refused")` for one that leaves the repository.
    """
    if len(path) > limits.path or "\x00" in path or path.startswith("/"):
        raise RenderRefused("path-refused", "a path must be relative, without NUL, and not endless")
    parts: list[str] = []
    for part in path.split("/"):
        if part in ("", "."):
            continue
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            raise RenderRefused("path-refused", f"path {path!r} leaves the repository")
    return "/".join(parts)


def _root(repository: pygit2.Repository, commit: str) -> pygit2.Tree:
    found = repository.get(commit)
    if not isinstance(found, pygit2.Commit):
        raise _missing(commit)
    return found.tree


def _missing(commit: str) -> RenderRefused:
    return RenderRefused(
        "commit-missing",
        f"commit {commit[:12]} is not in the mirror: it may be gone from the repository",
    )


def _child(tree: pygit2.Tree, name: str) -> pygit2.Object | None:
    try:
        return tree[name]
    except KeyError:
        return None
