"""The files that a kustomization needs: what its files name, and what those name in turn."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from msgspec import Struct

from engine.bounded import Bounded
from engine.objects.yaml import Located, Path, YamlRefused, parse_located
from engine.ports import RenderRefused, Tree, TreeEntry
from engine.render.files import (
    KUSTOMIZATION_FILES,
    NeededFile,
    Plan,
    RenderLimits,
    check_size,
    find,
    needed_file,
    resolve,
)

_HELM = ("helmCharts", "helmChartInflationGenerator", "helmGlobals")
_PLUGIN_FIELDS = ("generators", "transformers", "validators")
_FUNCTION = ("config.kubernetes.io/function", "config.k8s.io/function")
# Nothing in it may begin at each of a million letters anew: a name may have that many.
_REMOTE = re.compile(
    r"[A-Za-z0-9+.-]://|[A-Za-z]::|git@|gh:|\?(?:[^/?]*&)?(?:ref|version|submodules|timeout)="
    r"|\.git(?:/|\Z|\?)|(?:github\.com|gitlab\.com|bitbucket\.org|dev\.azure\.com)[/:]",
    re.IGNORECASE,
)

_REFERENCE = 200
"""What a reference takes in memory beside its target's name, in bytes."""


class Reference(Struct, frozen=True):
    """Something that a file names. `kind`: file (or inline), place (file or folder), or plugin.

    A plugin is a file, a folder or inline, whose documents name further files.
    """

    kind: str
    target: str
    line: int


class Named(Struct, frozen=True):
    """What one file names, or why it is refused: (code, message, document, line)."""

    references: tuple[Reference, ...] = ()
    refused: tuple[str, str, int, int] | None = None


class NamedCache:
    """What files name, by Git's id of their content: most commits alter few of them."""

    def __init__(self, limit: int) -> None:
        self._known: Bounded[tuple[str, str], Named] = Bounded(limit)

    @property
    def weight(self) -> int:
        """What is remembered, in bytes, about."""
        return self._known.weight

    async def of(self, tree: Tree, kind: str, entry: TreeEntry) -> Named:
        """Read and look into a file: a `kustomization`, or a `plugin` configuration."""
        key = (kind, entry.id)
        found = self._known.get(key)
        if found is None:
            data = (await tree.read([entry.id]))[entry.id]
            found = _named(kind, data)
            weight = sum(_REFERENCE + len(each.target) for each in found.references)
            self._known.put(key, found, weight)
        return found


async def kustomization_of(tree: Tree, folder: str) -> str | None:
    """Return the name of a folder's kustomization file, None where it has none.

    Raises `RenderRefused("kustomization-ambiguous")` for more than one.
    """
    entries = await tree.entries(folder)
    names = [name for name in KUSTOMIZATION_FILES if name in entries]
    if len(names) > 1:
        raise RenderRefused(
            "kustomization-ambiguous",
            f"folder {folder or '.'!r} has more than one kustomization file: {', '.join(names)}",
            file=_join(folder, names[1]),
        )
    return names[0] if names else None


async def plan(tree: Tree, path: str, limits: RenderLimits, cache: NamedCache) -> Plan:
    """List the files of a kustomize render. Raises `RenderRefused`."""
    walk = _Walk(tree, limits, cache)
    await walk.folders(path)
    return Plan("kustomize", path, tuple(sorted(walk.files.values())))


