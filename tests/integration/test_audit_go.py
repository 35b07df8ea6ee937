"""An independent verifier: the signed notes and trees of the Go module ecosystem."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from engine.embedded.server import EmbeddedPostgres
from tests.exports import EARLIER, SIZE, copied, flip, keys_of, make_export_now

SOURCE = Path(__file__).with_name("goverify")


@cache
def built(folder: Path) -> Path | str:
    """Return the verifier's program, or why there is none."""
    go = shutil.which("go")
    if go is None:
        return "Go is not installed"
    program = folder / "goverify"
    done = subprocess.run(
        [go, "build", "-o", str(program), "."],
        cwd=SOURCE,
        env={**os.environ, "GOFLAGS": "-mod=readonly"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    return program if done.returncode == 0 else f"Go cannot build it: {done.stderr.strip()[-200:]}"


@pytest.fixture(scope="module")
def export(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit") / "export"
    make_export_now(postgres, folder)
    return folder


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = built(tmp_path_factory.mktemp("goverify"))
    if isinstance(found, str):
        pytest.skip(found)
    return found


def run(program: Path, folder: Path, *more: str, key: str = "") -> subprocess.CompletedProcess[str]:
    """Verify a folder, with a key that is known from elsewhere or the one that lies there."""
    key = key or str(*keys_of(folder))
    command = [str(program), str(folder), key, *more]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60)


def test_go_verifies_checkpoint_inclusion_and_consistency(
    program: Path, export: Path, tmp_path: Path
) -> None:
    earlier = tmp_path / "earlier"
    earlier.write_text(EARLIER[-1])
    done = run(program, export, str(earlier))
    assert (done.returncode, done.stdout) == (0, f"extends 300\nverified {SIZE}\n")


@pytest.mark.parametrize(
    ("name", "at", "says"),
    [
        ("checkpoint", 60, "NOT VERIFIED"),
        ("tile/0/001", 32 * 100, "NOT VERIFIED"),
        ("tile/1/000.p/2", 40, "NOT VERIFIED"),
        ("tile/entries/000", 10, "position 1:"),
        ("tile/entries/002.p/188", 10, "position 513:"),
    ],
)
def test_go_finds_one_flipped_byte(
    program: Path, export: Path, tmp_path: Path, name: str, at: int, says: str
) -> None:
    spoilt = copied(export, tmp_path / "spoilt")
    flip(spoilt / name, at)
    done = run(program, spoilt)
    assert done.returncode == 1
    assert says in done.stdout
