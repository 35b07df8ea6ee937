"""Runs a renderer where it can do no harm: no network, no environment, little time and memory.

On Linux, in user, mount, process and network namespaces of its own (unshare and prlimit of
util-linux), as a process group that is killed whole.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.abc
from msgspec import Struct

from engine.ports import RenderRefused

logger = logging.getLogger(__name__)
_NAMESPACES = (
    "--user",
    "--map-root-user",
    "--mount",
    "--net",
    "--ipc",
    "--pid",
    "--fork",
    "--kill-child",
)
_WATCH_INTERVAL = 0.05
_ERROR_BYTES = 64 * 1024


class Limits(Struct, frozen=True):
    """What one render may cost: seconds, and bytes."""

    seconds: float = 30.0
    memory: int = 1024 * 1024 * 1024
    output: int = 50 * 1024 * 1024
    file_size: int = 64 * 1024 * 1024


class Unconfined(Exception):
    """The kernel refuses namespaces here."""


class Confinement:
    """How programs are run. Raises `Unconfined` where namespaces are refused and not waived."""

    def __init__(self, limits: Limits, *, allow_unconfined: bool) -> None:
        self._limits = limits
        self._prefix = self._namespaces(allow_unconfined)

    async def run(self, command: Sequence[str], folder: Path) -> bytes:
        """Run a program in a folder and return what it printed.

        Raises `RenderRefused`: `render-failed` with its message, `timeout`, `out-of-memory` or
        `too-large`.
        """
        environment = {"HOME": str(folder), "PATH": "", "LANG": "C.UTF-8"}
        process = await anyio.open_process(
            [*self._prefix, *command],
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        output, errors = bytearray(), bytearray()
        refused: list[RenderRefused] = []
        try:
            with anyio.move_on_after(self._limits.seconds) as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._watch, process, group.cancel_scope, refused)
                    group.start_soon(self._read, process.stderr, errors, _ERROR_BYTES)
                    await self._read(process.stdout, output, self._limits.output + 1)
                    if len(output) <= self._limits.output:
                        await process.wait()
                    group.cancel_scope.cancel()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with anyio.CancelScope(shield=True):
                await process.aclose()
        if refused:
            raise refused[0]
        if scope.cancelled_caught:
            message = f"rendering took longer than {self._limits.seconds:g} s"
            raise RenderRefused("timeout", message)
        if len(output) > self._limits.output:
            message = f"the render is over {self._limits.output} bytes"
            raise RenderRefused("too-large", message)
        if process.returncode != 0:
            raise RenderRefused("render-failed", _message(bytes(errors), folder))
        return bytes(output)

    async def _read(
        self, stream: anyio.abc.ByteReceiveStream | None, into: bytearray, limit: int
    ) -> None:
        assert stream is not None
        async for chunk in stream:
            into += chunk[: limit - len(into)]
            if len(into) >= limit:
                return

    async def _watch(
        self,
        process: anyio.abc.Process,
        scope: anyio.CancelScope,
        refused: list[RenderRefused],
    ) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while True:
            if _resident_pages(process.pid) * page > self._limits.memory:
                message = f"rendering needs more than {self._limits.memory} bytes of memory"
                refused.append(RenderRefused("out-of-memory", message))
                scope.cancel()
                return
            await anyio.sleep(_WATCH_INTERVAL)

    def _namespaces(self, allow_unconfined: bool) -> list[str]:
        unshare, prlimit = shutil.which("unshare"), shutil.which("prlimit")
        if unshare and prlimit:
            prefix = [
                unshare,
                *_NAMESPACES,
                "--",
                prlimit,
                f"--cpu={int(self._limits.seconds) + 1}",
                f"--fsize={self._limits.file_size}",
                "--nofile=512",
                "--core=0",
                "--",
            ]
            probe = subprocess.run(  # noqa: S603 - a fixed command
                [*prefix, unshare, "--version"], capture_output=True, check=False
            )
            if probe.returncode == 0:
                return prefix
        if not allow_unconfined:
            raise Unconfined(
                "renderers cannot be confined here: unshare (util-linux) is missing, or the kernel "
                "refuses namespaces; allow user namespaces, or start with --allow-unconfined"
            )
        logger.warning("renderers run without namespaces, as --allow-unconfined says")
        return []


def _resident_pages(pid: int) -> int:
    total, todo = 0, [pid]
    while todo:
        current = todo.pop()
        with contextlib.suppress(OSError, ValueError, IndexError):
            total += int(Path(f"/proc/{current}/statm").read_text().split()[1])
        with contextlib.suppress(OSError, ValueError):
            children = Path(f"/proc/{current}/task/{current}/children").read_text()
            todo += [int(child) for child in children.split()]
    return total


def _message(errors: bytes, folder: Path) -> str:
    text = errors.decode(errors="replace").replace(f"{folder}/", "").replace(str(folder), ".")
    printable = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    return printable.strip().removeprefix("error: ")[:4000] or "the renderer failed silently"
