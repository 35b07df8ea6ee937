"""Runs a program that must not be trusted with more than a few files.

It sees one folder as its whole file system, and no network, no other process and no environment
of ours: user, mount, network, process, IPC and host name namespaces of its own, made by util-linux'
`unshare`. The kernel holds its memory, processor time and open files to limits and lets it write
no file. It is killed with all that it started when it takes too long, says too much, or is no
longer wanted.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.abc
from msgspec import Struct

_TOOLS = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_STDERR = 64 * 1024
_NAMESPACES = ("--user", "--mount", "--net", "--pid", "--ipc", "--uts")
_NOBODY = "65534"


class ConfinementRefused(Exception):
    """This machine lets nobody be confined, so nothing is run."""

    code = "confinement-refused"


class Overrun(Exception):
    """A program took more than it was given. `code` is `timeout`, `too-large` or `killed`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Bounds(Struct, frozen=True):
    """Seconds, bytes of output, bytes of memory, open files."""

    seconds: float
    output: int
    memory: int
    files: int = 256


class Ran(Struct, frozen=True):
    """How a program ended."""

    status: int
    output: bytes
    errors: str


class Confinement:
    """Makes command lines that run confined. `unconfined_reason` is "" where that is possible."""

    def __init__(self, *, allow_unconfined: bool = False) -> None:
        """Try it once. Raises `ConfinementRefused` where it fails, unless that is allowed."""
        self._unshare = shutil.which("unshare", path=_TOOLS)
        self._prlimit = shutil.which("prlimit", path=_TOOLS)
        self.unconfined_reason = self._try()
        if self.unconfined_reason and not allow_unconfined:
            raise ConfinementRefused(
                f"manifests cannot be rendered in a confined place: {self.unconfined_reason}; "
                "let this process make user namespaces (or install util-linux), or give "
                "--allow-unconfined where you trust whoever can push"
            )

    def command(self, jail: Path, program: Sequence[str], bounds: Bounds) -> list[str]:
        """Return the command line that runs `program` with `jail` as its root folder.

        Unconfined, the program is looked for in `jail` too, and sees the whole machine.
        """
        limits: list[str] = []
        if self._prlimit is not None:
            limits = [
                self._prlimit,
                f"--data={bounds.memory}",
                f"--cpu={max(1, int(bounds.seconds))}",
                f"--nofile={bounds.files}",
                "--fsize=0",
                "--core=0",
            ]
        if self.unconfined_reason or self._unshare is None:
            return [*limits, str(jail / program[0].lstrip("/")), *program[1:]]
        user = (f"--map-user={_NOBODY}", f"--map-group={_NOBODY}")
        end = ("--fork", "--kill-child", f"--root={jail}", "--wd=/")
        return [*limits, self._unshare, *_NAMESPACES, *user, *end, *program]

    def _try(self) -> str:
        if self._unshare is None or self._prlimit is None:
            return "there is no unshare or no prlimit on this machine"
        command = [self._unshare, *_NAMESPACES, f"--map-user={_NOBODY}", "--fork", "--root=/"]
        try:
            done = subprocess.run(  # noqa: S603 - a fixed command
                [*command, self._prlimit, "--version"], capture_output=True, timeout=20, env={}
            )
        except (OSError, subprocess.SubprocessError) as error:
            return f"unshare does not run: {error}"
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            return said[-1] if said else f"unshare ended with {done.returncode}"
        return ""


async def run(
    command: Sequence[str], bounds: Bounds, *, folder: Path, environment: Mapping[str, str]
) -> Ran:
    """Run a command to its end. Raises `Overrun`; whatever happens, nothing of it stays alive."""
    # Whoever is cancelled while its pipes are being connected would end the program, and not what
    # it has started.
    with anyio.CancelScope(shield=True):
        process = await anyio.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
        )
    output, errors = bytearray(), bytearray()
    too_much = False

    async def read() -> None:
        nonlocal too_much
        assert process.stdout is not None
        async for chunk in process.stdout:
            output.extend(chunk)
            if len(output) > bounds.output:
                too_much = True
                _kill(process)
                return

    async def listen() -> None:
        assert process.stderr is not None
        async for chunk in process.stderr:
            errors.extend(chunk[: max(0, _STDERR - len(errors))])

    try:
        with anyio.move_on_after(bounds.seconds) as in_time:
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                group.start_soon(listen)
                await process.wait()
    finally:
        _kill(process)
        with anyio.CancelScope(shield=True):
            await process.aclose()
    if too_much:
        raise Overrun("too-large", f"the output is larger than {bounds.output} bytes")
    if in_time.cancelled_caught:
        raise Overrun("timeout", f"it took longer than {bounds.seconds:g} s")
    status = process.returncode or 0
    if status in (-signal.SIGXCPU, 128 + signal.SIGXCPU, -signal.SIGKILL, 128 + signal.SIGKILL):
        raise Overrun("killed", "it was killed, having used more than it was given")
    return Ran(status, bytes(output), errors.decode("utf-8", "replace"))


def _kill(process: anyio.abc.Process) -> None:
    # The process leads a group of its own; the group outlives it until everybody is gone.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
