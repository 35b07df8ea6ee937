"""Nothing is deleted that nobody asked for, whatever happens to folders, clusters and rights."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.line import Line
from tests.repositories import Repository

pytestmark = pytest.mark.anyio
CLUSTERS = ["dev", "prod"]
TARGET = "web@prod"


def config_map(name: str, value: str = "1") -> str:
    return (
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{key: '{value}'}}\n"
    )


NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: web}\n"
CLAIM = """\
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"""
SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
"""
FILES = {
    "deploy/namespace.yaml": NAMESPACE,
    "deploy/a.yaml": config_map("a"),
    "deploy/b.yaml": config_map("b"),
    "deploy/service.yaml": SERVICE,
    "deploy/claim.yaml": CLAIM,
}


class Web(Line):
    """A line with a small application that goes to every cluster with the label `run: web`."""

    def __init__(self, folder: Path, dsn: str, **settings: Any) -> None:
        super().__init__(folder, dsn, CLUSTERS, **settings)
        (folder / "git").mkdir()
        self.repository = Repository(self.git / "web")

    def application(self, path: str = "deploy", **sync: Any) -> dict[str, Any]:
        return {
            "kind": "Application",
            "metadata": {"name": "web"},
            "spec": {
                "source": {"repository": "web", "path": path},
                "targets": {"selector": {"matchLabels": {"run": "web"}}, "namespace": "web"},
                "sync": sync,
            },
        }

    async def declare_web(self, **sync: Any) -> None:
        await self.declare(
            {
                "kind": "Repository",
                "metadata": {"name": "web"},
                "spec": {"url": self.repository.url, "interval": "1s"},
            },
            *(self.cluster(name, run="web") for name in CLUSTERS),
            self.application(**sync),
        )
        for name in CLUSTERS:
            await self.synced(f"web@{name}")

    async def commit(self, files: dict[str, str], *clusters: str) -> str:
        """Commit, and ask for a sync, so that nobody has to wait for the next look."""
        commit = self.repository.commit(files)
        for name in clusters or CLUSTERS:
            await self.call("POST", f"/v1/targets/default/web@{name}/sync", {"reason": "test"})
        return commit

    async def there(self, cluster: str = "prod") -> set[str]:
        kinds = "configmap,service,pvc"
        found = await self.kubectl(cluster, "-n", "web", "get", kinds, "-o", "name")
        return {line.partition("/")[2] for line in found.split() if "kube-root-ca" not in line}

    async def untouched(self) -> None:
        """Assert that no cluster lost an object."""
        for name in CLUSTERS:
            assert await self.there(name) == {"a", "b", "web", "data"}
            assert await self.deleted(name) == []


@pytest.fixture
async def web(tmp_path: Path, dsn: str) -> AsyncIterator[Web]:
    web = Web(tmp_path, dsn)
    web.repository.commit(FILES)
    async with web.clusters_running(), web.engine():
        yield web


async def test_a_renamed_folder_deletes_nothing_and_says_why_nothing_happens(web: Web) -> None:
    await web.declare_web()
    moved = {path.replace("deploy/", "release/"): text for path, text in FILES.items()}
    commit = await web.commit(moved)
    status = await web.until_status(TARGET, "failed")
    assert "deploy" in status["reason"]
    assert commit[:12] in status["reason"]
    await web.untouched()
    await web.declare(web.application("release"))
    await web.synced(TARGET, commit)
    await web.untouched()


async def test_an_emptied_folder_deletes_nothing_and_says_why_nothing_happens(web: Web) -> None:
    await web.declare_web()
    await web.commit({"deploy/README.md": "nothing here", "other/a.yaml": config_map("a")})
    status = await web.until_status(TARGET, "failed")
    assert "deploy" in status["reason"]
    await web.untouched()
    await web.kubectl("prod", "-n", "web", "patch", "cm", "a", "-p", '{"data":{"key":"2"}}')
    (resolved,) = await web.until("DriftResolved")
    assert resolved["payload"]["how"] == "corrected", "the last good state stays in force"


