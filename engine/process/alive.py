"""Which process this is, so that another on the same machine can tell for certain when it is gone.

Told from /proc: a process id alone comes back, and means nothing in another machine, boot or
namespace. Where that cannot be read, nobody is ever said to be gone.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

_PROC = Path("/proc")
_MARK = re.compile(r"^(?P<label>.+:(?P<pid>[0-9]+))@(?P<place>[^@/]+/[^@/]+)/(?P<start>[0-9]+)$")
_START_TIME = 19
"""The field of /proc/<pid>/stat, counted from the one after the name: starttime, in ticks."""


def this_process() -> str:
    """Return `host:pid`, and after an `@` the boot, the namespace and the start of the process."""
    label = f"{socket.gethostname()}:{os.getpid()}"
    place, start = _place(), _start(os.getpid())
    return f"{label}@{place}/{start}" if place and start else label


def is_gone(process: str) -> bool:
    """Whether a process that `this_process` named has ended, for certain.

    False for one of another machine, boot or namespace: of that nothing is known here.
    """
    mark = _MARK.match(process)
    if mark is None or mark["place"] != _place():
        return False
    pid = int(mark["pid"])
    try:
        os.kill(pid, 0)  # asks only; /proc may be hiding the processes of others
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return _start(pid) != mark["start"]


def _place() -> str:
    """Name this boot of this machine and this namespace of process ids; "" where unknown."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink(_PROC / "self/ns/pid")
    except OSError:
        return ""
    return f"{boot}/{namespace}"


def _start(pid: int) -> str:
    """Return when a process started; "" where there is none, or only what is left of a dead one."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
        threads = len(os.listdir(_PROC / str(pid) / "task"))
    except FileNotFoundError:
        return ""
    fields = stat.rpartition(")")[2].split()
    # A first thread that has ended is a zombie too while others go on.
    is_dead = fields[0] in "ZX" and threads <= 1
    return "" if is_dead else fields[_START_TIME]
