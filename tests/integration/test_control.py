"""Control repositories, in a running engine: commits to a real one change what is declared."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from engine.compose import serve
from engine.settings import load
from engine.sources.history import author_of
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

    async def events(self, kind: str, number: int = 1) -> list[dict[str, Any]]:
        with anyio.fail_after(30):
            while True:
                found = (await self.call("GET", f"/v1/events?limit=1000&type={kind}"))["items"]
                if len(found) >= number:
                    return list(found)
                await anyio.sleep(0.02)

    async def names(self, collection: str) -> list[str]:
        found = await self.call("GET", f"/v1/{collection}")
        return [item["name"] for item in found["items"]]


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
        assert declared["actor"] == author_of(ADA.encode())
        assert declared["payload"]["file"] == "clusters/dev.yaml"
        moved = (await platform.events("RefMoved"))[-1]
        assert declared["causation"] == moved["position"]

        second = platform.git.commit({"clusters/prod.yaml": platform.cluster("prod")}, email=BOB)
        await platform.events("ConfigurationApplied", 2)
        (withdrawn,) = await platform.events("Withdrawn")
        assert withdrawn["stream"] == "cluster/default/dev"
        assert withdrawn["actor"] == author_of(BOB.encode())
        assert withdrawn["payload"]["commit"] == second
        assert await platform.names("clusters") == ["prod"]
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
        assert await platform.names("clusters") == ["dev"]
        state = (await platform.call("GET", "/v1/repositories/default/platform"))["state"]
        assert state["configuration"]["commit"] == first
        assert state["configuration"]["refused"]["commit"] == bad

        platform.git.commit({**good, "prod.yaml": platform.cluster("prod")})
        await platform.events("ConfigurationApplied", 2)
        assert await platform.names("clusters") == ["dev", "prod"]
        state = (await platform.call("GET", "/v1/repositories/default/platform"))["state"]
        assert "refused" not in state["configuration"]
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
        assert await platform.names("clusters") == ["dev"]
        await platform.call("POST", "/v1/resources", other)


async def test_an_engine_is_started_with_its_control_repository(platform: Platform) -> None:
    platform.git.commit({"all/dev.yaml": platform.cluster()})
    async with platform.engine(control=platform.git.url, control_path="all"):
        await platform.events("ConfigurationApplied")
        assert await platform.names("clusters") == ["dev"]
        assert await platform.names("repositories") == ["control"]
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
