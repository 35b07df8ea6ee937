"""Git repositories made for a test (without the git program), and clones of real ones."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import FileMode, ObjectType

Entry = str | bytes | tuple[FileMode, str]
"""A file's content, or a mode with a link's target or a submodule's commit."""


class Repository:
    """A bare repository; each commit holds just the files that it is given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git = pygit2.init_repository(str(folder), bare=True, initial_head="main")
        self._time = 1_700_000_000

    @property
    def url(self) -> str:
        return f"file://{self.folder}"

    def commit(
        self,
        files: Mapping[str, Entry],
        message: str = "a change",
        *,
        branch: str = "main",
        parents: list[str] | None = None,
        email: str = "Ada@Example.org",
    ) -> str:
        ref = f"refs/heads/{branch}"
        if parents is None:
            parents = [str(self.git.references[ref].target)] if ref in self.git.references else []
        self._time += 1
        author = pygit2.Signature("Ada", email, self._time, 0)
        new = self.git.create_commit(None, author, author, message, self.tree(files), parents)
        self.git.references.create(ref, new, force=True)
        return str(new)

    def tree(self, files: Mapping[str, Entry]) -> pygit2.Oid:
        folders: dict[str, dict[str, Entry]] = {}
        builder = self.git.TreeBuilder()
        for path, entry in files.items():
            head, slash, rest = path.partition("/")
            if slash:
                folders.setdefault(head, {})[rest] = entry
            elif isinstance(entry, tuple):
                mode, target = entry
                is_commit = mode == FileMode.COMMIT
                oid = pygit2.Oid(hex=target) if is_commit else self.git.create_blob(target.encode())
                builder.insert(path, oid, mode)
            else:
                body = entry.encode() if isinstance(entry, str) else entry
                builder.insert(path, self.git.create_blob(body), FileMode.BLOB)
        for name, inner in folders.items():
            builder.insert(name, self.tree(inner), FileMode.TREE)
        return builder.write()

    def tag(self, name: str, commit: str, *, annotated: bool = True) -> None:
        if annotated:
            tagger = pygit2.Signature("Ada", "ada@example.org", self._time, 0)
            if f"refs/tags/{name}" in self.git.references:
                self.git.references.delete(f"refs/tags/{name}")
            self.git.create_tag(name, pygit2.Oid(hex=commit), ObjectType.COMMIT, tagger, "a tag")
        else:
            self.git.references.create(f"refs/tags/{name}", commit, force=True)

    def move(self, branch: str, commit: str) -> None:
        self.git.references.create(f"refs/heads/{branch}", commit, force=True)

    def delete(self, ref: str) -> None:
        self.git.references.delete(ref)


def clone_bundle(name: str, into: Path) -> Path:
    """Clone a bundle of real history, bare; skips where TRUEUP_TEST_DATA is unset."""
    data = os.environ.get("TRUEUP_TEST_DATA")
    if not data or not (Path(data) / name).is_file():
        pytest.skip(f"no {name}: set TRUEUP_TEST_DATA to the folder of bundles")
    subprocess.run(
        ["git", "clone", "--quiet", "--bare", str(Path(data) / name), str(into)],
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": str(into.parent), "GIT_CONFIG_NOSYSTEM": "1"},
        timeout=60,
    )
    return into
