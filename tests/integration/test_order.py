"""In which order a sync goes: waves, hooks, and applications that wait for each other."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from engine.replay import decisions, replay
from engine.simulator.cluster import Delays
from projections.fold import TargetId
from tests.integration.test_past import past_of
from tests.line import Line
from tests.repositories import Repository

pytestmark = pytest.mark.anyio
TARGET = "web@prod"
NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: web}\n"


def noted(annotations: dict[str, str]) -> str:
    return json.dumps(annotations)


def config_map(name: str, value: str = "1", **annotations: str) -> str:
    metadata = f"{{name: {name}, namespace: web, annotations: {noted(dotted(annotations))}}}"
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {metadata}\ndata: {{key: '{value}'}}\n"


def deployment(name: str, image: str = "web:1", **annotations: str) -> str:
    return f"""\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: web, annotations: {noted(dotted(annotations))}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{containers: [{{name: web, image: "{image}"}}]}}
"""


def job(name: str, *, by_hand: bool = False, **annotations: str) -> str:
    """A Job; one that is ended by hand is suspended, so that the simulator lets it be."""
    return f"""\
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}, namespace: web, annotations: {noted(dotted(annotations))}}}
spec:
  suspend: {str(by_hand).lower()}
  ttlSecondsAfterFinished: 0
  template:
    spec: {{restartPolicy: Never, containers: [{{name: run, image: "run:1"}}]}}
