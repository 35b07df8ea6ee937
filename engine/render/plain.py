"""Plain manifests: every YAML and JSON file below a folder."""

from __future__ import annotations

from engine.ports import RenderRefused, Tree, TreeEntry
from engine.render.files import (
    KUSTOMIZATION_FILES,
    NeededFile,
    Plan,
    RenderLimits,
    check_size,
    folder_entry,
    needed_file,
    refused_kind,
    resolve,
)

_SUFFIXES = (".yaml", ".yml", ".json")


async def plan(tree: Tree, path: str, limits: RenderLimits) -> Plan:
    """List the files of a plain render; names that begin with a dot are passed over.

    Raises `RenderRefused`: also for symlinks and submodules that may hide manifests.
    """
    await folder_entry(tree, path)
    files: list[NeededFile] = []
    folders = [path]
    count = 0
    while folders:
        count += 1
        if count > limits.folders:
            raise RenderRefused("too-large", f"more than {limits.folders} folders below {path!r}")
        folder = folders.pop()
        for name, entry in (await tree.entries(folder)).items():
            place = f"{folder}/{name}" if folder else name
            if name.startswith("."):
                continue
            if entry.kind == "tree":
                folders.append(place)
            elif entry.kind == "submodule":
                raise refused_kind(place, entry.kind)
            elif entry.kind == "symlink":
                await _pass_link(tree, folder, place, entry)
            elif name.endswith(_SUFFIXES) and name not in KUSTOMIZATION_FILES:
                files.append(needed_file(place, entry, limits))
        check_size(len(files), sum(file.size for file in files), limits)
    if not files:
        raise RenderRefused(
            "empty", f"there is no .yaml, .yml or .json file below {path or '.'!r}: nothing changes"
        )
    return Plan("plain", path, tuple(sorted(files)))


async def _pass_link(tree: Tree, folder: str, place: str, link: TreeEntry) -> None:
    """Let a link pass that surely leads to no manifest, and refuse any other."""
    if not place.endswith(_SUFFIXES) and link.size <= 1024:
        target = (await tree.read([link.id]))[link.id].decode("utf-8", "replace")
        path = resolve(folder, target)
        found = await tree.entry(path) if path is not None else None
        if found is not None and found.kind in ("file", "executable"):
            return
    raise refused_kind(place, "symlink")
