"""Control repositories, in a running engine: commits to a real one change what is declared."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from pygit2.enums import FileMode

from engine.compose import serve
from engine.settings import load
from events.sealed import git_actor
from tests.repositories import Repository

pytestmark = pytest.mark.anyio
ADA, BOB = "ada@example.org", "bob@example.org"


class Platform:
    """A running engine, a control repository, and a client of the engine's API."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self.folder, self.dsn = folder, dsn
        self.git = Repository(folder / "git" / "platform.git")
        self.session: aiohttp.ClientSession

    @asynccontextmanager
    async def engine(self, **flags: object) -> AsyncIterator[None]:
        settings = load(
            {
                "database_url": self.dsn,
                "data_dir": self.folder / "data",
                "listen": "127.0.0.1:0",
                "repository_roots": (self.folder / "git",),
                "kubeconfig_roots": (self.folder / "kube",),
                "allow_unconfined": True,
                **flags,
            },
            environ={},
        )
        urls: list[str] = []
        started = anyio.Event()

        def ready(url: str) -> None:
            urls.append(url)
            started.set()

        async def run() -> None:
            await serve(settings, ready=ready)

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            with anyio.fail_after(30):
                await started.wait()
            token = (self.folder / "data" / "token").read_text().strip()
            headers = {"Authorization": f"Bearer {token}"}
            async with aiohttp.ClientSession(urls[0], headers=headers) as self.session:
                yield
            group.cancel_scope.cancel()

    async def call(
        self, method: str, path: str, body: object = None, *, status: int = 200
    ) -> dict[str, Any]:
        async with self.session.request(method, path, json=body) as answer:
            found: dict[str, Any] = await answer.json(content_type=None)
            assert answer.status == status, str(found)
            return found

    async def govern(self, name: str = "platform", **spec: object) -> None:
        await self.call("POST", "/v1/resources", self.repository(name, control=True, **spec))

    def repository(self, name: str = "platform", **spec: object) -> dict[str, Any]:
        return resource("Repository", name, {"url": self.git.url, "interval": "1s", **spec})

    def cluster(self, name: str = "dev") -> str:
        return cluster(name, self.folder / "kube" / "config")

    def itself(self) -> str:
        return f"""apiVersion: trueup.dev/v1
kind: Repository
metadata: {{name: platform}}
spec: {{url: "{self.git.url}", interval: 1s, control: true, controlPath: all}}
"""

    def repository_outside(self) -> str:
        return """apiVersion: trueup.dev/v1
kind: Repository
metadata: {name: passwords}
spec: {url: "file:///etc"}
"""

    async def events(self, kind: str, number: int = 1) -> list[dict[str, Any]]:
        with anyio.fail_after(30):
            while True:
                found = (await self.call("GET", f"/v1/events?limit=1000&type={kind}"))["items"]
                if len(found) >= number:
                    return list(found)
                await anyio.sleep(0.02)

    async def stands(self, commit: str, refused: str = "") -> None:
        """Wait until this commit's configuration is in force, and that one's refused."""
        with anyio.fail_after(30):
            while True:
                found = await self.call("GET", "/v1/repositories/default/platform")
                state = found["state"]["configuration"]
                if (state["commit"], state.get("refused", {}).get("commit", "")) == (
                    commit,
                    refused,
                ):
                    return
                await anyio.sleep(0.02)

    async def shown(self, collection: str, *names: str) -> None:
        """Wait until the views show just these: they follow the log, a little behind."""
        with anyio.fail_after(30):
            while True:
                found = await self.call("GET", f"/v1/{collection}")
                if [item["name"] for item in found["items"]] == list(names):
                    return
                await anyio.sleep(0.02)


def resource(kind: str, name: str, spec: Mapping[str, object]) -> dict[str, Any]:
    return {
        "apiVersion": "trueup.dev/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": dict(spec),
    }


def cluster(name: str, kubeconfig: Path, stage: str = "") -> str:
    labels = f"\n  labels: {{stage: {stage}}}" if stage else ""
    return f"""apiVersion: trueup.dev/v1
kind: Cluster
metadata:
  name: {name}{labels}
spec:
  kubeconfig: {kubeconfig}
  context: {name}
"""


@pytest.fixture
def platform(tmp_path: Path, dsn: str) -> Platform:
    for name in ("git", "kube"):
        (tmp_path / name).mkdir()
    return Platform(tmp_path, dsn)