"""


def dotted(annotations: dict[str, str]) -> dict[str, str]:
    names = {
        "wave": "trueup.dev/wave",
        "hook": "trueup.dev/hook",
        "argo": "argocd.argoproj.io/hook",
        "argo_wave": "argocd.argoproj.io/sync-wave",
        "argo_policy": "argocd.argoproj.io/hook-delete-policy",
        "helm": "helm.sh/hook",
        "weight": "helm.sh/hook-weight",
    }
    return {names[key]: value for key, value in annotations.items()}


class Web(Line):
    """A line with one cluster and an application whose namespace is there before it."""

    def __init__(self, folder: Path, dsn: str) -> None:
        super().__init__(folder, dsn, ["prod"])
        (folder / "git").mkdir()
        self.repository = Repository(self.git / "web")

    async def begin(self, *manifests: str, **spec: Any) -> str:
        """Commit and declare."""
        commit = self.repository.commit(files(manifests))
        (self.folder / "namespace.yaml").write_text(NAMESPACE)
        await self.kubectl("prod", "apply", "-f", str(self.folder / "namespace.yaml"))
        await self.declare(
            {
                "kind": "Repository",
                "metadata": {"name": "web"},
                "spec": {"url": self.repository.url, "interval": "1s"},
            },
            self.cluster("prod"),
            self.application("web", **spec),
        )
        await self.until("TargetAssigned")
        return commit

    def application(self, name: str, path: str = "deploy", **spec: Any) -> dict[str, Any]:
        return {
            "kind": "Application",
            "metadata": {"name": name},
            "spec": {
                "source": {"repository": "web", "path": path},
                "targets": {"clusters": ["prod"], "namespace": "web"},
                **spec,
            },
        }

    async def commit(self, *manifests: str) -> str:
        return self.repository.commit(files(manifests))

    async def ask(self) -> None:
        await self.call("POST", f"/v1/targets/default/{TARGET}/sync", {"reason": "once more"})

    async def applied(self) -> list[str]:
        """Name what we wrote, in order."""
        return [
            f"{write['resource']}/{write['name']}"
            for write in await self.written("prod")
            if (write["verb"], write["manager"]) == ("patch", "trueup")
            and write["changed"]
            and not write["dry_run"]
        ]

    async def jobs(self) -> list[str]:
        found = await self.kubectl("prod", "-n", "web", "get", "jobs", "-o", "name")
        return sorted(line.partition("/")[2] for line in found.split())

    def ready_after(self, seconds: float) -> None:
        """Say how long a workload takes to be ready from now on."""
        self.simulator.cluster("prod").delays = Delays(ready=seconds)

    async def end(self, name: str, kind: str, message: str = "") -> None:
        """End a Job as its controller would: Complete or Failed."""
        condition = {"type": kind, "status": "True", "reason": "Test", "message": message}
        patch = json.dumps({"status": {"conditions": [condition]}})
        where = ("-n", "web", "patch", "job", name, "--subresource=status", "--type=merge")
        await self.kubectl("prod", *where, "-p", patch)


def files(manifests: Sequence[str]) -> dict[str, str]:
    return {f"deploy/{number}.yaml": text for number, text in enumerate(manifests)}


def stem(name: str) -> str:
    """Return a name without what tells one sync's Job from another's."""
    kind, _, rest = name.partition("/")
    return f"{kind}/{rest.rpartition('-')[0]}" if kind == "jobs" else name


async def is_decided_the_same_again(web: Web) -> None:
    async with past_of(web.dsn) as past:
        target = TargetId("default", "web", "prod")
        events = [event for event in past.events if event.stream == target.stream]
        async for again in replay(past.log, past.views, target, decisions(events)):
            assert again.same, (again.recorded, again.now)


@pytest.fixture
async def web(tmp_path: Path, dsn: str) -> AsyncIterator[Web]:
    web = Web(tmp_path, dsn)
    async with web.clusters_running():
        web.ready_after(0.05)
        yield web


async def test_hooks_and_waves_go_one_after_the_other_and_again_for_a_new_revision(
    web: Web,
) -> None:
    def manifests(value: str) -> list[str]:
        return [
            config_map("first", value, argo_wave="-1"),
            deployment("web", f"web:{value}"),
            deployment("last", f"web:{value}", wave="2"),
            job("migrate", argo="PreSync"),
            job("schema", helm="pre-install,pre-upgrade", weight="-5"),
            job("beside", hook="sync", wave="1"),
            job("tell", argo="PostSync", argo_policy="HookSucceeded"),
            job("alarm", argo="SyncFail"),
            job("check", helm="test"),
        ]

    order = [
        "jobs/schema",
        "jobs/migrate",
        "configmaps/first",
        "deployments/web",
        "jobs/beside",
        "deployments/last",
        "jobs/tell",
    ]
    async with web.engine():
        commit = await web.begin(*manifests("1"))
        await web.synced(TARGET, commit)
        first = await web.applied()
        assert [stem(name) for name in first] == order
        plans = await web.events(type="CorrectionPlanned")
        stages = [plan["payload"]["stage"] for plan in plans]
        assert stages[:2] == ["pre-sync", "pre-sync"]
        assert [stage for stage in stages if stage.startswith("wave")] == [
            "wave -1",
            "wave 0",
            "wave 1",
            "wave 2",
        ]
        assert len({plan["payload"]["run"] for plan in plans}) == 1
        ended = await web.events(type="HookEnded")
        assert {event["payload"]["ref"]["name"].rpartition("-")[0] for event in ended} == {
            "schema",
            "migrate",
            "beside",
            "tell",
        }
        assert all(event["payload"]["succeeded"] for event in ended)
        assert len(await web.jobs()) == 3, "what HookSucceeded says is gone"

        shown = await web.call("GET", f"/v1/targets/default/{TARGET}/diff")
        assert (shown["same"], shown["differences"]) == (True, [])
        edit = ("patch", "configmap", "first", "--type=merge", "-p", '{"data": {"key": "9"}}')
        await web.kubectl("prod", "-n", "web", *edit)
        await web.until("DriftResolved")
        later = (await web.applied())[len(first) :]
        assert later == ["configmaps/first"], "what drifted is put right without hooks"

        commit = await web.commit(*manifests("2"))
        await web.synced(TARGET, commit)
        second = (await web.applied())[len(first) + 1 :]
        assert [stem(name) for name in second] == order
        assert not {name for name in second if name.startswith("jobs")} & set(first)
        names = {f"jobs/{name}" for name in await web.jobs()}
        assert len(names) == 3
        assert not names & set(first), "what earlier hooks left is gone"
        assert (await web.status(TARGET))["health"] == "healthy"
    await is_decided_the_same_again(web)


async def test_a_wave_waits_for_the_one_before_it_to_be_healthy(web: Web) -> None:
    web.ready_after(3600)
    async with web.engine():
        await web.begin(deployment("db"), config_map("app", wave="1"))
        status = await web.until_status(TARGET, "pending", "wave")
        assert "web/Deployment/db" in status["reason"]
        assert await web.applied() == ["deployments/db"]
        web.simulator.controllers.work_off()
        await web.synced(TARGET)
        assert await web.applied() == ["deployments/db", "configmaps/app"]


async def test_a_wave_that_is_not_healthy_in_time_stops_the_sync_and_runs_what_is_for_failures(
    web: Web,
) -> None:
    web.ready_after(3600)
    waves = {"timeout": "300ms"}
    manifests = deployment("db"), config_map("app", wave="1"), config_map("sorry", hook="sync-fail")
    async with web.engine():
        await web.begin(*manifests, sync={"waves": waves})
        status = await web.until_status(TARGET, "held", "wave-timed-out")
        assert "was not healthy after 300ms" in status["reason"]
        await web.until("HookEnded")
        assert await web.applied() == ["deployments/db", "configmaps/sorry"]
        await web.declare(web.application("web", sync={"waves": waves | {"onFailure": "continue"}}))
        await web.synced(TARGET)
        assert (await web.applied())[-1] == "configmaps/app"
    await is_decided_the_same_again(web)


async def test_a_hook_that_fails_stops_the_sync_and_runs_again_only_when_asked(web: Web) -> None:
    async with web.engine():
        await web.begin(
            job("migrate", by_hand=True, argo="PreSync"),
            job("alarm", argo="SyncFail"),
            config_map("app"),
        )
        await web.until_status(TARGET, "pending", "hook-running")
        (first,) = await web.jobs()
        await web.end(first, "Failed", "table is locked")
        status = await web.until_status(TARGET, "held", "hook-failed")
        assert "table is locked" in status["reason"]
        await web.until("HookEnded", 2)
        assert [stem(name) for name in await web.applied()] == ["jobs/migrate", "jobs/alarm"]

        await web.ask()
        await web.until_status(TARGET, "pending", "hook-running")
        second = next(name for name in await web.jobs() if name.startswith("migrate"))
        assert second != first
        await web.end(second, "Complete")
        await web.synced(TARGET)
        assert (await web.applied())[-1] == "configmaps/app"

        # What the last hook for failures has ended is looked at like any other.
        await web.commit(
            job("migrate", by_hand=True, argo="PreSync"),
            job("alarm", argo="SyncFail"),
            config_map("app", "2"),
        )
        await web.until_status(TARGET, "pending", "hook-running")
        third = next(name for name in await web.jobs() if name not in (first, second))
        await web.end(third, "Failed", "table is locked")
        await web.until("HookEnded", 5)
        await web.kubectl(
            *("prod", "-n", "web", "patch", "configmap", "app", "--type=merge"),
            *("-p", '{"data":{"key":"3"}}'),
        )
        await web.until("DriftDetected")
        await web.ask()
        await web.until_status(TARGET, "pending", "hook-running")
        fourth = next(
            name
            for name in await web.jobs()
            if name.startswith("migrate") and name not in (first, second, third)
        )
        await web.end(fourth, "Complete")
        await web.synced(TARGET)
        why = await web.call("GET", f"/v1/targets/default/{TARGET}/why")
        assert next(guard for guard in why["guards"] if guard["name"] == "order")["passes"]
    await is_decided_the_same_again(web)


async def test_an_application_waits_for_those_it_depends_on(web: Web) -> None:
    web.ready_after(3600)
    async with web.engine():
        await web.begin(config_map("app"))
        await web.synced(TARGET)
        web.repository.commit(
            {"deploy/0.yaml": config_map("app", "2"), "db/db.yaml": deployment("db")}
        )
        await web.declare(web.application("db", "db"), web.application("web", dependsOn=["db"]))
        status = await web.until_status(TARGET, "held", "dependency")
        assert "application db" in status["reason"]
        await web.until_status("db@prod", "synced")
        assert "configmaps/app" not in (await web.applied())[1:]
        web.simulator.controllers.work_off()
        with anyio.fail_after(30):
            await web.synced(TARGET)
        assert (await web.applied())[-1] == "configmaps/app"
    await is_decided_the_same_again(web)


async def test_applications_that_would_wait_for_each_other_are_refused(web: Web) -> None:
    async with web.engine():
        await web.begin(config_map("app"))
        await web.declare(web.application("a", dependsOn=["web"]))
        await web.declare(web.application("b", dependsOn=["a"]))
        body = [{"apiVersion": "trueup.dev/v1", **web.application("web", dependsOn=["b"])}]
        async with web.session.post("/v1/resources", json=body) as answer:
            assert answer.status == 422
            said = await answer.text()
        assert "web -> b -> a -> web" in said
        unknown = [{"apiVersion": "trueup.dev/v1", **web.application("web", dependsOn=["bb"])}]
        async with web.session.post("/v1/resources", json=unknown) as answer:
            assert answer.status == 422
            assert "there is no Application bb" in await answer.text()


async def test_a_sync_that_leaves_a_target_unwell_is_rolled_back_once_where_policy_says_so(
    web: Web,
) -> None:
    sync = {"healthTimeout": "400ms", "onDegraded": "rollback"}
    async with web.engine():
        good = await web.begin(deployment("web", "web:1"), sync=sync)
        await web.call("GET", f"/v1/wait?subject={TARGET}&for=healthy&timeout=30")
        web.ready_after(3600)
        bad = await web.commit(deployment("web", "web:2"))
        (late,) = await web.until("HealthTimedOut")
        assert late["payload"]["commit"] == bad
        assert late["payload"]["health"] == "progressing"
        (back,) = await web.until("RolledBack")
        assert back["payload"]["commit"] == good
        assert back["actor"] == "engine:reconciler"
        assert "after the sync to" in back["payload"]["reason"]
        await web.until_status(TARGET, "synced", "rolled-back")
        where = ("-n", "web", "get", "deploy", "web", "-o", "jsonpath={..image}")
        assert await web.kubectl("prod", *where) == "web:1"
        assert (await web.until("HealthTimedOut", 2))[-1]["payload"]["commit"] == good
        lift = {"reason": "the node is back"}
        await web.call("POST", f"/v1/targets/default/{TARGET}/lift-rollback", lift)
        (lifted,) = await web.until("RollbackLifted")
        assert lifted["payload"]["after_failure"], "who was told of the rollback is told of this"
        times = await web.until("HealthTimedOut", 3)
        assert times[-1]["payload"]["commit"] == bad
        assert len(await web.events(type="RolledBack")) == 1, "one revision is left once"
    await is_decided_the_same_again(web)
