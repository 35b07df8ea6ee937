"""Which files a render needs, and how they are found in a commit."""

from __future__ import annotations

import posixpath

from msgspec import Struct

from engine.ports import RenderRefused, Tree, TreeEntry

KUSTOMIZATION_FILES = ("kustomization.yaml", "kustomization.yml", "Kustomization")


class RenderLimits(Struct, frozen=True):
    """How much one render may take: bytes, counts, seconds, bytes of memory."""

    files: int = 5_000
    file: int = 10 * 1024**2
    input: int = 64 * 1024**2
    output: int = 50 * 1024**2
    objects: int = 20_000
    folders: int = 2_000
    seconds: float = 30.0
    memory: int = 1024**3
    cache: int = 4 * 1024**2
    plans: int = 2 * 1024**2
    named: int = 2 * 1024**2


class NeededFile(Struct, frozen=True, order=True):
    """A file of the commit: its path from the commit's root, and Git's id of its content."""

    path: str
    id: str
    size: int = 0


class Plan(Struct, frozen=True):
    """What a render depends on. `renderer` is `plain` or `kustomize`; `files` is sorted."""

    renderer: str
    path: str
    files: tuple[NeededFile, ...]


async def folder_entry(tree: Tree, path: str) -> TreeEntry:
    """Return the folder at an application's path. Raises `RenderRefused`."""
    found = await find(tree, path)
    if found is None:
        raise RenderRefused(
            "path-missing",
            f"there is no folder {path!r} in commit {tree.commit[:12]}; if it was renamed, declare "
            "the application with the new path",
        )
    if found.kind != "tree":
        raise RenderRefused("path-missing", f"{path!r} is a {found.kind}: name its folder")
    return found


async def find(tree: Tree, path: str) -> TreeEntry | None:
    """Return what is at a path, None where nothing is; symlinks and submodules are refused.

    Raises `RenderRefused` with `symlink-refused` or `submodule-refused` where one is on the way.
    """
    found = await tree.entry(path)
    if found is not None and found.kind in ("tree", "file", "executable"):
        return found
    parts = [part for part in path.split("/") if part]
    for count in range(1, len(parts) + 1):
        place = "/".join(parts[:count])
        entry = await tree.entry(place)
        if entry is None:
            return None
        if entry.kind in ("symlink", "submodule"):
            raise refused_kind(place, entry.kind)
    return None


def refused_kind(path: str, kind: str) -> RenderRefused:
    """Say why a symlink or submodule is not read."""
    if kind == "symlink":
        return RenderRefused(
            "symlink-refused",
            f"{path} is a symbolic link; put the file itself there",
            file=path,
        )
    return RenderRefused(
        "submodule-refused",
        f"{path} is a submodule, which is not fetched; declare its repository as one of its own",
        file=path,
    )


def resolve(folder: str, reference: str) -> str | None:
    """Return a reference from a folder as a path from the root, "" for the root; None beyond it."""
    path = posixpath.normpath(posixpath.join(folder, reference))
    if path == ".":
        return ""
    return None if path == ".." or path.startswith(("../", "/")) else path


def needed_file(path: str, entry: TreeEntry, limits: RenderLimits) -> NeededFile:
    """Return a file as one that is needed. Raises `RenderRefused("file-too-large")`, naming it."""
    if entry.size > limits.file:
        message = f"{path} has {entry.size} bytes; a file may have {limits.file}"
        raise RenderRefused("file-too-large", message, file=path)
    return NeededFile(path, entry.id, entry.size)


def check_size(files: int, size: int, limits: RenderLimits) -> None:
    """Raise `RenderRefused("too-large")` for more files, or bytes, than a render may read."""
    if files > limits.files:
        raise RenderRefused("too-large", f"the render needs more than {limits.files} files")
    if size > limits.input:
        raise RenderRefused("too-large", f"the render needs more than {limits.input} bytes")
