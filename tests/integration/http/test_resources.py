"""Declaring, showing and taking back resources."""

from __future__ import annotations

from typing import Any

import pytest

from engine.resources.parse import check_values
from engine.resources.record import declared
from events.codec import fact_of
from events.event import START, StreamName
from tests.serving import Bench

pytestmark = pytest.mark.anyio


async def post(api: Bench, resources: Any, status: int = 200, **headers: str) -> Any:
    return await api.call("POST", "/v1/resources", resources, status=status, headers=headers)


def places(problem: Any) -> list[tuple[str, str]]:
    return [(error["file"], error["field"]) for error in problem["errors"]]


async def test_apply_creates_configures_and_leaves_what_is_the_same(api: Bench) -> None:
    all_three = [api.application(), api.cluster(), api.repository()]
    created = await post(api, all_three)
    assert [item["result"] for item in created["results"]] == ["created"] * 3
    assert created["position"] == await api.log.head()
    before = await api.log.head()
    again = await post(api, all_three)
    assert [item["result"] for item in again["results"]] == ["unchanged"] * 3
    assert again["position"] == created["position"]
    assert await api.log.head() == before
    changed = await post(api, [api.repository(interval="5m"), api.cluster()])
    assert [item["result"] for item in changed["results"]] == ["configured", "unchanged"]
    assert changed["position"] == before + 1


async def test_apply_records_who_declared_what(api: Bench) -> None:
    await post(api, [api.cluster("dev", tier="test")])
    (event,) = await api.log.read(START, stream=StreamName("cluster/default/dev"))
    assert event.actor == "user:admin"
    fact = fact_of(event)
    assert fact.spec == {"kubeconfig": str(api.kubeconfigs / "config"), "context": "dev"}  # type: ignore[attr-defined]
    assert fact.labels == {"tier": "test"}  # type: ignore[attr-defined]


async def test_yaml_is_taken_as_well(api: Bench) -> None:
    text = f"""
apiVersion: trueup.dev/v1
kind: Repository
metadata: {{name: shop}}
spec: {{url: "file://{api.repositories}/shop"}}
"""
    headers = {"Content-Type": "application/yaml"}
    async with api.session.post(
        api.url + "/v1/resources", data=text.encode(), headers=headers
    ) as answer:
        assert answer.status == 200
    headers = {"Content-Type": "application/yaml"}
    async with api.session.post(
        api.url + "/v1/resources", data=b"kind: Repo\nspec: [", headers=headers
    ) as answer:
        assert answer.status == 422


async def test_nothing_is_applied_where_anything_is_wrong_and_all_of_it_is_named(
    api: Bench,
) -> None:
    head = await api.log.head()
    broken = api.application()
    broken["spec"]["sync"] = {"selfheal": True}
    problem = await post(api, [api.repository(), broken, {"kind": "Clutser"}], 422)
    assert problem["code"] == "refused"
    assert places(problem) == [
        ("request, item 2", "spec.sync.selfheal"),
        ("request, item 3", "kind"),
    ]
    assert problem["errors"][0]["hint"] == "did you mean selfHeal?"
    assert await api.log.head() == head


async def test_what_an_application_names_must_exist_or_come_with_it(api: Bench) -> None:
    await post(api, [api.repository("shop"), api.cluster("staging")])
    app = api.application(clusters=["stagin", "staging", "prod"])
    app["spec"]["source"]["repository"] = "shpo"
    problem = await post(api, [app, api.cluster("prod")], 422)
    assert places(problem) == [
        ("Application/shop", "spec.source.repository"),
        ("Application/shop", "spec.targets.clusters[0]"),
    ]
    assert [error["hint"] for error in problem["errors"]] == [
        "did you mean shop?",
        "did you mean staging?",
    ]


async def test_a_withdrawn_repository_is_no_longer_there_to_be_named(api: Bench) -> None:
    await post(api, [api.repository(), api.cluster()])
    await api.call("DELETE", "/v1/resources/repository/default/shop", status=200)
    problem = await post(api, [api.application()], 422)
    assert places(problem) == [("Application/shop", "spec.source.repository")]


async def test_paths_outside_of_the_configured_folders_are_refused(api: Bench) -> None:
    outside = api.repository()
    outside["spec"]["url"] = "file:///etc"
    sneaky = api.repository("b")
    sneaky["spec"]["url"] = f"file://{api.repositories}/%2e%2e/other"
    cluster = api.cluster()
    cluster["spec"]["kubeconfig"] = "/root/.kube/config"
    secret = api.repository("c")
    secret["spec"] = {"url": "https://git.example/x", "credentials": {"tokenFile": "/etc/shadow"}}
    problem = await post(api, [outside, sneaky, cluster, secret], 422)
    assert places(problem) == [
        ("Repository/shop", "spec.url"),
        ("Repository/b", "spec.url"),
        ("Cluster/dev", "spec.kubeconfig"),
        ("Repository/c", "spec.credentials.tokenFile"),
    ]
    assert "repository_roots" in problem["errors"][0]["message"]


async def test_a_symbolic_link_does_not_lead_out_of_a_root(api: Bench) -> None:
    api.repositories.mkdir(parents=True)
    (api.repositories / "shop").symlink_to("/etc")
    problem = await post(api, [api.repository()], 422)
    assert places(problem) == [("Repository/shop", "spec.url")]


