"""Start a Postgres program under an identity that Postgres accepts, tied to the engine's life.

Run as a script of its own, before the program takes its place by exec: what it does (a user
namespace, another user, dying with the parent) must happen in the child, and a thread-holding
parent cannot safely run Python between fork and exec. Standard library only.

Usage: launch.py IDENTITY PARENT FOLDER PROGRAM [ARGUMENT…], where IDENTITY is `self`,
`namespace` or `user:NAME`. Where the machine does not allow that, it says so and exits with 1.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import struct
import sys

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
_CLONE_NEWUSER = 0x10000000
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1
_INSIDE = 65534
"""Who we are inside the namespace: Postgres refuses 0, and initdb wants a name for it."""


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _enter_namespace(libc: ctypes.CDLL) -> None:
    """Become an unprivileged user of a namespace whose files are still ours outside."""
    uid, gid = os.geteuid(), os.getegid()
    _check(libc.unshare(_CLONE_NEWUSER), "unshare")
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{_INSIDE} {uid} 1"),
        ("gid_map", f"{_INSIDE} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(line)


def _become(libc: ctypes.CDLL, name: str, folder: str, program: str) -> None:
    """Become an existing user.

    Where that user cannot reach the program or the folder (both may lie under root's home), it
    keeps one capability, to pass by permissions: still far less than root, which is what the
    program would be run as otherwise.
    """
    entry = pwd.getpwnam(name)
    _check(libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "prctl")
    os.setgroups([])
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    reached = os.access(program, os.X_OK) and os.access(folder, os.W_OK | os.X_OK)
    kept = 0 if reached else 1 << _CAP_DAC_OVERRIDE
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _check(libc.capset(header, struct.pack("6I", kept, kept, kept, 0, 0, 0)), "capset")
    if not reached:
        raised = libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)
        _check(raised, "prctl")


def main(identity: str, parent: int, folder: str, program: str, *arguments: str) -> None:
    """Take the identity, tie this process to its parent, and become the program."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if identity == "namespace":
            _enter_namespace(libc)
        elif identity.startswith("user:"):
            _become(libc, identity.removeprefix("user:"), folder, program)
    except (OSError, KeyError) as error:
        sys.exit(f"{identity}: {error}")
    os.umask(0o077)
    if sys.platform == "linux":
        # After the change of identity, which clears it. SIGINT is Postgres' fast, orderly stop.
        _check(libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0), "prctl")
        if os.getppid() != parent:
            sys.exit("the engine ended before its database started")
    os.execv(program, [program, *arguments])  # noqa: S606 - a fixed program, no shell


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
