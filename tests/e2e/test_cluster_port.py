"""The promises of `tests/contract/cluster_port.py`, kept on a real API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.clusters import World, hand_of
from tests.contract.cluster_port import *  # noqa: F403 -- the tests themselves
from tests.e2e.cluster import Cluster


@pytest.fixture
async def world(cluster: Cluster, namespace: str, tmp_path: Path) -> AsyncIterator[World]:
    config = tmp_path / "config"
    config.write_bytes(cluster.kubeconfig("admin").read_bytes())
    async with hand_of(config, None, tmp_path, namespace) as hand:
        yield World(config, None, hand, tmp_path)
