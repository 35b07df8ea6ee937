"""Targets: how they stand, what differs, what a person asks of them, and waiting for it."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from engine.http.api import Limits
from events.catalog import (
    CorrectionFailed,
    CorrectionPlanned,
    Facts,
    KindReadable,
    KindUnreadable,
    ReconcileHeld,
    RefMoved,
)
from events.codec import fact_of
from events.event import START, StreamName
from tests.serving import OTHER_SHA, SHA, Bench, bench

pytestmark = pytest.mark.anyio
TARGET = "/v1/targets/default/shop@dev"


async def test_targets_are_listed_with_how_they_stand(api: Bench) -> None:
    await api.declare_shop(["dev", "prod"])
    await api.roll_out(["dev", "prod"])
    items = (await api.call("GET", "/v1/targets/default", status=200))["items"]
    assert [(item["target"], item["sync"], item["revision"]) for item in items] == [
        ("shop@dev", "synced", SHA),
        ("shop@prod", "synced", SHA),
    ]
    one = await api.call("GET", "/v1/targets/default?cluster=prod", status=200)
    assert [item["target"] for item in one["items"]] == ["shop@prod"]
    first = await api.call("GET", "/v1/targets?limit=1", status=200)
    rest = await api.call("GET", f"/v1/targets?limit=1&after={first['next']}", status=200)
    assert [item["target"] for item in rest["items"]] == ["shop@prod"]
    await api.call("GET", "/v1/targets?cluster=prod", status=400)


async def test_a_target_is_shown_with_all_that_is_known(api: Bench) -> None:
    await api.declare_shop()
    await api.roll_out()
    shown = await api.call("GET", TARGET, status=200)
    assert shown["status"]["sync"] == "synced"
    assert shown["target"]["synced"]["commit"] == SHA
    assert shown["target"]["synced"]["at"].endswith("Z")
    missing = await api.call("GET", "/v1/targets/default/shop@dve", status=404)
    assert "did you mean dev?" in missing["detail"]
    await api.call("GET", "/v1/targets/default/shop", status=400)


async def test_a_diff_names_what_is_missing_and_what_could_not_be_seen(api: Bench) -> None:
    await api.declare_shop()
    await api.roll_out()
    same = await api.call("GET", f"{TARGET}/diff", status=200)
    assert (same["same"], same["differences"], same["unknown"]) == (True, [], [])
    await api.render("ConfigMap", "Secret", "Service")
    await api.tell(
        "cluster/default/dev",
        KindReadable("v1", "ConfigMap", True),
        KindUnreadable("v1", "Secret", "forbidden", "may not list"),
    )
    diff = await api.call("GET", f"{TARGET}/diff", status=200)
    assert diff["same"] is False
    (missing,) = diff["differences"]
    assert (missing["kind"], missing["ref"]["kind"]) == ("missing", "ConfigMap")
    assert missing["ref"]["namespace"] == "default"
    assert [(item["kind"], item["code"]) for item in diff["unknown"]] == [
        ("v1/Secret", "forbidden"),
        ("v1/Service", "not-observed"),
    ]


async def test_a_sync_is_asked_for_with_a_reason_of_each_target(api: Bench) -> None:
    await api.declare_shop(["dev", "prod"])
    none_yet = await api.call(
        "POST", "/v1/applications/default/shop/sync", {"reason": "x"}, status=409
    )
    assert none_yet["code"] == "no-targets"
    await api.roll_out(["dev", "prod"])
    path = "/v1/applications/default/shop/sync"
    await api.call("POST", path, {}, status=400)
    await api.call("POST", path, {"reason": " "}, status=400)
    await api.call("POST", path, {"reason": "two\nlines"}, status=400)
    await api.call("POST", path, {"reason": "x", "revision": "main"}, status=400)
    answer = await api.call("POST", path, {"reason": "a hotfix"}, status=202)
    assert answer["targets"] == ["shop@dev", "shop@prod"]
    for cluster in ("dev", "prod"):
        events = await api.log.read(START, stream=StreamName(f"target/default/shop@{cluster}"))
        assert events[-1].type == "SyncRequested"
        assert events[-1].actor == "user:admin"
    listed = (await api.call("GET", "/v1/targets"))["items"]
    assert {item["sync"] for item in listed} == {"pending"}


async def test_suspending_says_who_and_why_and_resuming_lifts_it(api: Bench) -> None:
    await api.declare_shop()
    await api.roll_out()
    await api.call("POST", f"{TARGET}/resume", {"reason": "x"}, status=409)
    first = await api.call("POST", f"{TARGET}/suspend", {"reason": "a freeze"}, status=200)
    assert first["changed"] is True
    shown = (await api.call("GET", TARGET))["status"]
    assert shown["sync"] == "suspended"
    assert "user:admin" in shown["reason"]
    assert "a freeze" in shown["reason"]
    again = await api.call("POST", f"{TARGET}/suspend", {"reason": "more"}, status=200)
    assert (again["changed"], again["position"]) == (False, first["position"])
    await api.call("POST", f"{TARGET}/resume", {"reason": "over"}, status=200)
    assert (await api.call("GET", TARGET))["status"]["sync"] == "synced"


async def test_a_target_suspended_through_its_application_is_resumed_there(api: Bench) -> None:
    await api.declare_shop()
    await api.roll_out()
    app = "/v1/applications/default/shop"
    await api.call("POST", f"{app}/suspend", {"reason": "a freeze"}, status=200)
    problem = await api.call("POST", f"{TARGET}/resume", {"reason": "x"}, status=409)
    assert problem["code"] == "suspended-above"
    sync = await api.call("POST", f"{TARGET}/sync", {"reason": "x"}, status=202)
    assert sync["suspended"] == "a freeze"
    await api.call("POST", f"{app}/resume", {"reason": "over"}, status=200)


async def wait(api: Bench, subject: str, *, status: int = 200, **query: Any) -> Any:
    text = "&".join(f"{name.rstrip('_')}={value}" for name, value in query.items())
    return await api.call("GET", f"/v1/wait?subject={subject}&{text}", status=status)


async def test_waiting_answers_at_once_where_nothing_is_to_be_waited_for(api: Bench) -> None:
    await api.declare_shop()
    await api.roll_out()
    answer = await wait(api, "shop@dev", for_="healthy", revision=SHA[:8])
    assert answer["targets"][0]["revision"] == SHA
    await wait(api, "shop")


async def test_waiting_after_a_sync_does_not_take_what_was_before_it(api: Bench) -> None:
    await api.declare_shop()
    await api.roll_out()
    answer = await api.call("POST", f"{TARGET}/sync", {"reason": "now"}, status=202)
    after = answer["position"]
    problem = await wait(api, "shop@dev", status=409, after=after, timeout="0.05")
    assert problem["code"] == "not-satisfied"
    assert "pending" in problem["detail"]
    answers: list[Any] = []

    async def ask() -> None:
        answers.append(await wait(api, "shop@dev", after=after, timeout="20s"))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await api.answer_sync(after)
    assert answers[0]["targets"][0]["sync"] == "synced"


async def test_waiting_never_answers_for_the_old_revision(api: Bench) -> None:
    await api.declare_shop()
    await api.roll_out()
    moved = RefMoved("refs/heads/main", OTHER_SHA, SHA)
    await api.tell("repo/default/shop", moved)
    problem = await wait(api, "shop@dev", status=409, timeout="0.05")
    assert problem["targets"][0]["sync"] == "pending"
    problem = await wait(api, "shop@dev", status=409, revision=OTHER_SHA[:10], timeout="0.05")
    await api.roll_out(commit=OTHER_SHA)
    answer = await wait(api, "shop@dev", revision=OTHER_SHA[:10], timeout="5s")
    assert answer["targets"][0]["revision"] == OTHER_SHA


async def test_waiting_for_an_application_waits_for_clusters_not_assigned_yet(api: Bench) -> None:
    await api.declare_shop(["dev", "prod"])
    await api.roll_out(["dev"])
    problem = await wait(api, "shop", status=409, timeout="0.05")
    states = {item["target"]: item["code"] for item in problem["targets"]}
    assert states == {"shop@dev": "", "shop@prod": "assigning"}
    await wait(api, "shop@dev")
    await api.roll_out(["dev", "prod"])
    await wait(api, "shop", timeout="5s")


async def test_waiting_in_vain_says_why(api: Bench) -> None:
    await api.declare_shop()
    await api.roll_out()
    held = ReconcileHeld("not-ours", "ConfigMap/web belongs to somebody else")
    await api.tell("target/default/shop@dev", held)
    problem = await wait(api, "shop@dev", status=409, timeout="0.05")
    assert problem["detail"] == "shop@dev is held: ConfigMap/web belongs to somebody else"
    plan = await api.tell("target/default/shop@dev", CorrectionPlanned(SHA, Facts(1), (), "commit"))
    failed = CorrectionFailed(plan, (), "forbidden", "may not patch deployments", 1)
    await api.tell("target/default/shop@dev", failed)
    problem = await wait(api, "shop@dev", status=409, timeout="0.05")
    assert problem["detail"] == "shop@dev is failed: may not patch deployments"


async def test_waiting_for_what_is_not_there_is_no_wait(api: Bench) -> None:
    await api.declare_shop()
    missing = await wait(api, "shpo@dev", status=404)
    assert "did you mean shop?" in missing["detail"]
    await wait(api, "", status=400)
    await wait(api, "shop", status=400, for_="happy")
    await wait(api, "shop", status=400, revision="main")
    await wait(api, "shop", status=400, timeout="1h")


async def test_a_wait_ends_when_its_caller_goes(api: Bench) -> None:
    await api.declare_shop()
    with anyio.move_on_after(0.2):
        await wait(api, "shop@dev", timeout="30s")
    assert (await api.call("GET", "/v1/version"))["version"]


async def test_a_write_stands_though_the_views_are_behind(tmp_path: Any, monkeypatch: Any) -> None:
    async with bench(tmp_path, Limits(settle=0.01)) as api:
        await api.declare_shop()
        await api.roll_out()

        async def behind(*_: object) -> None:
            raise TimeoutError

        monkeypatch.setattr(api.views, "reached", behind)
        answer = await api.call("POST", f"{TARGET}/sync", {"reason": "x"}, status=202)
        (event,) = await api.log.read_at([answer["position"]])
        assert fact_of(event).reason == "x"  # type: ignore[attr-defined]