async def test_delete_takes_back_once(api: Bench) -> None:
    await api.declare_shop()
    path = "/v1/resources/application/default/shop"
    answer = await api.call("DELETE", f"{path}?cascade=true&reason=closing", status=200)
    events = await api.log.read(START, stream=StreamName("app/default/shop"))
    fact = fact_of(events[-1])
    assert (fact.cascade, fact.reason) == (True, "closing")  # type: ignore[attr-defined]
    assert answer["position"] == events[-1].position
    gone = await api.call("DELETE", path, status=404)
    assert gone["code"] == "not-found"
    assert (await api.call("GET", "/v1/applications"))["items"] == []
    created = await post(api, [api.application()])
    assert created["results"][0]["result"] == "created"


async def test_what_an_application_names_cannot_be_deleted(api: Bench) -> None:
    await api.declare_shop()
    for path in ("repository/default/shop", "cluster/default/dev"):
        problem = await api.call("DELETE", f"/v1/resources/{path}", status=409)
        assert problem["code"] == "in-use"
        assert problem["applications"] == ["shop"]
    await api.call("DELETE", "/v1/resources/application/default/shop", status=200)
    await api.call("DELETE", "/v1/resources/repository/default/shop", status=200)
    await api.call("DELETE", "/v1/resources/clusters/default/dev", status=200)


async def test_names_that_are_nearly_right_are_told(api: Bench) -> None:
    await api.declare_shop()
    for method, path, hint in (
        ("GET", "/v1/applications/default/shpo", "did you mean shop?"),
        ("DELETE", "/v1/resources/aplication/default/shop", "did you mean application?"),
        ("GET", "/v1/clusters/default/dve", "did you mean dev?"),
    ):
        assert hint in (await api.call(method, path, status=404))["detail"]


async def test_resources_are_listed_in_pages_with_how_they_stand(api: Bench) -> None:
    await api.declare_shop(["dev", "prod", "staging"])
    await api.roll_out(["dev", "prod"])
    seen: list[str] = []
    after = ""
    while True:
        page = await api.call("GET", f"/v1/clusters/default?limit=2&after={after}", status=200)
        seen += [item["name"] for item in page["items"]]
        if page["next"] is None:
            break
        after = page["next"]
    assert seen == ["dev", "prod", "staging"]
    dev = await api.call("GET", "/v1/clusters/default/dev", status=200)
    assert dev["state"]["connected"] is True
    assert dev["state"]["serverVersion"] == "v1.36.0"
    assert [item["target"] for item in dev["targets"]] == ["shop@dev"]
    (app,) = (await api.call("GET", "/v1/applications", status=200))["items"]
    assert (app["sync"], app["synced"], app["total"]) == ("pending", 2, 3)
    repository = await api.call("GET", "/v1/repositories/default/shop", status=200)
    assert repository["applications"] == ["shop"]
    assert repository["resource"]["spec"]["url"].startswith("file://")


async def test_projects_are_apart(api: Bench) -> None:
    other = api.repository("shop")
    other["metadata"]["project"] = "other"
    await post(api, [api.repository("shop"), other])
    assert len((await api.call("GET", "/v1/repositories"))["items"]) == 2
    assert len((await api.call("GET", "/v1/repositories/other"))["items"]) == 1


async def test_a_request_that_is_sent_again_changes_nothing(api: Bench) -> None:
    await api.declare_shop()
    await api.roll_out()
    headers = {"Idempotency-Key": "0190163d-8694-739b-aea5-966c26f8ad90"}
    path, body = "/v1/targets/default/shop@dev/sync", {"reason": "now"}
    stale = await api.call("POST", path, body, headers=headers, status=422)
    assert stale["code"] == "key-reused"
    for key in (api.clock.event_id(), "any text will do"):
        headers = {"Idempotency-Key": key}
        first = await api.call("POST", path, body, headers=headers, status=202)
        head = await api.log.head()
        again = await api.call("POST", path, body, headers=headers, status=202)
        assert again["position"] == first["position"]
        assert await api.log.head() == head
        other = await api.call("POST", path, {"reason": "else"}, headers=headers, status=422)
        assert other["code"] == "key-reused"
    assert (await api.call("POST", path, body, status=202))["position"] > head


async def test_writers_at_the_same_time_all_come_through(api: Bench) -> None:
    import anyio

    results: list[Any] = []

    async def apply(interval: str) -> None:
        results.append(await post(api, [api.repository(interval=interval)]))

    async with anyio.create_task_group() as group:
        for second in range(1, 5):
            group.start_soon(apply, f"{second}m")
    words = sorted(result["results"][0]["result"] for result in results)
    assert words == ["configured"] * 3 + ["created"]


@pytest.mark.parametrize("body", [[], [1], "x", None, [{}], [{"kind": ["x"]}], {"kind": "Cluster"}])
async def test_odd_bodies_are_refused_with_a_problem(api: Bench, body: Any) -> None:
    async with api.session.post(api.url + "/v1/resources", json=body) as answer:
        assert answer.status in (400, 422)
        assert (await answer.json(content_type=None))["code"] in ("bad-request", "refused")


async def test_a_repeated_request_is_answered_though_a_control_repository_has_some_of_it(
    api: Bench,
) -> None:
    governor = api.repository("platform", control=True)
    await api.call("POST", "/v1/resources", governor, status=200)
    owned = declared(check_values([api.cluster("dev")], "test")[0], owner="repo/default/platform")
    await api.tell("cluster/default/dev", owned)
    headers = {"Idempotency-Key": "once"}
    body = [api.cluster("dev"), api.cluster("prod")]
    first = await api.call("POST", "/v1/resources", body, status=200, headers=headers)
    assert [item["result"] for item in first["results"]] == ["unchanged", "created"]
    again = await api.call("POST", "/v1/resources", body, status=200, headers=headers)
    assert again == first