async def test_an_object_that_is_taken_out_of_git_is_pruned_alone(web: Web) -> None:
    await web.declare_web()
    fewer = {path: text for path, text in FILES.items() if path[7:] not in ("b.yaml", "claim.yaml")}
    commit = await web.commit(fewer)
    await web.synced(TARGET, commit)
    status = await web.status(TARGET)
    assert await web.deleted("prod") == ["configmaps/b"]
    assert await web.there() == {"a", "web", "data"}
    assert status["code"] == "protected"
    assert "never pruned" in status["reason"]


async def test_with_prune_off_it_stays_and_is_said(web: Web) -> None:
    await web.declare_web(prune=False)
    commit = await web.commit({path: text for path, text in FILES.items() if path[7:] != "b.yaml"})
    await web.synced(TARGET, commit)
    status = await web.status(TARGET)
    await web.untouched()
    assert status["code"] == "prune-off"


async def test_a_cluster_that_is_no_longer_selected_keeps_what_it_has(web: Web) -> None:
    await web.declare_web()
    await web.declare(web.cluster("prod", run="nothing"))
    (ended,) = await web.until("TargetUnassigned")
    assert ended["stream"] == f"target/default/{TARGET}"
    commit = await web.commit(FILES | {"deploy/a.yaml": config_map("a", "2")}, "dev")
    await web.synced("web@dev", commit)
    await web.untouched()
    await web.declare(web.cluster("prod", run="web"))
    await web.synced(TARGET, commit)
    await web.untouched()


async def test_a_deleted_application_leaves_its_objects(web: Web) -> None:
    await web.declare_web()
    await web.call("DELETE", "/v1/resources/applications/default/web")
    await web.until("TargetUnassigned", 2)
    await web.kubectl("prod", "-n", "web", "patch", "cm", "a", "-p", '{"data":{"key":"2"}}')
    await web.declare(web.application(mode="manual"))
    status = await web.until_status(TARGET, "held", "manual")
    assert status["differences"] == 1
    await web.untouched()


async def test_a_deletion_with_cascade_deletes_what_is_ours_and_is_not_protected(web: Web) -> None:
    await web.declare_web()
    theirs = web.folder / "theirs.yaml"
    theirs.write_text(config_map("theirs"))
    await web.kubectl("prod", "-n", "web", "create", "-f", str(theirs))
    await web.kubectl("prod", "-n", "web", "create", "-f", str(await a_copy(web)))
    await web.call("DELETE", "/v1/resources/applications/default/web?cascade=true")
    await web.until("CorrectionApplied", 4)
    for name in CLUSTERS:
        assert sorted(await web.deleted(name)) == ["configmaps/a", "configmaps/b", "services/web"]
    assert await web.there() == {"theirs", "copy", "data"}
    plans = [
        e
        for e in await web.events(type="CorrectionPlanned")
        if e["payload"]["cause"] == "withdrawal"
    ]
    (withdrawn,) = await web.events(type="Withdrawn")
    assert {plan["causation"] for plan in plans} == {withdrawn["position"]}


async def a_copy(web: Web) -> Path:
    """Write a copy of an object of ours, annotation, label and all, under another name."""
    found = json.loads(await web.kubectl("prod", "-n", "web", "get", "cm", "a", "-o", "json"))
    kept = ("labels", "annotations", "namespace")
    found["metadata"] = {key: found["metadata"][key] for key in kept} | {"name": "copy"}
    path = web.folder / "copy.json"
    path.write_text(json.dumps(found))
    return path


async def test_a_copy_with_our_annotation_on_it_is_not_pruned(web: Web) -> None:
    await web.declare_web()
    await web.kubectl("prod", "-n", "web", "create", "-f", str(await a_copy(web)))
    status = await web.until_status(TARGET, "synced", "copy")
    assert "copy" in status["reason"]
    await web.synced(TARGET, await web.commit(FILES | {"deploy/a.yaml": config_map("a", "2")}))
    assert "copy" in await web.there()


