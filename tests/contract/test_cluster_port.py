"""The promises of `tests/contract/cluster_port.py`, kept on the simulator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.simulator.cluster import Delays
from engine.simulator.server import Simulator
from tests.clusters import World, hand_of
from tests.contract.cluster_port import *  # noqa: F403 -- the tests themselves


@pytest.fixture(params=[{}, {"kept_bytes": 0}], ids=["", "no-form-at-hand"])
async def world(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    delays = Delays(ready=0.02, established=0.02, namespace=0.02)
    async with Simulator(["prod"], delays=delays, token="sesame") as simulator:
        kubeconfig = simulator.kubeconfig(tmp_path / "config")
        async with hand_of(kubeconfig, "prod", tmp_path, "default") as hand:
            yield World(kubeconfig, "prod", hand, tmp_path, **request.param)
