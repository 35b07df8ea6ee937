"""Exports: whole ones verify, and whatever is done to one is found and its position named."""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.audit.verify import Fault, Verified
from engine.embedded.server import EmbeddedPostgres
from events.entry import Header, entry_of, parse_entry
from events.merkle import leaf_hash
from events.note import SignerKey, VerifierKey, parse_signer, sign
from events.tiles import Edge, Tile, edge_of
from tests import exports
from tests.exports import (
    EARLIER,
    SIZE,
    bodies_of,
    check,
    copied,
    flip,
    keys_of,
    rewrite_entries,
)

LAST = "002.p/188"


@pytest.fixture(scope="module")
def original(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit") / "export"
    exports.make_export_now(postgres, folder)
    return folder


@pytest.fixture
def export(original: Path, tmp_path: Path) -> Path:
    return copied(original, tmp_path / "export")


@pytest.fixture
def keys(original: Path) -> list[VerifierKey]:
    return keys_of(original)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def faulty(found: Verified | Fault) -> Fault:
    assert isinstance(found, Fault), found
    return found


def test_a_whole_export_is_verified(original: Path) -> None:
    found = check(original, keys_of(original), EARLIER)
    assert isinstance(found, Verified), found
    assert found.checkpoint.size == SIZE
    assert (found.payloads, found.withheld, found.since) == (SIZE, 0, 300)
    assert found.blobs == len(bodies_of(original)) == 20
    names = {str(path.relative_to(original)) for path in files_of(original)}
    assert {
        "checkpoint",
        f"checkpoints/{300:020d}",
        "keys",
        "tile/0/000",
        "tile/0/002.p/188",
        "tile/1/000.p/2",
        "tile/entries/001",
        "payloads/002.p/188",
    } <= names


def test_bodies_may_be_left_out_or_withheld(export: Path) -> None:
    path = export / "payloads/001"
    lines = path.read_bytes().split(b"\n")
    lines[7] = b""
    path.write_bytes(b"\n".join(lines))
    found = check(export)
    assert isinstance(found, Verified), found
    assert (found.payloads, found.withheld) == (SIZE - 1, 1)
    for path in [*(export / "payloads").rglob("*"), *(export / "blobs").rglob("*")]:
        if path.is_file():
            path.unlink()
    for folder in sorted([*(export / "payloads").rglob("*"), export / "payloads"], reverse=True):
        folder.rmdir()
    found = check(export)
    assert isinstance(found, Verified), found
    assert found.payloads == 0


# One byte.


def kinds() -> dict[str, Callable[[Path], Path]]:
    def of(name: str) -> Callable[[Path], Path]:
        return lambda folder: folder / name

    return {
        "checkpoint": of("checkpoint"),
        "earlier checkpoint": of(f"checkpoints/{300:020d}"),
        "keys": of("keys"),
        "tile of leaves": of("tile/0/001"),
        "partial tile of leaves": of(f"tile/0/{LAST}"),
        "tile above": of("tile/1/000.p/2"),
        "entries": of("tile/entries/000"),
        "partial entries": of(f"tile/entries/{LAST}"),
        "payloads": of("payloads/001"),
        "partial payloads": of(f"payloads/{LAST}"),
    }


def place_of(kind: str, path: Path, at: int) -> tuple[int, int]:
    """Which positions may be named for a flip at an offset of a file."""
    data = path.read_bytes()
    bundle = {"000": 0, "001": 256}.get(path.name, 512)
    if "tile of leaves" in kind:
        return (bundle + at // 32 + 1,) * 2
    if kind == "tile above":
        return at // 32 * 256 + 1, (at // 32 + 1) * 256
    if "entries" in kind:
        end, number = 0, 0
        while end <= at:
            end += 2 + int.from_bytes(data[end : end + 2], "big")
            number += 1
        return (bundle + number,) * 2
    if "payloads" in kind:
        return (bundle + data[:at].count(b"\n") + 1,) * 2
    return 0, 0


@pytest.mark.parametrize("kind", kinds())
def test_one_flipped_byte_is_found_and_its_position_named(
    kind: str, export: Path, keys: list[VerifierKey]
) -> None:
    chance = random.Random(kind)
    path = kinds()[kind](export)
    size = path.stat().st_size
    before = path.read_bytes()
    places = {0, size - 1, *(chance.randrange(size) for _ in range(60))}
    for at in sorted(places if size > 5000 else range(size)):
        bit = chance.randrange(8)
        first, last = place_of(kind, path, at)
        flip(path, at, bit)
        for trusted in ([], keys):
            found = faulty(check(export, trusted))
            assert (found.position, found.until) == (first, last), (at, bit, str(found))
            assert found.position or found.file, str(found)
        path.write_bytes(before)


def test_a_flipped_byte_in_any_body_names_the_first_event_that_names_it(export: Path) -> None:
    named = {}
    for number, path in enumerate(("000", "001", LAST)):
        lines = (export / "payloads" / path).read_bytes().split(b"\n")
        for row, line in enumerate(lines):
            named[256 * number + row + 1] = line
    for digest in bodies_of(export):
        path = export / "blobs" / digest[7:9] / digest[7:]
        before = path.read_bytes()
        flip(path, len(before) // 2)
        found = faulty(check(export))
        assert found.what == "a body that this event names was altered"
        assert b"objects" in named[found.position]
        path.write_bytes(before)


# Whole events.


@pytest.mark.parametrize("position", [1, 2, 256, 257, 511, 600, 699])
def test_a_dropped_event_is_named(export: Path, position: int) -> None:
    rewrite_entries(export, lambda all_: all_[: position - 1] + all_[position:])
    found = faulty(check(export))
    assert (found.position, found.what.split(":")[0]) in [
        (position, "dropped"),
        # At the end of a bundle there is nothing behind it to compare with.
        (position, "altered"),
    ]


def test_a_dropped_last_event_is_named(export: Path) -> None:
    rewrite_entries(export, lambda all_: all_[:-1])
    found = faulty(check(export))
    assert (found.position, found.what) == (SIZE, "dropped, or cut off")


@pytest.mark.parametrize("position", [2, 5, 256, 257, 650])
def test_an_inserted_event_is_named(export: Path, position: int) -> None:
    def insert(entries: list[bytes]) -> list[bytes]:
        forged = entries[position - 1].replace(b"user:test", b"user:evil")
        return [*entries[: position - 1], forged, *entries[position - 1 :]]

    rewrite_entries(export, insert)
    found = faulty(check(export))
    assert found.position == position


@pytest.mark.parametrize(("one", "other"), [(3, 4), (10, 200), (256, 257), (100, 700)])
def test_reordered_events_are_named(export: Path, one: int, other: int) -> None:
    def swap(entries: list[bytes]) -> list[bytes]:
        entries[one - 1], entries[other - 1] = entries[other - 1], entries[one - 1]
        return entries

    rewrite_entries(export, swap)
    found = faulty(check(export))
    assert found.position == one
    assert f"here is what was position {other}" in found.what


@pytest.mark.parametrize("name", ["tile/0/001", "tile/entries/001", "payloads/001"])
def test_a_missing_file_is_named(export: Path, name: str) -> None:
    (export / name).unlink()
    found = faulty(check(export))
    assert (found.position, found.file) == (257, name)


@pytest.mark.parametrize("name", ["tile/1/000.p/2", "keys", "checkpoint"])
def test_a_missing_file_about_many_events_is_named(export: Path, name: str) -> None:
    (export / name).unlink()
    assert faulty(check(export)).file == name


# An insider who computes everything anew.


def forge(export: Path, position: int, *, signer: SignerKey | None = None) -> None:
    """Change one event and, as whoever holds the database could, all hashes with it."""
    entries: list[bytes] = []

    def change(given: list[bytes]) -> list[bytes]:
        header = parse_entry(given[position - 1])
        fields = {name: getattr(header, name) for name in header.__struct_fields__}
        given[position - 1] = entry_of(Header(**{**fields, "actor": "user:nobody"}))
        entries.extend(given)
        return given

    rewrite_entries(export, change)
    edge = Edge()
    for full in edge.add(map(leaf_hash, entries)):
        (export / full.tile.path).write_bytes(full.hashes)
    for tile, hashes in zip(edge_of(SIZE), edge.levels, strict=True):
        if isinstance(tile, Tile):
            (export / tile.path).write_bytes(b"".join(hashes))
    if signer is not None:
        text = f"{signer.name}\n{SIZE}\n"
        text += b64encode(edge.root()).decode() + "\n"
        (export / "checkpoint").write_text(sign(text, [signer]))
        (export / "keys").write_text(f"{signer.verifier}\n")


def test_a_log_computed_anew_does_not_fit_the_signature(export: Path) -> None:
    forge(export, 400)
    found = faulty(check(export))
    # The checkpoint from before says that it happened after.
    assert (found.position, found.until) == (301, SIZE)


def test_a_log_signed_anew_with_another_key_is_not_trusted(
    export: Path, keys: list[VerifierKey]
) -> None:
    stranger = SignerKey(keys[0].name, b"3" * 32)
    forge(export, 400, signer=stranger)
    (export / f"checkpoints/{300:020d}").unlink()
    # Whoever trusts what it brings along is fooled, if the forger thinks of the event too.
    assert "which this event enters, is not listed" in str(check(export))
    assert "no known key" in str(check(export, keys))


def test_a_checkpoint_kept_from_before_convicts_the_owner_of_the_key(
    export: Path, original: Path, keys: list[VerifierKey]
) -> None:
    data = original.parent / "data" / "signing.key"
    forge(export, 200, signer=parse_signer(data.read_text().strip()))
    (export / f"checkpoints/{300:020d}").unlink()
    assert isinstance(check(export, keys), Verified)
    found = faulty(check(export, keys, EARLIER))
    assert (found.position, found.until) == (1, 300)
    assert "--since" in found.what


def test_an_export_that_is_shorter_than_an_earlier_checkpoint_is_refused(
    export: Path, original: Path, keys: list[VerifierKey]
) -> None:
    newest = (original / "checkpoint").read_text()
    (export / "checkpoint").write_text(EARLIER[0])
    found = faulty(check(export, keys, [newest]))
    assert (found.position, found.until) == (301, SIZE)
