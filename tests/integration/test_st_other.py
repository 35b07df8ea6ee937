"""The served API under schemathesis: whatever is sent, the answers are as described.

No server error, no status, content type, header or shape that the description does not have; what
the description forbids is refused, and what it allows is not refused for its form.
"""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import PIPE, STDOUT

import anyio
import pytest

from tests.integration.test_line import CLUSTERS, Shop

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]
SEED = 4711
SECONDS = 150
CONFIG = """
[checks.positive_data_acceptance]
# What the form allows may be wrong in what it means, or not be there.
expected-statuses = ["2xx", 304, 404, 409, 412, 422]
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 412, 413, 415, 422, 431]
"""


async def test_nothing_is_found(tmp_path: Path, dsn: str) -> None:
    line = Shop(tmp_path, dsn)
    async with line.clusters_running():
        line.repository.start(CLUSTERS)
        async with line.engine():
            await _populate(line)
            config = tmp_path / "schemathesis.toml"
            config.write_text(CONFIG)
            command = [
                sys.executable,
                "-m",
                "schemathesis.cli",
                f"--config-file={config}",
                "run",
                f"{line.url}/v1/openapi.json",
                f"--header=Authorization: Bearer {line.token}",
                f"--max-time={SECONDS}",
                "--max-examples=60",
                f"--seed={SEED}",
                "--generation-database=none",
                "--request-timeout=70",
                "--continue-on-failure",
                "--suppress-health-check=all",
                "--no-shrink",
                "--no-color",
            ]
            done = await anyio.run_process(
                command, stdout=PIPE, stderr=STDOUT, check=False, cwd=tmp_path
            )
            assert done.returncode == 0, done.stdout.decode()[-20_000:]
            # It is the same engine still, and it still works.
            await line.call("GET", "/v1/version")


async def _populate(line: Shop) -> None:
    """Have something of each kind: synced, suspended, drifted, withdrawn, revoked."""
    await line.declare_shop()
    for name in CLUSTERS:
        await line.synced(f"shop-{name}@{name}")
    await line.kubectl("prod", "-n", "shop", "scale", "deploy/shop", "--replicas=9")
    await line.until("DriftResolved")
    await line.call("POST", "/v1/targets/default/shop-dev@dev/suspend", {"reason": "a freeze"})
    await line.call("POST", "/v1/tokens", {"name": "ci"})
    await line.call("POST", "/v1/tokens", {"name": "gone"})
    await line.call("DELETE", "/v1/tokens/gone")
