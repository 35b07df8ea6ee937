"""Runs one program of a control plane: start, stop, kill, freeze, and never outlive the test."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import anyio
import anyio.abc

# Asks the kernel to kill the program with the process that started it, then becomes the program.
# Done in the child (and not in a hook between fork and exec) because Python code there can
# deadlock; the second look at the parent closes the gap before the request counted.
_LAUNCHER = """
import ctypes, os, sys
parent, *command = sys.argv[1:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
    if os.getppid() != int(parent):
        sys.exit("the test process is gone")
os.execv(command[0], command)
"""


class ControlPlaneError(Exception):
    """A part of the control plane did not do as it should; names it and ends with its log."""


class Port:
    """A TCP port on loopback that stays ours, also while the program that serves it is down.

    The socket is bound but never listens, so clients are refused while nobody serves; the
    program shares the port through SO_REUSEPORT, which the kernel grants to our user alone.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()


class Part:
    """One program with its log, under the test's hand.

    `ready` looks once whether the program serves: None when it does, else what is missing; it
    has `timeout` seconds for that. One that is asked to end is killed after `grace` seconds.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        ready: Callable[[], Awaitable[str | None]],
        *,
        timeout: float = 90,
        grace: float = 20,
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._ready = ready
        self._timeout = timeout
        self._grace = grace
        self._process: anyio.abc.Process | None = None

    @property
    def pid(self) -> int:
        """The process id; raises `ControlPlaneError` when the program does not run."""
        return self._running_process().pid

    @property
    def running(self) -> bool:
        """Whether the process lives; a frozen one does."""
        return self._process is not None and self._process.returncode is None

    async def start(self, *, wait: bool = True) -> None:
        """Start the program and, unless told not to, wait until it serves."""
        if self.running:
            raise ControlPlaneError(f"{self.name} runs already (pid {self.pid})")
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
        with self.log.open("ab") as log:
            self._process = await anyio.open_process(
                [*launcher, *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.log.parent,
                env={"PATH": os.defpath, "HOME": str(self.log.parent)},
                # A Ctrl-C in the terminal is for the test process, which stops its parts in order.
                start_new_session=True,
            )
        if wait:
            await self.wait_ready()

    async def wait_ready(self) -> None:
        """Wait until the program serves; raises `ControlPlaneError` when it ended or never does."""
        missing: str | None = "it was not asked yet"
        with anyio.move_on_after(self._timeout):
            while missing is not None:
                if not self.running:
                    raise ControlPlaneError(f"{self.name} ended while starting\n{self.tail()}")
                missing = await self._ready()
                if missing is not None:
                    await anyio.sleep(0.05)
        if missing is not None:
            raise ControlPlaneError(
                f"{self.name} was not ready after {self._timeout:g} s: {missing}\n{self.tail()}"
            )

    async def stop(self) -> None:
        """Ask the program to end (SIGTERM) and wait; kill it when its grace is over.

        Does nothing when it does not run.
        """
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        with anyio.move_on_after(self._grace):
            await process.wait()
        if process.returncode is None:
            await self.kill()

    async def kill(self) -> None:
        """Kill the program (SIGKILL) and wait until it is gone. Does nothing when it is not up."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.kill()
        # The caller may be cancelled, but a dead process must be reaped all the same.
        with anyio.CancelScope(shield=True):
            await process.wait()

    async def restart(self) -> None:
        """Stop the program, start it again and wait until it serves."""
        await self.stop()
        await self.start()

    def freeze(self) -> None:
        """Stop the program in its tracks (SIGSTOP): connections stay open, nothing answers."""
        self._running_process().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen program go on."""
        self._running_process().send_signal(signal.SIGCONT)

    def tail(self, lines: int = 25) -> str:
        """Return the end of the log, under a heading that names its file."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join([f"--- end of {self.log}", *text.splitlines()[-lines:]])

    def _running_process(self) -> anyio.abc.Process:
        if self._process is None or self._process.returncode is not None:
            raise ControlPlaneError(f"{self.name} does not run")
        return self._process