async def test_commits_declare_change_and_withdraw_in_their_authors_name(
    platform: Platform,
) -> None:
    first = platform.git.commit({"clusters/dev.yaml": platform.cluster()}, email=ADA)
    async with platform.engine():
        await platform.govern()
        (applied,) = await platform.events("ConfigurationApplied")
        assert applied["payload"] == {
            "commit": first,
            "declared": applied["payload"]["declared"],
            "resources": 1,
            "changed": 1,
        }
        declared = (await platform.events("Declared", 2))[-1]
        assert declared["stream"] == "cluster/default/dev"
        assert declared["actor"] == git_actor(ADA.encode())
        assert declared["payload"]["file"] == "clusters/dev.yaml"
        seen = (await platform.events("CommitSeen"))[-1]
        assert declared["causation"] == seen["position"]

        second = platform.git.commit({"clusters/prod.yaml": platform.cluster("prod")}, email=BOB)
        await platform.events("ConfigurationApplied", 2)
        (withdrawn,) = await platform.events("Withdrawn")
        assert withdrawn["stream"] == "cluster/default/dev"
        assert withdrawn["actor"] == git_actor(BOB.encode())
        assert withdrawn["payload"]["commit"] == second
        await platform.shown("clusters", "prod")
        story = (await platform.call("GET", f"/v1/timeline?subject=commit/{second}"))["items"]
        told = {"CommitSeen", "RefMoved", "Declared", "Withdrawn", "ConfigurationApplied"}
        assert {event["type"] for event in story} >= told


async def test_a_bad_commit_leaves_the_last_good_one_in_force_and_says_so(
    platform: Platform,
) -> None:
    good = {"dev.yaml": platform.cluster()}
    first = platform.git.commit(good)
    async with platform.engine():
        await platform.govern()
        await platform.events("ConfigurationApplied")
        bad = platform.git.commit(
            {
                "prod.yaml": platform.cluster("prod"),
                "dev.yaml": platform.cluster().replace("context:", "kontext:"),
            }
        )
        (refused,) = await platform.events("ConfigurationRefused")
        (problem,) = refused["payload"]["problems"]
        assert (problem["file"], problem["line"]) == ("dev.yaml", 7)
        assert problem["field"] == "spec.kontext"
        assert "did you mean context?" in problem["hint"]
        await platform.shown("clusters", "dev")
        await platform.stands(first, refused=bad)

        second = platform.git.commit({**good, "prod.yaml": platform.cluster("prod")})
        await platform.events("ConfigurationApplied", 2)
        await platform.shown("clusters", "dev", "prod")
        await platform.stands(second)
    async with platform.engine():
        await platform.events("EngineStarted", 2)
        assert len(await platform.events("ConfigurationRefused")) == 1


async def test_what_it_declares_is_changed_there_and_nowhere_else(platform: Platform) -> None:
    platform.git.commit({"all/dev.yaml": platform.cluster()})
    async with platform.engine():
        await platform.govern(controlPath="all")
        await platform.events("ConfigurationApplied")
        other = resource("Cluster", "dev", {"kubeconfig": str(platform.folder / "kube" / "other")})
        for method, path, body in (
            ("POST", "/v1/resources", other),
            ("DELETE", "/v1/resources/cluster/default/dev", None),
        ):
            refused = await platform.call(method, path, body, status=409)
            assert refused["code"] == "control-owned"
            assert "default/platform" in refused["detail"]
            assert "all/dev.yaml" in refused["detail"]
        # Who lets go of the repository has what it declared in hand again.
        await platform.call("DELETE", "/v1/resources/repository/default/platform")
        await platform.shown("clusters", "dev")
        await platform.call("POST", "/v1/resources", other)


async def test_an_engine_is_started_with_its_control_repository(platform: Platform) -> None:
    platform.git.commit({"all/dev.yaml": platform.cluster()})
    async with platform.engine(control=platform.git.url, control_path="all"):
        await platform.events("ConfigurationApplied")
        await platform.shown("clusters", "dev")
        await platform.shown("repositories", "control")
    async with platform.engine(control="control"):
        await platform.events("EngineStarted", 2)
        declared = await platform.events("Declared", 2)
        assert [event["stream"] for event in declared] == [
            "repo/default/control",
            "cluster/default/dev",
        ]


