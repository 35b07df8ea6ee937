"""The tree, its tiles and its notes against the vectors of their specifications."""

from __future__ import annotations

import pytest

from events.entry import EntryWrong, entry_of, event_leaf, header_of, parse_entry
from events.event import Actor, Event, EventId, Micros, Position, StreamName, Version
from events.merkle import (
    EMPTY_ROOT,
    Node,
    ProofWrong,
    carry_out,
    consistency_plan,
    inclusion_plan,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from events.note import (
    Checkpoint,
    NoteWrong,
    SignerKey,
    open_checkpoint,
    parse,
    parse_checkpoint,
    parse_signer,
    parse_verifier,
    sign,
    strangers,
    verify,
)
from events.tiles import (
    Tile,
    TileWrong,
    bundle_path,
    number_path,
    pack,
    parse_path,
    tile_with,
    tiles_of,
    unpack,
)

# The leaves, roots and proofs that the reference implementations of RFC 6962 are tested with.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
A0 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
A1 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
A2 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
INCLUSION = [
    (0, 1, []),
    (0, 8, [A0, A1, A2]),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            ROOTS[4],
        ],
    ),
    (2, 3, [ROOTS[2]]),
    (
        1,
        5,
        [
            ROOTS[1],
            A1,
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
CONSISTENCY = [
    (1, 1, []),
    (1, 8, [A0, A1, A2]),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            ROOTS[4],
        ],
    ),
    (2, 5, [A1, "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"]),
]


def hash_of(node: Node) -> bytes:
    first, end = node.number << node.level, (node.number + 1) << node.level
    return root_of(map(leaf_hash, LEAVES[first:end]))


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_the_reference(size: int) -> None:
    assert root_of(map(leaf_hash, LEAVES[:size])).hex() == ROOTS[size]


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert EMPTY_ROOT.hex() == ROOTS[0]


@pytest.mark.parametrize(("index", "size", "proof"), INCLUSION)
def test_inclusion_proofs_are_those_of_the_reference(
    index: int, size: int, proof: list[str]
) -> None:
    ours = carry_out(inclusion_plan(index, size), hash_of)
    assert [item.hex() for item in ours] == proof
    verify_inclusion(leaf_hash(LEAVES[index]), index, size, ours, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("old", "new", "proof"), CONSISTENCY)
def test_consistency_proofs_are_those_of_the_reference(
    old: int, new: int, proof: list[str]
) -> None:
    ours = carry_out(consistency_plan(old, new), hash_of)
    assert [item.hex() for item in ours] == proof
    verify_consistency(old, new, ours, bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new]))


def test_a_leaf_is_never_taken_for_a_node() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    with pytest.raises(ProofWrong):
        verify_inclusion(leaf_hash(left + right), 0, 1, (), node_hash(left, right))


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 5)])
def test_a_leaf_that_is_not_there_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        inclusion_plan(index, size)
    with pytest.raises(ProofWrong, match="no leaf"):
        verify_inclusion(ROOTS[0].encode(), index, size, (), EMPTY_ROOT)


# Tiles: the examples of C2SP tlog-tiles.