class _Walk:
    def __init__(self, tree: Tree, limits: RenderLimits, cache: NamedCache) -> None:
        self._tree, self._limits, self._cache = tree, limits, cache
        self.files: dict[str, NeededFile] = {}
        self._bytes = 0
        self._seen: set[str] = set()
        self._waiting: list[tuple[str, str, int]] = []
        self._plugins: set[tuple[str, str]] = set()

    async def folders(self, path: str) -> None:
        self._waiting.append((path, "", 0))
        while self._waiting:
            folder, file, line = self._waiting.pop()
            if folder not in self._seen:
                self._seen.add(folder)
                if len(self._seen) > self._limits.folders:
                    raise RenderRefused("too-large", f"more than {self._limits.folders} bases")
                await self._folder(folder, file, line)

    async def _folder(self, folder: str, file: str, line: int) -> None:
        name = await kustomization_of(self._tree, folder)
        if name is None:
            raise RenderRefused(
                "kustomization-missing",
                f"folder {folder or '.'!r} has no kustomization file",
                file=file,
                line=line,
            )
        place = _join(folder, name)
        entry = await self._need(place, "", 0)
        await self._follow(folder, place, await self._cache.of(self._tree, "kustomization", entry))

    async def _follow(self, root: str, place: str, named: Named) -> None:
        """Need what a file names. `root` is the folder that its references are relative to."""
        if named.refused is not None:
            code, message, document, line = named.refused
            where = f"{place} line {line}" if line else place
            raise RenderRefused(
                code, f"{where}: {message}", file=place, document=document, line=line
            )
        for reference in named.references:
            target, line = reference.target, reference.line
            path = self._local(root, target, place, line)
            entry = await find(self._tree, path)
            if entry is None:
                raise RenderRefused(
                    "file-missing",
                    f"{place} line {line}: there is no {path or '.'!r} in the commit",
                    file=place,
                    line=line,
                )
            if entry.kind == "tree":
                if reference.kind == "file":
                    raise RenderRefused(
                        "file-missing",
                        f"{place} line {line}: {path or '.'!r} is a folder, not a file",
                        file=place,
                        line=line,
                    )
                self._waiting.append((path, place, line))
                continue
            self._inside(root, path, place, line)
            await self._need(path, place, line)
            if reference.kind == "plugin" and (root, path) not in self._plugins:
                self._plugins.add((root, path))
                named_there = await self._cache.of(self._tree, "plugin", entry)
                await self._follow(root, path, named_there)

    def _local(self, root: str, target: str, place: str, line: int) -> str:
        if _REMOTE.search(target):
            raise RenderRefused(
                "remote-refused",
                f"{place} line {line}: bases and files from elsewhere are not fetched, since no "
                "commit pins them; copy them into the repository",
                file=place,
                line=line,
            )
        path = resolve(root, target) if target and not target.startswith(("/", "~")) else None
        if path is None or "\x00" in target or "\\" in target:
            raise RenderRefused(
                "path-refused",
                f"{place} line {line}: a path must be relative and stay in the repository",
                file=place,
                line=line,
            )
        return path

    def _inside(self, root: str, path: str, place: str, line: int) -> None:
        if root and not path.startswith(f"{root}/"):
            raise RenderRefused(
                "path-refused",
                f"{place} line {line}: {path!r} is not in or below {root!r}; kustomize takes files "
                "from elsewhere only through a base with a kustomization file of its own",
                file=place,
                line=line,
            )

    async def _need(self, path: str, file: str, line: int) -> TreeEntry:
        entry = await find(self._tree, path)
        if entry is None or entry.kind == "tree":
            raise RenderRefused(
                "file-missing", f"there is no file {path!r} in the commit", file=file, line=line
            )
        if path not in self.files:
            self.files[path] = needed_file(path, entry, self._limits)
            self._bytes += entry.size
            check_size(len(self.files), self._bytes, self._limits)
        return entry


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


class _Refused(Exception):
    def __init__(self, code: str, message: str, document: int, line: int) -> None:
        super().__init__(message)
        self.refused = (code, message, document, line)


def _named(kind: str, data: bytes) -> Named:
    try:
        documents = parse_located(data)
        if kind == "plugin":
            return Named(tuple(_of_plugins(documents)))
        if len(documents) != 1:
            message = f"a kustomization file has one document, not {len(documents)}"
            return Named(refused=("kustomization-invalid", message, 0, 0))
        return Named(tuple(_of_kustomization(documents[0])))
    except YamlRefused as error:
        return Named(refused=(error.code, error.message, error.document, error.line))
    except _Refused as error:
        return Named(refused=error.refused)


