"""Proofs of all trees hold, no change of one does, and pymerkle agrees."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pymerkle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.merkle import (
    Frontier,
    Node,
    ProofWrong,
    carry_out,
    consistency_plan,
    inclusion_plan,
    leaf_hash,
    nodes_of,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from events.tiles import reader, tile_with, tiles_for, tiles_of

ENTRIES = [b"%d" % number for number in range(3000)]
HASHES = [leaf_hash(entry) for entry in ENTRIES]
ORACLE = pymerkle.InmemoryTree(algorithm="sha256")
for _entry in ENTRIES[:600]:
    ORACLE.append_entry(_entry)


def hash_of(node: Node) -> bytes:
    return root_of(HASHES[node.number << node.level : (node.number + 1) << node.level])


def prove(index: int, size: int) -> tuple[bytes, ...]:
    return carry_out(inclusion_plan(index, size), hash_of)


def link(old: int, new: int) -> tuple[bytes, ...]:
    return carry_out(consistency_plan(old, new), hash_of)


@pytest.mark.parametrize("size", range(1, 41))
def test_every_proof_of_every_small_tree(size: int) -> None:
    root = root_of(HASHES[:size])
    for index in range(size):
        verify_inclusion(HASHES[index], index, size, prove(index, size), root)
    for old in range(size + 1):
        verify_consistency(old, size, link(old, size), root_of(HASHES[:old]), root)


def test_pymerkle_agrees() -> None:
    for size in [*range(1, 70), 255, 256, 257, 600]:
        root = root_of(HASHES[:size])
        assert ORACLE.get_root(size) == root
        for index in {0, 1, size // 2, size - 1} & set(range(size)):
            theirs = ORACLE.prove_inclusion(index + 1, size)
            # Theirs begins with the leaf itself.
            assert [bytes.fromhex(item) for item in theirs.serialize()["path"]][1:] == list(
                prove(index, size)
            )


@given(size=st.integers(1, 2999), chance=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_any_change_of_an_inclusion_proof_fails(size: int, chance: random.Random) -> None:
    index = chance.randrange(size)
    proof, root = list(prove(index, size)), root_of(HASHES[:size])
    verify_inclusion(HASHES[index], index, size, proof, root)
    wrong = [
        (HASHES[(index + 1) % 3000], index, size, proof, root),
        (HASHES[index], index, size, proof, flipped(root, chance)),
        (HASHES[index], index, size, [*proof, root], root),
        (HASHES[index], index, size + 1, proof, root_of(HASHES[: size + 1])),
    ]
    if size > 1:
        wrong.append((HASHES[index], (index + 1) % size, size, proof, root))
    wrong += [(HASHES[index], index, size, changed, root) for changed in changes(proof, chance)]
    for case in wrong:
        with pytest.raises(ProofWrong):
            verify_inclusion(*case)


@given(
    sizes=st.lists(st.integers(1, 3000), min_size=2, max_size=2, unique=True),
    chance=st.randoms(use_true_random=False),
)
@settings(deadline=None, max_examples=60)
def test_any_change_of_a_consistency_proof_fails(sizes: list[int], chance: random.Random) -> None:
    old, new = sorted(sizes)
    proof = list(link(old, new))
    before, after = root_of(HASHES[:old]), root_of(HASHES[:new])
    verify_consistency(old, new, proof, before, after)
    wrong = [
        (old, new, proof, flipped(before, chance), after),
        (old, new, proof, before, flipped(after, chance)),
        (old, new, [*proof, after], before, after),
        (new, old, proof, after, before),
        (old, old, proof, before, after),
    ]
    wrong += [(old, new, changed, before, after) for changed in changes(proof, chance)]
    for case in wrong:
        with pytest.raises(ProofWrong):
            verify_consistency(*case)


def flipped(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def changes(proof: Sequence[bytes], chance: random.Random) -> list[list[bytes]]:
    """Proofs with one hash changed, shortened, dropped; and two exchanged."""
    changed = []
    for at in range(len(proof)):
        others = ([flipped(proof[at], chance)], [proof[at][:-1]], [])
        changed += [[*proof[:at], *other, *proof[at + 1 :]] for other in others]
        if at:
            changed.append([*proof[: at - 1], proof[at], proof[at - 1], *proof[at + 1 :]])
    return changed


@given(size=st.integers(0, 3000), more=st.integers(0, 300))
@settings(deadline=None, max_examples=40)
def test_a_frontier_goes_on_where_another_stopped(size: int, more: int) -> None:
    resumed = Frontier(size, [hash_of(node) for node in nodes_of(0, size)])
    assert resumed.root() == root_of(HASHES[:size])
    for leaf in HASHES[size : size + more]:
        resumed.add(leaf)
    assert resumed.root() == root_of(HASHES[: size + more])


@given(size=st.integers(1, 5_000_000), data=st.data())
@settings(deadline=None)
def test_the_nodes_of_a_range_cover_it(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    nodes = [node for nodes in inclusion_plan(index, size) for node in nodes]
    ends = [(node.number << node.level, (node.number + 1) << node.level) for node in nodes]
    seen = sorted([*ends, (index, index + 1)])
    assert seen[0][0] == 0
    assert seen[-1][1] == size
    assert all(one[1] == other[0] for one, other in itertools.pairwise(seen))


@given(size=st.integers(1, 3000), data=st.data())
@settings(deadline=None, max_examples=40)
def test_proofs_come_out_of_tiles(size: int, data: st.DataObject) -> None:
    tiles = {
        tile: b"".join(
            hash_of(Node(8 * tile.level, tile.index * 256 + number)) for number in range(tile.width)
        )
        for tile in tiles_of(size)
    }
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
    for plan in (inclusion_plan(index, size), consistency_plan(old, size)):
        needed = tiles_for(plan, size)
        assert needed <= tiles.keys()
        some = {tile: tiles[tile] for tile in needed}
        assert carry_out(plan, reader(some, size)) == carry_out(plan, hash_of)


@given(size=st.integers(1, 2**40), data=st.data())
def test_every_node_of_a_proof_has_a_tile(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    for nodes in inclusion_plan(index, size):
        for node in nodes:
            tile = tile_with(node, size)
            width = (size >> 8 * tile.level) - tile.index * 256
            assert 1 <= tile.width == min(256, width)
            last = ((node.number + 1) << node.level % 8) - 1
            assert last // 256 == tile.index
            assert last % 256 < tile.width
    assert len(tiles_for(inclusion_plan(index, size), size)) <= 10
