"""What is kept of clusters when their process is killed, as etcd keeps what was answered.

Objects, counters and the record of writes: the history of changes is gone, so that watches begin
anew.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from engine.simulator.admin import Write
from engine.simulator.cluster import Object
from engine.simulator.server import Simulator
from engine.simulator.strategy import Addresses


class Kept(msgspec.Struct):
    """One cluster: its resource version, what it hands out next, and its objects with places."""

    version: int
    addresses: tuple[int, int]
    objects: list[tuple[str, str, Object]]
    writes: list[Write]


def save(simulator: Simulator, path: Path) -> None:
    """Write everything to a file, whole or not at all."""
    found = {}
    for name in simulator.names:
        cluster = simulator.cluster(name)
        store, addresses = cluster.store, cluster.addresses.state
        writes = list(simulator.control(name).writes)
        found[name] = Kept(store.version, addresses, store.everything(), writes)
    aside = path.with_suffix(".new")
    aside.write_bytes(msgspec.json.encode(found))
    os.replace(aside, path)


def load(simulator: Simulator, path: Path) -> None:
    """Fill the clusters with what was saved, if anything was; their controllers look at all of it.

    Raises OSError or msgspec.DecodeError for a file that is none of ours.
    """
    if not path.exists():
        return
    kept = msgspec.json.decode(path.read_bytes(), type=dict[str, Kept])
    for name in simulator.names:
        if name not in kept:
            continue
        cluster, found = simulator.cluster(name), kept[name]
        cluster.addresses = Addresses(*found.addresses)
        cluster.store.fill(found.version, found.objects)
        simulator.control(name).writes.extend(found.writes)
        for group, plural, item in found.objects:
            served = cluster.served_by_key((group, plural))
            if served is not None:
                metadata = item["metadata"]
                cluster.changed(served.resource, metadata.get("namespace", ""), metadata["name"])
