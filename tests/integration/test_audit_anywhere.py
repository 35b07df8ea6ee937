"""Whatever is done to any file of an export, wherever in it, two verifiers say that it is wrong.

Ours, and the independent one in Go. What is done where is drawn from a seed, which is printed.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from engine.audit import crew
from engine.audit.verify import Fault, Verified, verify
from engine.embedded.server import EmbeddedPostgres
from tests.exports import (
    CLOCK,
    check,
    copied,
    flip,
    ignore,
    keys_of,
    make_export_now,
    make_redacted_export,
)
from tests.integration.test_audit_go import built, run

ROUNDS = int(os.environ.get("TRUEUP_TEST_ROUNDS", "1"))
FLIPS = 6
"""Bytes that are flipped at random in each file, besides its first and its last."""
Spoil = Callable[[Path, Path], object]


@pytest.fixture(scope="module")
def original(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("anywhere") / "export"
    make_export_now(postgres, folder)
    return folder


@pytest.fixture
def export(original: Path, tmp_path: Path) -> Path:
    return copied(original, tmp_path / "export")


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    found = built(tmp_path_factory.mktemp("goverify"))
    return found if isinstance(found, Path) else None


@pytest.fixture
def chance() -> random.Random:
    seed = os.environ.get("TRUEUP_TEST_SEED") or secrets.token_hex(8)
    print(f"again with TRUEUP_TEST_SEED={seed}")
    return random.Random(seed)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flips(path: Path, chance: random.Random) -> Iterator[tuple[int, int]]:
    size = path.stat().st_size
    places = {0, size - 1, *(chance.randrange(size) for _ in range(FLIPS * ROUNDS))}
    yield from ((at, chance.randrange(8)) for at in sorted(places))


def refused(export: Path, go: Path | None, what: str) -> Fault:
    """Have both verifiers refuse an export, with the keys that are known from elsewhere."""
    found = check(export, KEYS)
    assert isinstance(found, Fault), f"ours takes {what}"
    assert found.position or found.file, f"nothing is named of {what}: {found}"
    assert isinstance(check(export), Fault), f"ours takes {what} with the export's own keys"
    if go is not None:
        done = run(go, export, key=str(KEYS[0]))
        assert done.returncode == 1, f"Go takes {what}"
        assert "NOT VERIFIED" in done.stdout, (what, done)
    return found


KEYS = []  # type: ignore[var-annotated]


@pytest.fixture(autouse=True)
def whole(original: Path, go: Path | None) -> None:
    KEYS[:] = keys_of(original)
    assert isinstance(check(original, KEYS), Verified)
    if go is not None:
        assert run(go, original).stdout == "verified 700\n"


def test_one_byte_flipped_anywhere(export: Path, go: Path | None, chance: random.Random) -> None:
    for path in files_of(export):
        before = path.read_bytes()
        name = path.relative_to(export).as_posix()
        for number, (at, bit) in enumerate(flips(path, chance)):
            flip(path, at, bit)
            # Go needs a process a time: not for each.
            refused(export, go if number % 4 == 0 else None, f"bit {bit} of byte {at} of {name}")
        path.write_bytes(before)


def _cut(path: Path, _: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _halve(path: Path, _: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _append(path: Path, _: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def _repeat(path: Path, _: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


def _swap(path: Path, other: Path) -> None:
    here, there = path.read_bytes(), other.read_bytes()
    path.write_bytes(there)
    other.write_bytes(here)


def _rename(path: Path, _: Path) -> None:
    path.rename(path.with_name(f"{path.name}0"))


def _copy(path: Path, _: Path) -> None:
    shutil.copyfile(path, path.with_name(f"{path.name}0"))


def _folder(path: Path, _: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "x").write_bytes(b"x")


def _link(path: Path, _: Path) -> None:
    target = path.with_name(f".{path.name}.real")
    path.rename(target)
    path.symlink_to(target)


SPOILS: dict[str, Spoil] = {
    "cut off": _cut,
    "half": _halve,
    "emptied": lambda path, _: path.write_bytes(b""),
    "a line more": _append,
    "twice": _repeat,
    "deleted": lambda path, _: path.unlink(),
    "another's": lambda path, other: shutil.copyfile(other, path),
    "swapped": _swap,
    "renamed": _rename,
    "copied beside": _copy,
    "a folder": _folder,
    "a link": _link,
}


@pytest.mark.parametrize("kind", SPOILS)
def test_a_file_is_spoilt(
    kind: str, original: Path, tmp_path: Path, go: Path | None, chance: random.Random
) -> None:
    names = [path.relative_to(original) for path in files_of(original)]
    for number, name in enumerate(names):
        # Whoever leaves an earlier checkpoint out only shows less: nothing says how many there are.
        if kind == "deleted" and name.parts[0] == "checkpoints":
            continue
        export = copied(original, tmp_path / f"{number}")
        others = [each for each in names if each != name]
        other = chance.choice(others)
        SPOILS[kind](export / name, export / other)
        refused(export, go if number % 3 == 0 else None, f"{name} {kind} ({other})")
        shutil.rmtree(export)


@pytest.mark.parametrize(
    "name",
    [
        "README",
        ".hidden",
        "tile/0/003",
        "tile/0/002.p/187",
        "tile/2/000",
        "tile/2/000.p/1",
        "tile/x/000",
        "tile/entries/003",
        "payloads/003",
        "payloads/000.p/1",
        "checkpoints/latest",
        f"blobs/00/{'0' * 64}",
        f"blobs/{'0' * 64}",
        "blobs/x",
    ],
)
def test_a_file_that_nothing_vouches_for(export: Path, go: Path | None, name: str) -> None:
    (export / name).parent.mkdir(parents=True, exist_ok=True)
    (export / name).write_bytes(b"x")
    assert refused(export, go, name).file == name


def test_a_body_that_is_missing_is_named_unless_an_event_says_that_it_was_redacted(
    export: Path, go: Path | None
) -> None:
    bodies = [path for path in files_of(export) if path.parts[-3] == "blobs"]
    for path in bodies:
        data = path.read_bytes()
        path.unlink()
        found = refused(export, go, f"an export without {path.name}")
        assert "is missing, and no event says that it was redacted" in found.what
        assert found.position
        path.write_bytes(data)


def test_a_body_that_was_redacted_is_excused_and_one_that_was_lost_is_not(
    postgres: EmbeddedPostgres, tmp_path: Path, go: Path | None
) -> None:
    folder = tmp_path / "export"
    _, lost = anyio.run(make_redacted_export, postgres, folder)
    KEYS[:] = keys_of(folder)
    found = refused(folder, go, "an export that lacks a body")
    assert (found.position, found.file) == (3, f"blobs/{lost[7:9]}/{lost[7:]}")


def test_processes_find_the_same_first_fault(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "_SMALL", 0)
    monkeypatch.setattr(crew, "_CHUNK", 2)
    whole = verify(original, KEYS, (), ignore, CLOCK, processes=2)
    assert whole == check(original, KEYS)
    for number, name in enumerate(["tile/0/001", "payloads/002.p/188", "tile/1/000.p/2"]):
        export = copied(original, tmp_path / f"{number}")
        flip(export / name, 40)
        with pytest.raises(Fault) as raised:
            verify(export, KEYS, (), ignore, CLOCK, processes=2)
        assert str(raised.value) == str(check(export, KEYS))
