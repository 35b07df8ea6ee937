"""Which shard a document belongs to, and what of a batch is one shard's.

Pure. A shard folds every document whose key it has, and files what is about every subject that it
has; so shards never touch the same row, and each moves at its own pace.
"""

from __future__ import annotations

from zlib import crc32

from msgspec.structs import replace

from projections.batch import Plan, Step

MOST = 64
"""Shards that views may have."""


def shard_of(key: str, shards: int) -> int:
    """Return the shard of a document's key, or of a subject: the same for ever."""
    return crc32(key.encode()) % shards


def part_of(plan: Plan, shard: int, shards: int, subjects: frozenset[str]) -> Plan:
    """Return what of a plan is one shard's; `subjects` names the views that keep no documents.

    An event whose documents cannot be told concerns all: its stream is parked for every shard.
    """
    part = Plan([], {})
    for step in plan.steps:
        mine = _part(step, shard, shards)
        if mine is None:
            continue
        part.steps.append(mine)
        if mine.view not in subjects:
            for key in mine.keys:
                part.touched[mine.view, key] = None
    return part


def _part(step: Step, shard: int, shards: int) -> Step | None:
    if step.fact is None:
        return step
    keys = tuple(key for key in step.keys if shard_of(key, shards) == shard)
    if not keys:
        return None
    return step if len(keys) == len(step.keys) else replace(step, keys=keys)
