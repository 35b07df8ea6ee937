"""Taking over what kubectl, Helm, Argo CD and Flux made, without a restart of a single pod."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.integration.test_drift import SETTINGS, TARGET, Web, deployment
from tests.repositories import Repository

pytestmark = pytest.mark.anyio
THEIRS = SETTINGS.replace("colour: blue", "colour: green, old: gone")
TOOLS = {
    "kubectl apply": ("apply", ()),
    "kubectl create": ("create", ("--save-config=false",)),
    "kubectl apply --server-side": ("apply", ("--server-side",)),
    "Helm 3": ("create", ("--field-manager=helm",)),
    "Helm 4": ("apply", ("--server-side", "--field-manager=helm")),
    "Argo CD": ("apply", ("--server-side", "--field-manager=argocd-controller")),
    "Flux, kustomize-controller": (
        "apply",
        ("--server-side", "--field-manager=kustomize-controller"),
    ),
    "Flux, helm-controller": ("create", ("--field-manager=helm-controller",)),
}


class Taken(Web):
    async def given(self, verb: str, *words: str) -> None:
        """Have another tool make what Git declares, in other words."""
        theirs = self.folder / "theirs.yaml"
        theirs.write_text(f"{deployment(replicas=3)}---\n{THEIRS}")
        await self.kubectl("prod", verb, "-f", str(theirs), *words)

    async def live(self, what: str) -> dict[str, Any]:
        shown = await self.kubectl("prod", "get", *what.split(), "--show-managed-fields", "-ojson")
        return dict(orjson.loads(shown))

    async def declared(self) -> None:
        self.repository = Repository(self.git / "web")
        self.commit()
        await self.declare(
            {
                "kind": "Repository",
                "metadata": {"name": "web"},
                "spec": {"url": self.repository.url, "interval": "1s"},
            },
            self.cluster("prod"),
        )
        await self.application()


@pytest.fixture
async def web(tmp_path: Path, dsn: str) -> AsyncIterator[Taken]:
    line = Taken(tmp_path, dsn)
    async with line.clusters_running(), line.engine():
        yield line
        await line.decided_the_same()


@pytest.mark.parametrize("tool", TOOLS)
async def test_what_a_tool_made_becomes_ours_and_no_pod_is_restarted(web: Taken, tool: str) -> None:
    verb, words = TOOLS[tool]
    await web.given(verb, *words)
    before = await web.live("deploy web")
    await web.declared()
    await web.until("CorrectionFailed")
    status = await web.until_status("web@prod", "failed", "conflict")
    assert "owns" in status["reason"]
    await web.call("POST", f"{TARGET}/adopt", {"reason": f"moved from {tool}"})
    await web.synced("web@prod")
    after = await web.live("deploy web")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["spec"]["template"] == before["spec"]["template"]
    assert after["spec"]["replicas"] == 2
    managers = {
        entry["manager"]
        for entry in after["metadata"]["managedFields"]
        if not entry.get("subresource")
    }
    assert managers <= {"trueup", "kube-controller-manager"}
    settings = await web.live("configmap settings")
    assert settings["data"] == {"colour": "blue"}, "what they had and Git does not say is gone"
    assert not any("last-applied" in name for name in settings["metadata"]["annotations"])
    assert await web.differences() == []
    # From now on it is as if it had always been ours.
    assert (await web.call("GET", TARGET))["target"]["adoption"] is None
    await web.patch("configmap settings", {"data": {"colour": "red"}}, "eve")
    await web.until("DriftResolved")


async def test_an_object_that_two_applications_declare_is_a_conflict_that_names_both(
    web: Taken,
) -> None:
    await web.declared()
    await web.synced("web@prod")
    second = {"source": {"repository": "web"}, "targets": {"clusters": ["prod"]}}
    await web.declare({"kind": "Application", "metadata": {"name": "other"}, "spec": second})
    await web.until("CorrectionFailed")
    status = await web.until_status("other@prod", "failed", "conflict")
    assert "default/web" in status["reason"]
    assert "default/other" in status["reason"]
    url = "/v1/targets/default/other@prod/adopt"
    async with web.session.post(url, json={"reason": "mine"}) as answer:
        assert (await answer.json())["code"] == "claimed"
    assert (await web.status("web@prod"))["sync"] == "synced"
    # Once the first no longer claims it, it can be had.
    await web.call("DELETE", "/v1/resources/application/default/web")
    await web.until("TargetUnassigned")
    await web.call("POST", url, {"reason": "moved"})
    await web.synced("other@prod")
    live = await web.live("configmap settings")
    assert live["metadata"]["annotations"]["trueup.dev/owner"].endswith("/default/other")


async def test_what_git_declares_just_as_it_is_can_be_taken_over_later(web: Taken) -> None:
    theirs = web.folder / "theirs.yaml"
    theirs.write_text(f"{deployment()}---\n{SETTINGS}")
    await web.kubectl("prod", "apply", "-f", str(theirs))
    await web.declared()
    await web.synced("web@prod")
    assert "kubectl-client-side-apply" in str(await web.live("deploy web"))
    await web.call("POST", f"{TARGET}/adopt", {"reason": "all of it"})
    await web.synced("web@prod")
    assert "kubectl-client-side-apply" not in str(await web.live("deploy web"))


async def test_of_two_applications_that_make_one_object_at_once_one_has_it(web: Taken) -> None:
    web.repository = Repository(web.git / "web")
    web.commit()
    spec = {"source": {"repository": "web"}, "targets": {"clusters": ["prod"]}}
    await web.declare(
        {
            "kind": "Repository",
            "metadata": {"name": "web"},
            "spec": {"url": web.repository.url, "interval": "1s"},
        },
        web.cluster("prod"),
        *(
            {"kind": "Application", "metadata": {"name": name}, "spec": spec}
            for name in ("web", "other")
        ),
    )
    await web.until("CorrectionFailed")
    owners = set()
    for what in ("deploy web", "configmap settings"):
        live = await web.live(what)
        owners.add(live["metadata"]["annotations"]["trueup.dev/owner"].rpartition("/")[2])
    failed = {event["stream"] for event in await web.events(type="CorrectionFailed")}
    writes = [write for write in await web.written("prod") if write["resource"] == "configmaps"]
    assert owners <= {"web", "other"}
    # Whoever came second never wrote.
    mine = [write for write in writes if write["name"] == "settings"]
    assert len(mine) == 1, mine
    assert failed <= {f"target/default/{name}@prod" for name in ("web", "other")}