def _of_kustomization(document: Located) -> Iterator[Reference]:
    value = document.value
    for field in _HELM:
        if value.get(field):
            raise _refused(
                document,
                (field,),
                "helm-refused",
                f"{field} runs helm and fetches charts, which is not done here; render the chart "
                "and commit what it gives",
            )
    for field in ("resources", "bases", "components"):
        yield from _texts(document, (field,), "place")
    for field in ("crds", "configurations"):
        yield from _texts(document, (field,), "file")
    yield from _texts(document, ("patchesStrategicMerge",), "file")
    for field in _PLUGIN_FIELDS:
        for path, item in _items(document, (field,)):
            if isinstance(item, str) and _is_inline(item):
                yield from _inline_plugins(document, path, item)
            else:
                yield from _text(document, path, item, "plugin")
    for field in ("patches", "patchesJson6902", "replacements"):
        for path, item in _items(document, (field,)):
            yield from _field(document, path, item, "path")
    for field in ("configMapGenerator", "secretGenerator"):
        for path, item in _items(document, (field,)):
            yield from _generator(document, path, item)
    yield from _field(document, ("openapi",), value.get("openapi"), "path")


def _of_plugins(documents: Collection[Located]) -> Iterator[Reference]:
    """What the configurations of generators, transformers and validators name."""
    for document in documents:
        _check_plugin(document, (), document.value)
        yield from _plugin_files(document, document.value)


def _check_plugin(document: Located, path: Path, value: dict[str, Any]) -> None:
    metadata = value.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    runs = isinstance(annotations, dict) and any(name in annotations for name in _FUNCTION)
    if runs or value.get("apiVersion") != "builtin":
        raise _refused(
            document,
            path,
            "plugin-refused",
            "only kustomize's own plugins (apiVersion: builtin) are run, no programs or containers",
        )
    if value.get("kind") in ("HelmChartInflationGenerator", "HelmChartInflation"):
        raise _refused(document, path, "helm-refused", "helm is not run, nor charts fetched")


def _plugin_files(document: Located, value: dict[str, Any]) -> Iterator[Reference]:
    whole = ()
    yield from _field(document, whole, value, "path")
    for name in ("paths",):
        for path, item in _items(document, (name,)):
            yield from _text(document, path, item, "file")
    for path, item in _items(document, ("replacements",)):
        yield from _field(document, path, item, "path")
    yield from _generator(document, whole, value)


def _inline_plugins(document: Located, path: Path, text: str) -> Iterator[Reference]:
    line = document.line_of(path)
    try:
        inner = [
            Reference(r.kind, r.target, line) for r in _of_plugins(parse_located(text.encode()))
        ]
    except YamlRefused as error:
        raise _Refused(error.code, error.message, document.index, line) from None
    except _Refused as error:
        code, message, _, _ = error.refused
        raise _Refused(code, message, document.index, line) from None
    yield from inner


def _generator(document: Located, path: Path, item: Any) -> Iterator[Reference]:
    if not isinstance(item, dict):
        return
    yield from _field(document, path, item, "env")
    for field in ("files", "envs"):
        for place, text in _items(document, (*path, field), item.get(field)):
            if isinstance(text, str) and field == "files":
                # `key=path`, where the key is not the file's name
                text = text.partition("=")[2] or text
            yield from _text(document, place, text, "file")


def _texts(document: Located, path: Path, kind: str) -> Iterator[Reference]:
    for place, item in _items(document, path):
        yield from _text(document, place, item, kind)


def _field(document: Located, path: Path, item: Any, name: str) -> Iterator[Reference]:
    if isinstance(item, dict) and item.get(name) not in (None, ""):
        yield from _text(document, (*path, name), item[name], "file")


def _text(document: Located, path: Path, item: Any, kind: str) -> Iterator[Reference]:
    if item is None:
        return
    if not isinstance(item, str):
        raise _refused(
            document, path, "kustomization-invalid", "a list of paths holds what is no text"
        )
    if kind != "place" and _is_inline(item):
        return
    yield Reference(kind, item, document.line_of(path))


_NOT_GIVEN = object()


def _items(document: Located, path: Path, value: Any = _NOT_GIVEN) -> Iterator[tuple[Path, Any]]:
    if value is _NOT_GIVEN:
        value = document.value.get(str(path[0]))
    if value is None:
        return
    if not isinstance(value, list):
        raise _refused(document, path, "kustomization-invalid", f"{path[-1]} must be a list")
    for index, item in enumerate(value):
        yield (*path, index), item


def _is_inline(text: str) -> bool:
    return "\n" in text or ": " in text or text.lstrip().startswith("{")


def _refused(document: Located, path: Path, code: str, message: str) -> _Refused:
    return _Refused(code, message, document.index, document.line_of(path))