def test_a_tree_of_70000_has_the_tiles_of_the_specification() -> None:
    tiles = list(tiles_of(70_000))
    level_0 = [tile for tile in tiles if tile.level == 0]
    assert len(level_0) == 274
    assert level_0[-1] == Tile(0, 273, 112)
    assert [tile for tile in tiles if tile.level == 1] == [Tile(1, 0), Tile(1, 1, 17)]
    assert [tile for tile in tiles if tile.level == 2] == [Tile(2, 0, 1)]
    assert list(tiles_of(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert list(tiles_of(0)) == []


@pytest.mark.parametrize(
    ("index", "path"),
    [
        (0, "000"),
        (67, "067"),
        (999, "999"),
        (1000, "x001/000"),
        (1234067, "x001/x234/067"),
        (10**9, "x001/x000/x000/000"),
    ],
)
def test_paths_are_written_and_read_as_specified(index: int, path: str) -> None:
    assert number_path(index) == path
    assert parse_path(f"tile/entries/{path}") == ("entries", index, 256)
    assert parse_path(f"tile/3/{path}.p/17") == ("3", index, 17)
    assert Tile(3, index, 17).path == f"tile/3/{path}.p/17"
    assert bundle_path(index) == f"tile/entries/{path}"


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/0",
        "tile/0/x000/001",
        "tile/0/001.p/0",
        "tile/0/001.p/256",
        "tile/0/001.p/01",
        "tile/0/001.p/",
        "tile/00/001",
        "tile/64/001",
        "tile/0/../001",
        "tile/0/001/",
        "/tile/0/001",
        "tile/0/x001/x001/x001/x001/x001/x001/x001/001",
        "tile/0/１23",
    ],
)
def test_a_path_that_is_written_otherwise_is_refused(path: str) -> None:
    with pytest.raises(TileWrong):
        parse_path(path)


def test_a_node_is_found_in_its_tile() -> None:
    assert tile_with(Node(0, 300), 70_000) == Tile(0, 1)
    assert tile_with(Node(3, 34_999 >> 2), 70_000) == Tile(0, 273, 112)
    assert tile_with(Node(8, 272), 70_000) == Tile(1, 1, 17)
    assert tile_with(Node(15, 1), 70_000) == Tile(1, 0)


def test_bundles_hold_entries_of_any_length() -> None:
    entries = [b"", b"a", b"b" * 65_535]
    assert unpack(pack(entries)) == (entries, b"")
    assert unpack(pack(entries)[:-1]) == (entries[:2], pack(entries)[5:-1])
    assert unpack(b"\x00") == ([], b"\x00")
    with pytest.raises(ValueError, match="65536"):
        pack([b"c" * 65_536])


# Notes: the examples of Go's note package, and of C2SP tlog-checkpoint.

VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
SIGNED = (
    f"{TEXT}\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfq"
    "dngotpRZb6KE6RyyBwJnAM=\n"
)
OTHER = SignerKey("trueup.dev/log/x", b"1" * 32)


def test_keys_and_notes_are_those_of_go() -> None:
    signer = parse_signer(SIGNER)
    assert str(signer.verifier) == VERIFIER
    assert parse_verifier(VERIFIER) == signer.verifier
    assert signer.secret_text() == SIGNER
    assert sign(TEXT, [signer]) == SIGNED
    assert verify(parse(SIGNED), [parse_verifier(VERIFIER)]) == [signer.verifier]


def test_a_signing_key_is_never_shown() -> None:
    signer = parse_signer(SIGNER)
    assert "AYEKFALVFGy" not in repr(signer)
    for spoilt in (SIGNER[:-2], SIGNER.replace("c74f20a3", "c74f20a4"), SIGNER.replace("=", "")):
        with pytest.raises(NoteWrong) as caught:
            assert parse_signer(spoilt + " ") is None
        assert "KFALVFGy" not in str(caught.value)


def test_one_known_key_is_enough_and_one_wrong_signature_too_much() -> None:
    first = parse_signer(SIGNER)
    both = sign(TEXT, [first, OTHER])
    note = parse(both)
    assert verify(note, [OTHER.verifier]) == [OTHER.verifier]
    assert [item.name for item in strangers(note, [OTHER.verifier])] == ["PeterNeumann"]
    assert len(verify(note, [OTHER.verifier, first.verifier])) == 2
    spoilt = parse(both.replace("x08go/ZJ", "x08go/Zj"))
    with pytest.raises(NoteWrong, match="wrong"):
        verify(spoilt, [first.verifier, OTHER.verifier])
    with pytest.raises(NoteWrong, match="no known key"):
        verify(parse(SIGNED), [OTHER.verifier])


