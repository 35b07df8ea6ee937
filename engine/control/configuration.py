"""The declared resources of one commit of a control repository: all of them, or what is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping

import anyio.to_thread
import msgspec
from msgspec import Struct

from engine.ports import RenderRefused, Tree, TreeEntry
from engine.process.supervise import TryLater
from engine.resources.parse import Located, Problem, Refused, parse_files

ENDINGS = (".yaml", ".yml")
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class ConfigurationLimits(Struct, frozen=True):
    """How much one control repository may hold; a declaration and its end go in one append."""

    files: int = 4000
    folders: int = 4000
    depth: int = 32
    resources: int = 4000
    specification: int = 512 * 1024
    """Bytes of one resource's specification, as the log keeps it."""
    bytes: int = 32 * 1024**2
    """Bytes of all of them."""


class Unreadable(TryLater):
    """A commit cannot be read now, which says nothing about what is in it: try again."""

    code = "unreadable"


async def read_configuration(
    tree: Tree, path: str, limits: ConfigurationLimits | None = None
) -> list[Located]:
    """Read every YAML file below a path of a commit, as `trueup apply` would.

    What begins with a dot is passed over. A path that is not there has no resources. Raises
    `Refused`, or `Unreadable` where the mirror cannot be read.
    """
    limits = limits or ConfigurationLimits()
    walk = _Walk(tree, limits)
    try:
        await walk.folder("" if path in (".", "") else path.strip("/"), 0)
        bodies = await tree.read([entry.id for entry in walk.files.values()])
    except RenderRefused as refused:
        if refused.code in ("mirror-broken", "commit-missing"):
            raise Unreadable(refused.message) from refused
        raise Refused([Problem(path, 0, "", refused.message)]) from refused
    if walk.problems:
        raise Refused(walk.problems)
    files = {name: bodies[entry.id] for name, entry in sorted(walk.files.items())}
    return await anyio.to_thread.run_sync(_parse, files, path, limits)


def _parse(files: Mapping[str, bytes], path: str, limits: ConfigurationLimits) -> list[Located]:
    found = parse_files(files)
    if len(found) > limits.resources:
        raise Refused(
            [Problem(path, 0, "", f"has more than {limits.resources} resources", "split it in two")]
        )
    # What aliases repeat is written out in the log, so the files' own sizes say nothing.
    sizes = [len(msgspec.json.encode(item.resource.spec)) for item in found]
    too_large = [
        Problem(item.file, item.line, "spec", f"has more than {limits.specification} bytes")
        for item, size in zip(found, sizes, strict=True)
        if size > limits.specification
    ]
    if sum(sizes) > limits.bytes:
        too_large.append(Problem(path, 0, "", f"has more than {limits.bytes} bytes of resources"))
    if too_large:
        raise Refused(too_large)
    return found


class _Walk:
    """Goes through folders, and notes files and what cannot be taken."""

    def __init__(self, tree: Tree, limits: ConfigurationLimits) -> None:
        self._tree, self._limits = tree, limits
        self.files: dict[str, TreeEntry] = {}
        self.problems: list[Problem] = []
        self._folders = 0

    async def folder(self, path: str, depth: int) -> None:
        """Note what is in a folder, and below it. Raises `RenderRefused`."""
        self._folders += 1
        entries = await self._entries(path, must_exist=depth > 0)
        for name, entry in sorted(entries.items()):
            if name.startswith("."):
                continue
            place = f"{path}/{name}" if path else name
            shown = _UNFIT.sub("\N{REPLACEMENT CHARACTER}", place)[:1024]
            if entry.kind in ("symlink", "submodule"):
                # What it leads to would be missing, and what is missing is withdrawn.
                self._object(shown, f"is a {entry.kind}, which is not followed", "copy it here")
            elif entry.kind == "tree":
                if depth >= self._limits.depth or self._folders >= self._limits.folders:
                    self._object(shown, "is one folder too many, or too deep", "move them up")
                    return
                await self.folder(place, depth + 1)
            elif name.endswith(ENDINGS):
                if shown != place:
                    self._object(shown, "has a name with a control character", "rename it")
                elif len(self.files) >= self._limits.files:
                    self._object(shown, f"is one file more than {self._limits.files}", "join some")
                    return
                self.files[place] = entry

    async def _entries(self, path: str, *, must_exist: bool) -> Mapping[str, TreeEntry]:
        try:
            return await self._tree.entries(path)
        except RenderRefused as refused:
            if refused.code == "path-missing" and not must_exist:
                return {}
            raise

    def _object(self, place: str, message: str, hint: str) -> None:
        self.problems.append(Problem(place, 0, "", message, hint))