@pytest.mark.parametrize(
    ("control", "said"),
    [("file:///etc/platform", "repository_roots"), ("platfrom", "no such repository")],
)
async def test_a_control_repository_that_cannot_be_is_refused_at_the_start(
    platform: Platform, control: str, said: str
) -> None:
    with pytest.raises(ExceptionGroup) as refused:
        async with platform.engine(control=control):
            pytest.fail("it started")
    assert said in str(refused.value.exceptions)


async def test_several_commits_at_once_are_told_apart_by_who_changed_what(
    platform: Platform,
) -> None:
    files = {f"{name}.yaml": platform.cluster(name) for name in ("a", "b", "c", "d")}
    platform.git.commit(files, email=ADA)
    async with platform.engine():
        await platform.govern()
        await platform.events("ConfigurationApplied")
        # Suspended looks: all of it arrives in one fetch.
        ref = "refs/heads/main"
        start = str(platform.git.git.references[ref].target)
        files["a.yaml"] = cluster("a", platform.folder / "kube" / "config", "prod")
        first = platform.git.commit(files, email=ADA, branch="next", parents=[start])
        del files["b.yaml"]
        second = platform.git.commit(files, email=BOB, branch="next", parents=[first])
        files["c.yaml"] = cluster("c", platform.folder / "kube" / "config", "prod")
        side = {f"{name}.yaml": platform.cluster(name) for name in ("a", "b", "c", "d")}
        side["c.yaml"] = files["c.yaml"]
        third = platform.git.commit(side, email="eve@example.org", branch="side", parents=[start])
        merged = platform.git.commit(
            files, email="merger@example.org", branch="next", parents=[second, third]
        )
        platform.git.move("main", merged)
        await platform.events("ConfigurationApplied", 2)
        told = {
            event["stream"]: (event["actor"], event["payload"]["commit"])
            for event in [
                *(await platform.events("Declared", 7))[5:],
                *await platform.events("Withdrawn"),
            ]
        }
    assert told == {
        "cluster/default/a": (git_actor(ADA.encode()), first),
        "cluster/default/b": (git_actor(BOB.encode()), second),
        "cluster/default/c": (git_actor(b"eve@example.org"), third),
    }


async def test_what_is_declared_by_hand_is_taken_over_only_in_the_same_words(
    platform: Platform,
) -> None:
    async with platform.engine():
        by_hand = {"kubeconfig": str(platform.folder / "kube" / "config"), "context": "dev"}
        await platform.call("POST", "/v1/resources", resource("Cluster", "dev", by_hand))
        other = {**by_hand, "context": "another"}
        await platform.call("POST", "/v1/resources", resource("Cluster", "prod", other))
        platform.git.commit({"dev.yaml": platform.cluster(), "prod.yaml": platform.cluster("prod")})
        await platform.govern()
        (refused,) = await platform.events("ConfigurationRefused")
        (problem,) = refused["payload"]["problems"]
        assert problem["file"] == "prod.yaml"
        assert "by hand (by user:" in problem["message"]
        # Out of the way with it, and the commit that was refused is taken after all.
        await platform.call("DELETE", "/v1/resources/cluster/default/prod")
        (applied,) = await platform.events("ConfigurationApplied")
        assert applied["payload"]["changed"] == 2
        assert applied["payload"]["after_refusal"] is True


async def test_nothing_is_withdrawn_by_accident(platform: Platform) -> None:
    whole = {"all/dev.yaml": platform.cluster(), "all/platform.yaml": platform.itself()}
    platform.git.commit(whole)
    async with platform.engine():
        await platform.govern(controlPath="all")
        await platform.events("ConfigurationApplied")
        for number, files in enumerate(
            (
                {"all/README": "gone"},
                {"elsewhere/dev.yaml": platform.cluster()},
                {"all/dev.yaml": platform.cluster()},
                {**whole, "all/link.yaml": (FileMode.LINK, "dev.yaml")},
                {**whole, "all/more.yaml": platform.repository_outside()},
            ),
            1,
        ):
            platform.git.commit(files)
            await platform.events("ConfigurationRefused", number)
        said = [
            "; ".join(problem["message"] for problem in event["payload"]["problems"])
            for event in await platform.events("ConfigurationRefused")
        ]
        assert "no resource" in said[0]
        assert "2 would be withdrawn" in said[1]
        assert "platform itself" in said[2]
        assert "symlink" in said[3]
        assert "repository_roots" in said[4]
        await platform.shown("clusters", "dev")
        await platform.shown("repositories", "platform")
        assert not (await platform.call("GET", "/v1/events?type=Withdrawn"))["items"]


