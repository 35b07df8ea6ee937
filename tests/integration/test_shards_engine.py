"""An engine whose views other processes fold: it decides, waits and is checked as ever."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from events.postgres import open_log
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.batch import Group
from projections.fsck import ViewCheck
from projections.lease import holders
from projections.store import Pool, Store
from tests.integration.test_line import Shop
from tests.keeping import pool_of

pytestmark = pytest.mark.anyio


async def keepers(pool: Pool) -> set[int]:
    """Return the processes that keep shards now."""
    held = (await holders(pool, "views/")).values()
    return {
        int(it.owner.partition("@")[0].rpartition(":")[2]) for it in held if it.seconds_left > 0
    }


async def assert_is_whole(dsn: str, pool: Pool) -> None:
    group = Group(DOCUMENT_VIEWS, SUBJECT_VIEWS)
    async with open_log(dsn) as log, Store(pool).session() as session, session.snapshot():
        check = ViewCheck(session, log, group)
        assert [finding async for finding in check.findings()] == []
        assert check.documents > 10


@pytest.mark.parametrize("workers", [2, 0], ids=["workers", "in the engine"])
async def test_an_engine_decides_on_views_in_shards(tmp_path: Path, dsn: str, workers: int) -> None:
    line = Shop(tmp_path, dsn)
    line.repository.start(line.clusters)
    async with line.clusters_running(), pool_of(dsn, 4) as pool:
        line.settings = {"shards": 3, "workers": workers}
        async with line.engine():
            await line.declare_shop()
            for cluster in line.clusters:
                await line.synced(f"shop-{cluster}@{cluster}")
            kept = await keepers(pool)
            if workers:
                assert os.getpid() not in kept
                os.kill(max(kept), signal.SIGKILL)
            else:
                assert kept == {os.getpid()}
            commit = line.repository.new_image()
            for cluster in line.clusters:
                await line.synced(f"shop-{cluster}@{cluster}", commit)
        await assert_is_whole(dsn, pool)
        # One shard again: rebuilt, and nothing is done that was done.
        line.settings = {}
        async with line.engine():
            planned = len(await line.events(type="CorrectionPlanned"))
            for cluster in line.clusters:
                await line.synced(f"shop-{cluster}@{cluster}", commit)
            assert len(await line.events(type="CorrectionPlanned")) == planned
        await assert_is_whole(dsn, pool)
        assert not [pid for pid in kept - {os.getpid()} if is_running(pid)]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
