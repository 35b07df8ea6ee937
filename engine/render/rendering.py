"""The renderer: plans what a render needs, runs it, and remembers what it gave."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

import anyio.to_thread

from engine.bounded import KIB, Bounded
from engine.objects.redact import Redactor
from engine.objects.yaml import YamlLimits, YamlRefused, parse_documents
from engine.ports import Owner, Rendered, RenderRefused, Tree
from engine.render import closure, plain
from engine.render.collect import Collector, Source
from engine.render.confine import Confinement
from engine.render.files import Plan, RenderLimits, folder_entry
from engine.render.kustomize import VERSION, Kustomize
from engine.resources.model import Render

_ROUND = 2
"""Raised whenever the same files would give other objects: it is part of every inputs digest."""
_DESIRED = KIB
"""What an object takes in a render's list of them, in bytes."""
_FILE = 400
"""What a file takes in a plan."""
_KUSTOMIZE_GROUP = "kustomize.config.k8s.io/"


class Rendering:
    """`engine.ports.Renderer` for plain manifests and kustomize.

    `folder` is where kustomize gets to see its files: a temporary one where None. Raises
    `ConfinementRefused` where nothing can be confined and that is not allowed.
    """

    def __init__(
        self,
        redactor: Redactor,
        *,
        allow_unconfined: bool = False,
        limits: RenderLimits | None = None,
        folder: Path | None = None,
    ) -> None:
        self._redactor, self._limits = redactor, limits or RenderLimits()
        self.confinement = Confinement(allow_unconfined=allow_unconfined)
        self._temporary = tempfile.TemporaryDirectory(prefix="trueup-") if folder is None else None
        place = Path(self._temporary.name) / "render" if self._temporary else folder
        assert place is not None
        self._kustomize = Kustomize(place, self.confinement, self._limits)
        self._named = closure.NamedCache(self._limits.named)
        self._plans: Bounded[tuple[str, str, str], Plan] = Bounded(self._limits.plans)
        self._rendered: Bounded[str, Rendered] = Bounded(self._limits.cache)

    @property
    def weight(self) -> int:
        """What is remembered, in bytes, about."""
        return self._rendered.weight + self._plans.weight + self._named.weight

    async def inputs(self, tree: Tree, path: str, render: Render, owner: Owner) -> str:
        """Return the digest of all that a render depends on. Raises `RenderRefused`."""
        return _inputs(await self._plan(tree, path, render), render, owner)

    async def render(self, tree: Tree, path: str, render: Render, owner: Owner) -> Rendered:
        """Render, or return what the same inputs gave before. Raises `RenderRefused`."""
        plan = await self._plan(tree, path, render)
        inputs = _inputs(plan, render, owner)
        known = self._rendered.get(inputs)
        if known is not None:
            return known
        bodies = await tree.read({file.id for file in plan.files})
        name = _renderer(plan)
        collector = Collector(owner, self._redactor, self._limits.objects)
        if plan.renderer == "plain":
            done = await anyio.to_thread.run_sync(_plain, collector, plan, bodies, inputs, name)
        else:
            output = await self._kustomize.render(plan, bodies)
            done = await anyio.to_thread.run_sync(
                _kustomized, collector, output, self._limits, inputs, name
            )
        self._remember(done)
        return done

    async def _plan(self, tree: Tree, path: str, render: Render) -> Plan:
        path = _normal(path)
        # A commit's id stands for all of its files, whichever mirror they are read from.
        key = (tree.commit, path, render.type)
        plan = self._plans.get(key)
        if plan is None:
            plan = await self._planned(tree, path, render)
            self._plans.put(key, plan, _FILE * len(plan.files))
        return plan

    async def _planned(self, tree: Tree, path: str, render: Render) -> Plan:
        await folder_entry(tree, path)
        if render.type != "plain":
            found = await closure.kustomization_of(tree, path)
            if found is not None:
                return await closure.plan(tree, path, self._limits, self._named)
            if render.type == "kustomize":
                raise RenderRefused(
                    "kustomization-missing", f"folder {path or '.'!r} has no kustomization file"
                )
        return await plain.plan(tree, path, self._limits)

    def _remember(self, rendered: Rendered) -> None:
        if rendered.secrets:
            return  # whole Secrets live for the apply at hand, and no longer
        size = sum(map(len, rendered.bodies.values())) + _DESIRED * len(rendered.objects)
        # One that is large would push all others out.
        if size <= self._limits.cache // 4:
            self._rendered.put(rendered.inputs, rendered, size)


def _normal(path: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or "\x00" in path:
        raise RenderRefused(
            "path-refused", f"source.path {path!r} must be a folder of the repository, without '..'"
        )
    return "/".join(parts)


def _renderer(plan: Plan) -> str:
    return "plain" if plan.renderer == "plain" else VERSION


def _inputs(plan: Plan, render: Render, owner: Owner) -> str:
    lines = [f"{_ROUND} {_renderer(plan)}", render.type, plan.path, owner.annotation]
    # No path has a NUL, so that no two lists of files are written the same.
    lines += [f"{file.id} {file.path}" for file in plan.files]
    return "sha256:" + hashlib.sha256("\0".join(lines).encode()).hexdigest()


def _plain(
    collector: Collector, plan: Plan, bodies: Mapping[str, bytes], inputs: str, name: str
) -> Rendered:
    for file in plan.files:
        try:
            documents = parse_documents(bodies[file.id])
        except YamlRefused as error:
            raise RenderRefused(
                error.code,
                f"{file.path}: {error.message}",
                file=file.path,
                document=error.document,
                line=error.line,
            ) from None
        for one in documents:
            if not str(one.value.get("apiVersion", "")).startswith(_KUSTOMIZE_GROUP):
                collector.add(Source(file.path, one.index, one.line, one.value))
    return collector.finish(inputs, name)


def _kustomized(
    collector: Collector, output: bytes, limits: RenderLimits, inputs: str, name: str
) -> Rendered:
    accepted = YamlLimits(bytes=limits.output, documents=limits.objects)
    try:
        documents = parse_documents(output, limits=accepted)
    except YamlRefused as error:
        raise RenderRefused(
            error.code, f"what kustomize gave cannot be read: {error.message}"
        ) from None
    for one in documents:
        collector.add(Source("", one.index, one.line, one.value))
    return collector.finish(inputs, name)
