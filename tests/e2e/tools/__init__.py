"""The tools that others deploy with, built from their own modules: find them, run them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import anyio
import pytest

from tests.e2e.cluster import Output

BUILD_SCRIPT = Path(__file__).parent / "build.sh"


def tool(name: str) -> Path:
    """Return the folder with a tool's programs; skips the test where it was not built."""
    done = subprocess.run(
        ["sh", str(BUILD_SCRIPT), "--path", name], capture_output=True, text=True, check=True
    )
    folder = Path(done.stdout.strip())
    # `.built` is written last: without it a build is still running or was broken off.
    if not (folder / ".built").exists():
        pytest.skip(f"{name} was not built: run `make tools` (needs Go)")
    return folder


async def run(
    program: Path, *words: str, env: Mapping[str, str], check: bool = True, stdin: bytes = b""
) -> Output:
    """Run a program with little else in its environment; raises `RuntimeError` where it fails."""
    with anyio.fail_after(120):
        done = await anyio.run_process(
            [str(program), *words],
            input=stdin,
            check=False,
            env={"PATH": os.environ.get("PATH", os.defpath), **env},
        )
    output = Output(done.stdout.decode(), done.stderr.decode(), done.returncode)
    if check and output.status != 0:
        raise RuntimeError(f"{program.name} {' '.join(words)}: {output.stderr or output.stdout}")
    return output
