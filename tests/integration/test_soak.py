"""A short soak: some of everything going wrong on real processes, and all right again after."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.run import soak

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]


async def test_after_a_round_of_random_faults_everything_is_right_again(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    seed = pytestconfig.getoption("seed")
    print(f"--seed {seed}")
    assert await soak(tmp_path, seed, minutes=0, say=print, deeds=10, clusters=3) == 1