async def test_an_application_leaves_its_objects_unless_it_said_otherwise(
    platform: Platform,
) -> None:
    def application(name: str, more: str = "") -> str:
        return f"""apiVersion: trueup.dev/v1
kind: Application
metadata: {{name: {name}}}
spec:
  source: {{repository: platform, path: deploy}}
  targets: {{clusters: [dev]}}
  {more}
"""

    whole = {
        "all/dev.yaml": platform.cluster(),
        "all/stays.yaml": application("stays"),
        "all/goes.yaml": application("goes", "onRemoval: cascade"),
    }
    platform.git.commit(whole)
    async with platform.engine():
        await platform.govern(controlPath="all")
        await platform.events("ConfigurationApplied")
        # What others name stays.
        missing = {key: value for key, value in whole.items() if key != "all/dev.yaml"}
        platform.git.commit(missing)
        (refused,) = await platform.events("ConfigurationRefused")
        problems = refused["payload"]["problems"]
        assert {problem["file"] for problem in problems} == {"all/stays.yaml", "all/goes.yaml"}
        assert "there is no Cluster dev" in problems[0]["message"]
        assert problems[0]["line"] == 6

        platform.git.commit({"all/dev.yaml": platform.cluster()})
        withdrawn = await platform.events("Withdrawn", 2)
        assert {event["stream"]: event["payload"].get("cascade") for event in withdrawn} == {
            "app/default/goes": True,
            "app/default/stays": None,
        }


async def test_one_that_declares_itself_can_be_let_go_of_by_hand(platform: Platform) -> None:
    application = """apiVersion: trueup.dev/v1
kind: Application
metadata: {name: shop}
spec: {source: {repository: platform, path: deploy}, targets: {clusters: [dev]}}
"""
    files = {
        "all/dev.yaml": platform.cluster(),
        "all/platform.yaml": platform.itself(),
        "all/shop.yaml": application,
    }
    platform.git.commit(files)
    async with platform.engine():
        await platform.govern(controlPath="all")
        await platform.events("ConfigurationApplied")
        delete = "/v1/resources/application/default/shop"
        assert (await platform.call("DELETE", delete, status=409))["code"] == "control-owned"
        # Named by an application that is out of reach, it cannot be deleted; but be let go of.
        whole = "/v1/resources/repository/default/platform"
        assert (await platform.call("DELETE", whole, status=409))["code"] == "in-use"
        await platform.call("POST", "/v1/resources", platform.repository(control=False))
        await platform.call("DELETE", delete)
        await platform.call("DELETE", whole)


async def test_a_projects_control_repository_stays_in_its_project(platform: Platform) -> None:
    platform.git.commit({"dev.yaml": platform.cluster()})
    async with platform.engine():
        repository = platform.repository(control=True)
        repository["metadata"]["project"] = "team"
        await platform.call("POST", "/v1/resources", repository)
        (refused,) = await platform.events("ConfigurationRefused")
        assert "project: team" in refused["payload"]["problems"][0]["hint"]
        ours = platform.cluster().replace("name: dev", "name: dev\n  project: team")
        platform.git.commit({"dev.yaml": ours})
        await platform.events("ConfigurationApplied")
        await platform.shown("clusters/team", "dev")
        await platform.shown("clusters/default")


async def test_applications_that_would_wait_for_each_other_are_refused(platform: Platform) -> None:
    def waiting(name: str, other: str) -> str:
        return f"""apiVersion: trueup.dev/v1
kind: Application
metadata: {{name: {name}}}
spec:
  source: {{repository: platform, path: deploy}}
  targets: {{selector: {{matchLabels: {{stage: prod}}}}}}
  dependsOn: [{other}]
"""

    platform.git.commit({"all/a.yaml": waiting("a", "b"), "all/b.yaml": waiting("b", "a")})
    async with platform.engine():
        await platform.govern(controlPath="all")
        (refused,) = await platform.events("ConfigurationRefused")
    problems = refused["payload"]["problems"]
    assert [problem["file"] for problem in problems] == ["all/a.yaml", "all/b.yaml"]
    assert {problem["field"] for problem in problems} == {"spec.dependsOn"}
    assert "a -> b -> a" in problems[0]["message"]
