"""How drift is met: ignored, adopted, reported, accepted, after a while; and whoever fights us."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from projections.drift import WAR_ROUNDS
from tests.line import Line
from tests.repositories import Repository

pytestmark = pytest.mark.anyio
TARGET = "/v1/targets/default/web@prod"
SETTINGS = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {colour: blue}\n"


def micros(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)


def deployment(image: str = "web:1", replicas: int | None = 2) -> str:
    named = "" if replicas is None else f"  replicas: {replicas}\n"
    return (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n"
        f"{named}  selector: {{matchLabels: {{app: web}}}}\n  template:\n"
        "    metadata: {labels: {app: web}}\n    spec:\n      containers:\n"
        f"      - {{name: web, image: '{image}'}}\n"
    )


class Web(Line):
    """A line with one application of a Deployment and a ConfigMap."""

    def __init__(self, folder: Path, dsn: str) -> None:
        super().__init__(folder, dsn, ["prod"])

    def commit(self, web: str = "", settings: str = SETTINGS) -> str:
        return self.repository.commit({"web.yaml": web or deployment(), "settings.yaml": settings})

    async def begin(self, **spec: Any) -> None:
        """Commit, declare all, and wait until it is rolled out."""
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
        await self.application(**spec)
        await self.synced("web@prod")

    async def application(self, **spec: Any) -> None:
        source = {"repository": "web"}
        whole = {"source": source, "targets": {"clusters": ["prod"]}, **spec}
        await self.declare({"kind": "Application", "metadata": {"name": "web"}, "spec": whole})

    async def patch(self, what: str, body: Any, manager: str, *words: str) -> None:
        text = orjson.dumps(body).decode()
        flags = ("--type=merge", f"--field-manager={manager}", *words)
        await self.kubectl("prod", "patch", *what.split(), *flags, "-p", text)

    async def scale(self, replicas: int) -> None:
        """Scale as a HorizontalPodAutoscaler does."""
        body = {"spec": {"replicas": replicas}}
        await self.patch("deploy web", body, "kube-controller-manager", "--subresource=scale")

    async def value(self, what: str, path: str) -> str:
        return await self.kubectl("prod", "get", *what.split(), "-o", f"jsonpath={{{path}}}")

    async def seen(self, manager: str) -> None:
        """Wait until what a manager did has been observed."""
        with anyio.fail_after(30):
            while not any(  # noqa: ASYNC110
                item.get("manager") == manager for item in await self.differences()
            ):
                await anyio.sleep(0.02)

    async def decided_the_same(self) -> None:
        """Make every decision again on the facts that it saw: each comes out as it did."""
        after: int | None = 0
        while after is not None:
            page = await self.call("GET", f"{TARGET}/replay?after={after}")
            differing = [item for item in page["items"] if item["same"] is not True]
            assert differing == []
            after = page["next"]

    async def differences(self) -> list[dict[str, Any]]:
        return list((await self.call("GET", f"{TARGET}/diff"))["differences"])


@pytest.fixture
async def web(tmp_path: Path, dsn: str) -> AsyncIterator[Web]:
    line = Web(tmp_path, dsn)
    async with line.clusters_running(), line.engine():
        yield line
        await line.decided_the_same()


async def test_replicas_that_an_autoscaler_sets_are_left_also_by_the_next_commit(web: Web) -> None:
    await web.begin()
    await web.scale(5)
    await web.seen("kube-controller-manager")
    (shown,) = await web.differences()
    assert (shown["kind"], shown["before"], shown["after"]) == ("ignored", 2, 5)
    await web.synced("web@prod", web.commit(deployment("web:2")))
    assert await web.value("deploy web", ".spec.replicas") == "5"
    assert await web.value("deploy web", "..image") == "web:2"
    # Git stops naming them, as one does who has an autoscaler: they stay.
    await web.synced("web@prod", web.commit(deployment("web:3", replicas=None)))
    assert await web.value("deploy web", ".spec.replicas") == "5"
    # Scaled by a person, they are drift.
    assert await web.events(type="DriftDetected") == []


async def test_an_ignored_field_is_shown_and_neither_corrected_nor_overwritten(web: Web) -> None:
    await web.begin(
        ignoreDifferences=[
            {"kind": "ConfigMap", "paths": [".data.colour"]},
            {"group": "apps", "kind": "Deployment", "managers": ["nightly"]},
        ]
    )
    await web.patch("configmap settings", {"data": {"colour": "green"}}, "ada")
    await web.patch("deploy web", {"spec": {"replicas": 4}}, "nightly")
    await web.seen("nightly")
    await web.seen("ada")
    assert {item["kind"] for item in await web.differences()} == {"ignored"}
    more = SETTINGS.replace("{colour: blue}", "{colour: red, size: big}")
    await web.synced("web@prod", web.commit(deployment("web:2"), more))
    assert await web.value("configmap settings", ".data.colour") == "green"
    assert await web.value("configmap settings", ".data.size") == "big"
    assert await web.value("deploy web", ".spec.replicas") == "4"
    assert await web.events(type="DriftDetected") == []
    shown = {item["path"]: item for item in await web.differences()}
    assert (shown[".data.colour"]["before"], shown[".data.colour"]["after"]) == ("red", "green")
    # What is ignored no longer is drift again, and put right.
    await web.application()
    await web.until("CorrectionApplied", 3)
    assert await web.value("configmap settings", ".data.colour") == "red"
    assert await web.value("deploy web", ".spec.replicas") == "2"


async def test_foreign_fields_are_removed_but_for_those_that_are_welcome(web: Web) -> None:
    await web.begin(
        foreignFields={
            "policy": "remove",
            "allow": [{"paths": [".metadata.annotations.team"]}, {"managers": ["mesh"]}],
        }
    )
    await web.patch("configmap settings", {"metadata": {"annotations": {"team": "a"}}}, "ada")
    await web.patch("configmap settings", {"data": {"mesh": "on"}}, "mesh")
    await web.patch("configmap settings", {"data": {"size": "big"}}, "eve")
    (ended,) = await web.until("DriftResolved")
    assert ended["payload"]["how"] == "corrected"
    data = orjson.loads(await web.value("configmap settings", ".data"))
    assert data == {"colour": "blue", "mesh": "on"}
    assert await web.value("configmap settings", ".metadata.annotations.team") == "a"
    (found,) = await web.events(type="DriftDetected")
    (difference,) = found["payload"]["differences"]
    assert (difference["path"], difference["manager"]) == (".data.size", "eve")
    plan = (await web.events(type="CorrectionPlanned"))[-1]["payload"]
    assert [action["verb"] for action in plan["actions"]] == ["remove-fields"]
    await web.synced("web@prod")


async def test_foreign_fields_that_are_reported_are_a_case_and_stay(web: Web) -> None:
    await web.begin(foreignFields={"policy": "report"})
    await web.patch("configmap settings", {"data": {"size": "big"}}, "eve")
    await web.until("DriftDetected")
    status = await web.until_status("web@prod", "out-of-sync")
    assert status["differences"] == 1
    assert await web.value("configmap settings", ".data.size") == "big"
    await web.call("POST", f"{TARGET}/accept", {"reason": "eve may"})
    status = await web.until_status("web@prod", "synced", "accepted")
    assert "eve may" in status["reason"]


async def test_adopted_drift_holds_until_git_changes_the_object(web: Web) -> None:
    await web.begin(drift={"rules": [{"kind": "ConfigMap", "policy": "adopt"}]})
    await web.patch("configmap settings", {"data": {"colour": "green"}}, "ada")
    (ended,) = await web.until("DriftResolved")
    assert ended["payload"]["how"] == "adopted"
    assert await web.value("configmap settings", ".data.colour") == "green"
    await web.synced("web@prod")
    # Another kind is corrected, and the adopted value stays as long as Git says nothing new.
    await web.synced("web@prod", web.commit(deployment("web:2")))
    assert await web.value("configmap settings", ".data.colour") == "green"
    await web.synced("web@prod", web.commit(settings=SETTINGS.replace("blue", "red")))
    assert await web.value("configmap settings", ".data.colour") == "red"


async def test_reported_drift_is_left_until_a_person_asks_for_a_sync(web: Web) -> None:
    await web.begin(drift={"policy": "report"})
    await web.patch("configmap settings", {"data": {"colour": "green"}}, "ada")
    held = await web.until_status("web@prod", "held", "drift-reported")
    assert "ConfigMap/settings" in held["reason"]
    await web.call("POST", f"{TARGET}/sync", {"reason": "put it right"})
    await web.synced("web@prod")
    assert await web.value("configmap settings", ".data.colour") == "blue"


async def test_drift_is_corrected_after_its_time_of_grace(web: Web) -> None:
    await web.begin(drift={"after": "2s"})
    await web.patch("configmap settings", {"data": {"colour": "green"}}, "ada")
    (held,) = await web.until("ReconcileHeld")
    assert held["payload"]["code"] == "drift-grace"
    (ended,) = await web.until("DriftResolved")
    (opened,) = await web.events(type="DriftDetected")
    assert ended["payload"]["how"] == "corrected"
    began, due = opened["occurredAt"], held["payload"]["until"]
    planned = (await web.events(type="CorrectionPlanned"))[-1]
    assert planned["payload"]["cause"] == "drift"
    assert micros(began) + 2_000_000 == due <= micros(planned["occurredAt"])
    assert await web.value("configmap settings", ".data.colour") == "blue"


async def test_a_target_is_compared_with_an_earlier_commit_and_an_earlier_time(web: Web) -> None:
    await web.begin()
    first = str(web.repository.git.references["refs/heads/main"].target)
    (applied,) = await web.until("CorrectionApplied")
    await web.synced("web@prod", web.commit(deployment("web:2")))
    answer = await web.call("GET", f"{TARGET}/diff?against={first[:8]}")
    (found,) = answer["differences"]
    assert (found["before"], found["after"], answer["same"]) == ("web:1", "web:2", False)
    assert found["path"] == '.spec.template.spec.containers[name="web"].image'
    answer = await web.call("GET", f"{TARGET}/diff?against={applied['position']}")
    assert ("web:1", "web:2") in {(d.get("before"), d.get("after")) for d in answer["differences"]}
    assert (await web.call("GET", f"{TARGET}/diff?against=live"))["same"]


async def test_cases_are_listed_with_who_how_long_and_what_was_done(web: Web) -> None:
    await web.begin(drift={"rules": [{"kind": "Deployment", "policy": "report"}]})
    await web.patch("configmap settings", {"data": {"colour": "green"}}, "ada")
    await web.until("DriftResolved")
    await web.patch("deploy web", {"spec": {"replicas": 7}}, "eve")
    await web.until_status("web@prod", "held", "drift-reported")
    query = "application=web&cluster=prod"
    first, second = (await web.call("GET", f"/v1/drift/default?{query}"))["items"]
    assert (first["how"], first["managers"], first["corrections"]) == ("corrected", ["ada"], 1)
    assert first["endedAt"] > first["openedAt"]
    assert (second["ended"], second["managers"], second["corrections"]) == (0, ["eve"], 0)
    (open_,) = (await web.call("GET", "/v1/drift?state=open"))["items"]
    assert (open_["case"], open_["target"]) == (second["case"], "web@prod")
    path = f"{TARGET}/accept"
    body = {"reason": "sale", "case": second["case"], "duration": "2s"}
    await web.call("POST", path, body)
    await web.until_status("web@prod", "synced", "accepted")
    # Its time runs out, and it is drift again.
    await web.until_status("web@prod", "held", "drift-reported")
    cases = (await web.call("GET", f"/v1/drift/default?{query}"))["items"]
    assert [case["how"] for case in cases] == ["corrected", "accepted", ""]
    assert (cases[1]["reason"], cases[1]["acceptedBy"]) == ("sale", "user:admin")
    async with web.session.post(path, json=body) as answer:
        assert (await answer.json())["code"] == "no-such-case"


async def test_who_overwrites_each_correction_is_named_waited_for_and_let_in_again(
    web: Web,
) -> None:
    await web.begin()
    for turn in range(1, WAR_ROUNDS + 1):
        await web.patch("configmap settings", {"data": {"colour": f"no {turn}"}}, "rival")
        await web.until("DriftResolved", turn)
    await web.patch("configmap settings", {"data": {"colour": "never"}}, "rival")
    held = await web.until_status("web@prod", "held", "war")
    assert held["reason"].startswith("rival keeps overwriting .data.colour of default/ConfigMap")
    assert await web.value("configmap settings", ".data.colour") == "never"
    # Meanwhile everything else goes on, and a person's word ends the wait.
    await web.kubectl("prod", "delete", "deploy", "web")
    await web.until("CorrectionApplied", WAR_ROUNDS + 2)
    await web.call("POST", f"{TARGET}/sync", {"reason": "the rival is stopped"})
    await web.synced("web@prod")
    assert await web.value("configmap settings", ".data.colour") == "blue"
