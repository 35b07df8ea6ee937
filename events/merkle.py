"""The Merkle tree over the log, as RFC 6962 has it: hashes, roots, proofs and their verification.

Pure. Leaf `i` is the event at position `i + 1`. Nothing here holds a whole tree: a tree of any size
is given by its complete subtrees from left to right (a `Frontier`), and a proof is first planned as
the nodes that it needs, so that whoever has them fetches only those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256().digest()
"""The root of the tree without leaves."""
_sha256 = hashlib.sha256


class ProofWrong(Exception):
    """A proof does not prove what it is said to prove."""


class Node(NamedTuple):
    """A complete subtree: of `2**level` leaves, the `number`-th of its level from the left."""

    level: int
    number: int


Plan = tuple[tuple[Node, ...], ...]
"""A proof's hashes, each as the nodes, from left to right, that it is folded from."""


def leaf_hash(entry: bytes) -> bytes:
    """Hash a leaf: SHA-256 of a zero byte and the entry."""
    return _sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash an inner node: SHA-256 of a one byte and both children."""
    return _sha256(b"\x01" + left + right).digest()


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the root over subtrees from left to right, each larger than the next."""
    if not hashes:
        return EMPTY_ROOT
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


def complete_root(hashes: Sequence[bytes]) -> bytes:
    """Return the root over nodes of one level; their number must be a power of two."""
    level = list(hashes)
    if not level or len(level) & (len(level) - 1):
        raise ValueError(f"{len(level)} nodes make no complete subtree")
    while len(level) > 1:
        level = [
            _sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level), 2)
        ]
    return level[0]


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Return the root over leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.add(leaf)
    return frontier.root()


class Frontier:
    """A tree that grows to the right, as its complete subtrees: at most one a level.

    `nodes` are those of a tree of `size` leaves, as `nodes_of(0, size)` names them.
    """

    def __init__(self, size: int = 0, nodes: Iterable[bytes] = ()) -> None:
        self.size = size
        self._nodes = list(nodes)
        if len(self._nodes) != size.bit_count():
            raise ValueError(f"{len(self._nodes)} subtrees for {size} leaves")

    def add(self, node: bytes, level: int = 0) -> None:
        """Add a leaf's hash, or a complete subtree of `2**level` leaves.

        Raises ValueError where a subtree of that size cannot come next.
        """
        if self.size & ((1 << level) - 1):
            raise ValueError(f"a subtree of 2**{level} leaves cannot follow {self.size} leaves")
        carry = self.size >> level
        while carry & 1:
            node = _sha256(b"\x01" + self._nodes.pop() + node).digest()
            carry >>= 1
        self._nodes.append(node)
        self.size += 1 << level

    def root(self) -> bytes:
        """Return the root of the tree as it is."""
        return fold(self._nodes)


def nodes_of(start: int, end: int) -> tuple[Node, ...]:
    """Return the complete subtrees that leaves `start` up to, not including, `end` fall into.

    From left to right and each as large as can be; `start` must be where the first one begins.
    """
    nodes = []
    while start < end:
        level = (end - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        nodes.append(Node(level, start >> level))
        start += 1 << level
    return tuple(nodes)


def inclusion_plan(index: int, size: int) -> Plan:
    """Plan the proof that leaf `index` is in the tree of `size` leaves (RFC 6962, 2.1.1).

    Raises ValueError for a leaf that is not in that tree.
    """
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    plan: list[tuple[Node, ...]] = []
    start, end = 0, size
    while end - start > 1:
        split = start + _split(end - start)
        if index < split:
            plan.append(nodes_of(split, end))
            end = split
        else:
            plan.append(nodes_of(start, split))
            start = split
    return tuple(reversed(plan))


def consistency_plan(old: int, new: int) -> Plan:
    """Plan the proof that the tree of `old` leaves is the beginning of that of `new` (2.1.2).

    Raises ValueError for sizes that are not in order.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {old} leaves is not the beginning of one of {new}")
    if old in (0, new):
        return ()
    plan: list[tuple[Node, ...]] = []
    start, end, whole = 0, new, True
    while old != end:
        split = start + _split(end - start)
        if old <= split:
            plan.append(nodes_of(split, end))
            end = split
        else:
            plan.append(nodes_of(start, split))
            start, whole = split, False
    if not whole:
        plan.append(nodes_of(start, end))
    return tuple(reversed(plan))


def carry_out(plan: Plan, hash_of: Callable[[Node], bytes]) -> tuple[bytes, ...]:
    """Return the hashes of a planned proof."""
    return tuple(fold([hash_of(node) for node in nodes]) for nodes in plan)


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """Return the root that an inclusion proof leads to; raises `ProofWrong` for a wrong length."""
    if not 0 <= index < size:
        raise ProofWrong(f"there is no leaf {index} in a tree of {size}")
    inner = (index ^ (size - 1)).bit_length()
    border = (index >> inner).bit_count()
    if len(proof) != inner + border:
        raise ProofWrong(f"{len(proof)} hashes, and it takes {inner + border}")
    _check_hashes(proof)
    root = leaf
    for level, sibling in enumerate(proof):
        is_left = level < inner and not index >> level & 1
        root = node_hash(root, sibling) if is_left else node_hash(sibling, root)
    return root


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Make sure that a leaf's hash is in the tree with this root; raises `ProofWrong`."""
    if root_from_inclusion(leaf, index, size, proof) != root:
        raise ProofWrong(f"the proof of leaf {index} does not lead to the root of {size} leaves")


def verify_consistency(
    old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """Make sure that the tree with one root is the beginning of another; raises `ProofWrong`."""
    if not 0 <= old <= new:
        raise ProofWrong(f"a tree of {old} leaves is not the beginning of one of {new}")
    if old in (0, new):
        if proof:
            raise ProofWrong("a proof where none is needed")
        if (old == new and old_root != new_root) or (old == 0 and old_root != EMPTY_ROOT):
            raise ProofWrong(f"two roots for one tree of {old} leaves")
        return
    _check_hashes(proof)
    hashes = list(proof)
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    if node:
        if not hashes:
            raise ProofWrong("the proof is too short")
        seen_old = seen_new = hashes.pop(0)
    else:
        seen_old = seen_new = old_root
    for sibling in hashes:
        if last == 0:
            raise ProofWrong("the proof is too long")
        if node & 1 or node == last:
            seen_old, seen_new = node_hash(sibling, seen_old), node_hash(sibling, seen_new)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            seen_new = node_hash(seen_new, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise ProofWrong("the proof is too short")
    if seen_old != old_root or seen_new != new_root:
        raise ProofWrong(f"the tree of {old} leaves is not the beginning of that of {new}")


def _check_hashes(proof: Sequence[bytes]) -> None:
    if any(len(item) != HASH_BYTES for item in proof):
        raise ProofWrong(f"a hash that has not {HASH_BYTES} bytes")


def _split(width: int) -> int:
    """Return the largest power of two below `width`: how many leaves go to the left."""
    return 1 << (width - 1).bit_length() - 1
