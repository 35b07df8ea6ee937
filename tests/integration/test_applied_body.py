"""What was last applied to an object is told as it was sent: a dry run of it changes nothing."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from engine.cli.demo_repository import DemoRepository
from engine.worlds import RecordedCluster
from events.postgres import open_log
from events.vocabulary import ObjectRef
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.batch import Group
from projections.postgres import PostgresViews
from tests.keeping import pool_of
from tests.line import Line

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


async def test_what_was_applied_is_told_and_secrets_are_not(tmp_path: Path, dsn: str) -> None:
    line = Line(tmp_path, dsn, ["dev"])
    async with line.clusters_running(), line.engine():
        repository = DemoRepository(line.git / "shop.git")
        repository.start(["dev"])
        source = {"repository": "shop", "path": "overlays/dev"}
        await line.declare(
            {
                "kind": "Repository",
                "metadata": {"name": "shop"},
                "spec": {"url": repository.url, "interval": "1s"},
            },
            line.cluster("dev"),
            {
                "kind": "Application",
                "metadata": {"name": "shop"},
                "spec": {"source": source, "targets": {"clusters": ["dev"]}},
            },
        )
        await line.synced("shop@dev")
        shown = ["-n", "shop", "get", "deployment", "shop", "-o", "json"]
        before = orjson.loads(await line.kubectl("dev", *shown))
        async with open_log(dsn) as log, pool_of(dsn) as pool:
            views = PostgresViews(pool, Group(DOCUMENT_VIEWS, SUBJECT_VIEWS))
            recorded = RecordedCluster(views, log, "cluster/default/dev")
            body = await recorded.applied_body(ObjectRef("apps/v1", "Deployment", "shop", "shop"))
            secret = await recorded.applied_body(ObjectRef("v1", "Secret", "shop", "shop"))
            nothing = await recorded.applied_body(ObjectRef("v1", "ConfigMap", "shop", "other"))
        assert (secret, nothing) == (None, None)
        assert body is not None
        file = tmp_path / "body.json"
        file.write_bytes(orjson.dumps(body))
        apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=trueup"]
        await line.kubectl("dev", *apply, "-f", str(file))
        after = orjson.loads(await line.kubectl("dev", *shown))
        assert after["metadata"]["generation"] == before["metadata"]["generation"]
        assert after["spec"] == before["spec"]
        assert after["metadata"]["labels"] == before["metadata"]["labels"]
