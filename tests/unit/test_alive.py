"""Whether a process is gone is told only where it is certain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from engine.process.alive import is_gone, this_process

NAME = (
    "import sys; from engine.process.alive import this_process; print(this_process(), flush=True)"
)


def start() -> tuple[subprocess.Popen[str], str]:
    waiting = f"{NAME}; sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", waiting], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_a_process_is_gone_once_it_was_killed_also_before_anybody_reaped_it() -> None:
    process, name = start()
    assert not is_gone(name)
    process.send_signal(signal.SIGSTOP)
    assert not is_gone(name)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_gone(name)
    process.communicate()
    assert is_gone(name)


def test_another_process_of_the_same_id_is_another() -> None:
    mine = this_process()
    assert not is_gone(mine)
    head, _, start_time = mine.rpartition("/")
    assert is_gone(f"{head}/{int(start_time) + 1}")


def test_nothing_is_known_of_other_machines_boots_and_namespaces() -> None:
    label, _, place = this_process().partition("@")
    boot, namespace, _ = place.split("/")
    for stranger in (
        label,
        "somebody",
        f"host:4194303@{'0' * len(boot)}/{namespace}/1",
        f"host:4194303@{boot}/pid:[1]/1",
    ):
        assert not is_gone(stranger)
    assert is_gone(f"host:4194303@{boot}/{namespace}/1")
