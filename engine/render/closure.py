"""Which files a render needs: exactly these are materialised, and their ids are its cache key.

For Kustomize, the closure that its kustomization files name, bases beside or above the path
included. What would leave the repository, or run something, is refused by name. The fields are
those of the Kustomization type (kustomize.config.k8s.io/v1beta1).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

from engine.objects.yaml import YamlRefused, parse_located
from engine.ports import RenderRefused, Tree, TreeEntry

KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
MANIFESTS = (".yaml", ".yml", ".json")
MAX_FILES = 10_000
MAX_BYTES = 100 * 1024 * 1024
_REMOTE = re.compile(r"://|^git@|^[^/]+\.[a-z]+[/:].*(\.git|//|\?ref=)|^github\.com[/:]|\?ref=")
_PLUGIN = b"config.kubernetes.io/function"
_ANY = ("resources", "bases", "components", "generators", "transformers", "validators")
_FILES = ("patchesStrategicMerge", "configurations", "crds")
_PLUGIN_FIELDS = frozenset({"generators", "transformers", "validators"})
_HELM = ("helmCharts", "helmChartInflationGenerator", "helmGlobals")

Files = dict[str, TreeEntry]
"""Files by their path in the repository."""


def normal(path: str, base: str = "", file: str = "") -> str:
    """Return a path from the repository's root; raises `RenderRefused` where it leaves it."""
    if path.startswith("/"):
        raise RenderRefused("absolute-path", f"{path} is an absolute path", file=file)
    joined = posixpath.normpath(posixpath.join(base, path))
    if joined == ".." or joined.startswith("../"):
        raise RenderRefused("outside-repository", f"{path} leaves the repository", file=file)
    return "" if joined == "." else joined


async def kustomization_in(tree: Tree, path: str) -> str | None:
    """Return the name of a folder's kustomization file; None where it has none."""
    entries = await tree.entries(path)
    found = [name for name in KUSTOMIZATIONS if name in entries]
    if len(found) > 1:
        names = " and ".join(found)
        raise RenderRefused("kustomization", f"{path or '.'} has {names}: keep one", file=path)
    return found[0] if found else None


async def plain_files(tree: Tree, path: str) -> Files:
    """Return every manifest below a folder, hidden files and folders left out."""
    files: Files = {}
    folders = [path]
    while folders:
        folder = folders.pop()
        for name, entry in sorted((await tree.entries(folder)).items()):
            place = posixpath.join(folder, name)
            if name.startswith("."):
                continue
            if entry.kind == "tree":
                folders.append(place)
            elif name.endswith(MANIFESTS) and name not in KUSTOMIZATIONS:
                add(files, place, entry)
    return files


def add(files: Files, path: str, entry: TreeEntry) -> None:
    """Add a file; raises `RenderRefused` for what is no plain file, and over the limits."""
    if entry.kind not in ("file", "executable"):
        raise RenderRefused(entry.kind, f"{path} is a {entry.kind}, not a file", file=path)
    files[path] = entry
    if len(files) > MAX_FILES:
        raise RenderRefused("too-many-files", f"more than {MAX_FILES} files are needed")
    if sum(item.size for item in files.values()) > MAX_BYTES:
        raise RenderRefused("too-large", f"the files needed are over {MAX_BYTES} bytes")


class KustomizeClosure:
    """Collects what a kustomization needs. Use it once: `await KustomizeClosure(tree).of(path)`."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._files: Files = {}
        self._seen: set[str] = set()

    async def of(self, path: str) -> Files:
        """Return the files that the kustomization in a folder needs. Raises `RenderRefused`."""
        folders = [path]
        while folders:
            folder = folders.pop()
            if folder in self._seen:
                continue
            self._seen.add(folder)
            folders += await self._folder(folder)
        return self._files

    async def _folder(self, folder: str) -> list[str]:
        name = await kustomization_in(self._tree, folder)
        if name is None:
            message = f"{folder or '.'} has no kustomization file"
            raise RenderRefused("kustomization", message, file=folder)
        file = posixpath.join(folder, name)
        entry = await self._need(file, file)
        spec, lines = await self._read(file, entry)
        for field in _HELM:
            if field in spec:
                message = f"{field} is not rendered within Kustomize"
                raise RenderRefused("helm-in-kustomize", message, file=file, line=lines(field))
        folders: list[str] = []
        for field, place in _places(spec):
            line = lines(field)
            if "\n" in place:
                self._check_inline(field, place, file, line)
                continue
            if _REMOTE.search(place):
                message = f"{field}: {place} is remote; only this repository is rendered"
                raise RenderRefused("remote-base", message, file=file, line=line)
            target = normal(place, folder, file)
            found = await self._tree.entry(target)
            if found is None:
                message = f"{field}: there is no {target or '.'} in the commit"
                raise RenderRefused("file-missing", message, file=file, line=line)
            if found.kind == "tree" and field in _ANY:
                folders.append(target)
            else:
                add(self._files, target, found)
                if field in _PLUGIN_FIELDS:
                    body = (await self._tree.read([found.id]))[found.id]
                    self._check_inline(field, body.decode(errors="replace"), target, 0)
        return folders

    async def _need(self, path: str, file: str) -> TreeEntry:
        entry = await self._tree.entry(path)
        if entry is None:
            raise RenderRefused("file-missing", f"there is no {path} in the commit", file=file)
        add(self._files, path, entry)
        return entry

    async def _read(self, file: str, entry: TreeEntry) -> tuple[Mapping[str, Any], Any]:
        body = (await self._tree.read([entry.id]))[entry.id]
        try:
            documents = parse_located(body)
        except YamlRefused as refused:
            raise RenderRefused(
                refused.code,
                refused.message,
                file=file,
                document=refused.document,
                line=refused.line,
            ) from None
        if len(documents) != 1:
            message = f"a kustomization file has one document, this has {len(documents)}"
            raise RenderRefused("kustomization", message, file=file)
        document = documents[0]
        return document.value, lambda field: document.positions.get((field,), document.line)

    def _check_inline(self, field: str, text: str, file: str, line: int) -> None:
        if field in _PLUGIN_FIELDS and _PLUGIN.decode() in text:
            message = f"{field}: plugins that run something are refused"
            raise RenderRefused("plugin", message, file=file, line=line)


def _places(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (field, path or inline text) for everything that a kustomization refers to."""
    for field in (*_ANY, *_FILES):
        for item in _list(spec, field):
            if isinstance(item, str):
                yield field, item
    for field in ("patches", "patchesJson6902", "replacements"):
        for item in _list(spec, field):
            if isinstance(item, dict) and isinstance(item.get("path"), str):
                yield field, item["path"]
    openapi = spec.get("openapi")
    if isinstance(openapi, dict) and isinstance(openapi.get("path"), str):
        yield "openapi", openapi["path"]
    for field in ("configMapGenerator", "secretGenerator"):
        for item in _list(spec, field):
            if isinstance(item, dict):
                yield from ((field, place) for place in _generated(item))


def _generated(item: Mapping[str, Any]) -> Iterator[str]:
    for place in _list(item, "files"):
        if isinstance(place, str):
            yield place.partition("=")[2] or place
    for place in (*_list(item, "envs"), item.get("env")):
        if isinstance(place, str):
            yield place


def _list(spec: Mapping[str, Any], field: str) -> list[Any]:
    value = spec.get(field)
    return value if isinstance(value, list) else []