async def test_a_kind_that_may_not_be_listed_holds_up_itself_and_loses_nothing(web: Web) -> None:
    await web.declare_web()
    fault = {"action": "forbid", "verbs": ["list", "watch"], "resource": "configmaps"}
    await web.simulated("prod", "POST", "faults", fault)
    await web.simulated("prod", "POST", "drop-watches")
    await web.until("KindUnreadable")
    service = SERVICE.replace("port: 80", "port: 81")
    commit = await web.commit(
        {path: text for path, text in FILES.items() if path[7:] != "b.yaml"}
        | {"deploy/service.yaml": service, "deploy/a.yaml": config_map("a", "2")}
    )
    await web.synced("web@dev", commit)
    status = await web.until_status(TARGET, "held", "forbidden")
    assert "ConfigMap" in status["reason"]
    port = await web.kubectl(
        "prod", "-n", "web", "get", "svc", "web", "-o", "jsonpath={.spec.ports[0].port}"
    )
    assert port == "81", "other kinds go on"
    assert await web.deleted("prod") == []
    await web.simulated("prod", "DELETE", "faults")
    await web.synced(TARGET, commit)
    assert await web.deleted("prod") == ["configmaps/b"]


async def test_a_kind_that_was_taken_out_of_git_and_may_not_be_listed_loses_nothing(
    web: Web,
) -> None:
    await web.declare_web()
    fault = {"action": "forbid", "verbs": ["list", "watch"], "resource": "configmaps"}
    await web.simulated("prod", "POST", "faults", fault)
    await web.simulated("prod", "POST", "drop-watches")
    await web.until("KindUnreadable")
    await web.commit(
        {path: text for path, text in FILES.items() if path[7:] not in ("a.yaml", "b.yaml")}
    )
    await web.until_status(TARGET, "held", "forbidden")
    assert await web.deleted("prod") == []


async def test_a_suspended_target_keeps_its_objects_until_it_is_resumed(web: Web) -> None:
    await web.declare_web()
    await web.call("POST", f"/v1/targets/default/{TARGET}/suspend", {"reason": "freeze"})
    await web.call("DELETE", "/v1/resources/applications/default/web?cascade=true")
    held = await web.until("ReconcileHeld")
    assert held[-1]["payload"]["code"] == "suspended"
    assert await web.deleted("prod") == []
    await web.call("POST", f"/v1/targets/default/{TARGET}/resume", {"reason": "over"})
    await web.until("CorrectionApplied", 4)
    assert "configmaps/a" in await web.deleted("prod")


async def test_one_object_that_is_refused_holds_up_no_other(tmp_path: Path, dsn: str) -> None:
    web = Web(tmp_path, dsn, retry_base=600.0, retry_cap=600.0)
    web.repository.commit(FILES)
    async with web.clusters_running(), web.engine():
        await web.declare_web()
        fault = {"action": "forbid", "verbs": ["patch"], "resource": "services"}
        await web.simulated("prod", "POST", "faults", fault)
        service = FILES | {"deploy/service.yaml": SERVICE.replace("port: 80", "port: 81")}
        commit = await web.commit(service)
        status = await web.until_status(TARGET, "failed", "forbidden")
        assert "Service/web" in status["reason"]
        await web.kubectl("prod", "-n", "web", "patch", "cm", "a", "-p", '{"data":{"key":"2"}}')
        (resolved,) = await web.until("DriftResolved")
        assert resolved["payload"]["how"] == "corrected"
        assert (await web.status(TARGET))["sync"] == "failed", "the other is still to come"
        await web.simulated("prod", "DELETE", "faults")
        await web.call("POST", f"/v1/targets/default/{TARGET}/sync", {"reason": "mended"})
        await web.synced(TARGET, commit)