@pytest.mark.parametrize(
    "data",
    [
        "",
        TEXT,
        f"{TEXT}\n",
        SIGNED[:-1],
        SIGNED.replace("—", "-"),
        SIGNED.replace("AM=\n", "AN=\n"),
        SIGNED.replace("then", "then\r"),
        SIGNED + "\n",
        SIGNED + "— PeterNeumann AAAA\n",
        "x" * 70_000 + SIGNED,
        SIGNED + SIGNED.rpartition("\n\n")[2] * 100,
    ],
)
def test_what_is_no_note_is_refused(data: str) -> None:
    with pytest.raises(NoteWrong):
        parse(data)


@pytest.mark.parametrize(
    "spoilt",
    [
        VERIFIER.replace("c7", "C7"),
        VERIFIER.replace("c74f", "c74e"),
        VERIFIER + "=",
        VERIFIER.replace("+ARp", "+AhR"),
        VERIFIER.replace("Peter", "Peter "),
        VERIFIER.replace("TW", "T"),
        "a+b",
        "",
    ],
)
def test_what_is_no_key_is_refused(spoilt: str) -> None:
    with pytest.raises(NoteWrong):
        parse_verifier(spoilt)


CHECKPOINT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"


def test_a_checkpoint_is_read_and_written_as_specified() -> None:
    checkpoint = parse_checkpoint(CHECKPOINT)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.text == CHECKPOINT
    assert parse_checkpoint(CHECKPOINT + "more\n").extensions == ("more",)


@pytest.mark.parametrize(
    "text",
    [
        CHECKPOINT[:-1],
        CHECKPOINT.replace("20852163", "020852163"),
        CHECKPOINT.replace("20852163", "-1"),
        CHECKPOINT.replace("q2I=", "q2J="),
        CHECKPOINT.replace("CsUY", ""),
        CHECKPOINT + "\nx\n",
        "\n" + CHECKPOINT,
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteWrong):
        parse_checkpoint(text)


def test_a_checkpoint_must_be_signed_in_the_name_of_its_origin() -> None:
    ours = Checkpoint(OTHER.name, 7, EMPTY_ROOT)
    assert open_checkpoint(sign(ours.text, [OTHER]), [OTHER.verifier]) == ours
    foreign = sign(Checkpoint("trueup.dev/log/y", 7, EMPTY_ROOT).text, [OTHER])
    with pytest.raises(NoteWrong, match="no known key"):
        open_checkpoint(foreign, [OTHER.verifier])


# The entry.


def event() -> Event:
    return Event(
        position=Position(7),
        stream=StreamName('target/default/pöd"info\\@prod'),
        version=Version(3),
        event_id=EventId("01890000-0000-7000-8000-000000000000"),
        type="SourceRecovered",
        schema=1,
        recorded_at=Micros(1_700_000_000_000_001),
        occurred_at=Micros(1_700_000_000_000_000),
        actor=Actor("user:a"),
        causation=None,
        correlation="case/1",
        traceparent="00-aa-bb-01",
        payload=b"{}",
    )


def test_an_entry_is_what_the_documentation_says() -> None:
    entry = entry_of(header_of(event()))
    assert entry.decode() == (
        r'["trueup.dev/event/v1",7,"target/default/pöd\"info\\@prod",3,'
        '"01890000-0000-7000-8000-000000000000","SourceRecovered",1,1700000000000001,'
        '1700000000000000,"user:a",null,"case/1","00-aa-bb-01",2,'
        '"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"]'
    )
    assert parse_entry(entry) == header_of(event())
    assert event_leaf(event()) == leaf_hash(entry)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b",7,", b", 7,"),
        (b"v1", b"v2"),
        (b",1,", b",1.0,"),
        (b"]", b",1]"),
        (b"null", b"nul"),
        (b"user:a", b"user\\u003aa"),
        (b"case", b"cas\xff"),
    ],
)
def test_an_entry_that_is_written_otherwise_is_refused(old: bytes, new: bytes) -> None:
    with pytest.raises(EntryWrong):
        parse_entry(entry_of(header_of(event())).replace(old, new, 1))
