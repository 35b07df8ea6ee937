"""Simulated clusters whose process is killed have what they had, and go on."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from engine.cli.demo_stage import DemoFailed, Stage

pytestmark = pytest.mark.anyio
LABELS = {"app": "web"}
WEB = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "selector": {"matchLabels": LABELS},
        "template": {
            "metadata": {"labels": LABELS},
            "spec": {"containers": [{"name": "web", "image": "example.com/web:1"}]},
        },
    },
}


async def succeeds(stage: Stage, *words: str) -> bool:
    try:
        await stage.kubectl("dev", *words)
    except DemoFailed:
        return False
    return True


async def test_clusters_that_crash_have_what_they_had_and_go_on(tmp_path: Path) -> None:
    stage = Stage(tmp_path, ["dev"])
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Cluster",
            "names": {"kind": "Thing", "plural": "things"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object"}},
                }
            ],
        },
    }
    thing = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "one"}}
    try:
        await stage.start_clusters()
        (tmp_path / "crd.json").write_text(json.dumps(definition))
        (tmp_path / "thing.json").write_text(json.dumps(thing))
        await stage.kubectl("dev", "create", "-f", str(tmp_path / "crd.json"))
        with anyio.fail_after(30):
            # Not served before it is established.
            while not await succeeds(stage, "create", "-f", str(tmp_path / "thing.json")):  # noqa: ASYNC110
                await anyio.sleep(0.05)
        (tmp_path / "web.json").write_text(json.dumps(WEB))
        await stage.kubectl("dev", "create", "-f", str(tmp_path / "web.json"))
        before = json.loads(await stage.kubectl("dev", "get", "thing", "one", "-o", "json"))
        await stage.crash_clusters()
        await stage.start_clusters()
        assert json.loads(await stage.kubectl("dev", "get", "thing", "one", "-o", "json")) == before
        # The controllers go on where they were cut off, and versions do not run backwards.
        await stage.kubectl("dev", "wait", "deploy/web", "--for=condition=Available")
        await stage.kubectl("dev", "label", "thing", "one", "seen=yes")
        after = json.loads(await stage.kubectl("dev", "get", "thing", "one", "-o", "json"))
        versions = [int(each["metadata"]["resourceVersion"]) for each in (before, after)]
        assert versions == sorted(versions)
        await stage.kill_clusters()
        await stage.start_clusters()
        with pytest.raises(DemoFailed, match="could not find the requested resource"):
            await stage.kubectl("dev", "get", "thing", "one")
    finally:
        await stage.close()
