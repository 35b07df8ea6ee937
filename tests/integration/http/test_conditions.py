"""Requests sent again, and requests that hold only for what was seen."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving import Bench

pytestmark = pytest.mark.anyio
SHOP = "/v1/resources/application/default/shop"


async def answer(
    api: Bench, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with api.session.request(method, api.url + path, json=body, headers=named) as got:
        return got.status, await got.json(content_type=None), got.headers


@pytest.mark.parametrize("key", ["", "a word"])
async def test_every_write_sent_again_gives_the_first_answer(api: Bench, key: str) -> None:
    def named() -> dict[str, str]:
        named.count += 1  # type: ignore[attr-defined]
        return {"Idempotency_Key": f"{key} {named.count}" if key else api.clock.event_id()}  # type: ignore[attr-defined]

    named.count = 0  # type: ignore[attr-defined]
    target, app = "/v1/targets/default/shop@dev", "/v1/applications/default/shop"
    everything = [api.repository(), api.cluster(), api.application()]
    changed = [api.repository(interval="2m"), api.cluster()]
    why = {"reason": "why"}
    await api.call("POST", "/v1/tokens", {"name": "bob"}, status=201)
    writes: list[tuple[str, str, Any]] = [
        ("POST", "/v1/resources", everything),
        ("POST", "/v1/resources", changed),
        ("PUT", SHOP, api.application(sync={"mode": "manual"})),
        ("POST", f"{target}/sync", why),
        ("POST", f"{target}/suspend", why),
        ("POST", f"{target}/resume", why),
        ("POST", f"{app}/suspend", why),
        ("POST", f"{app}/sync", why),
        ("POST", f"{app}/resume", why),
        ("DELETE", f"{SHOP}?reason=over", None),
        ("DELETE", "/v1/tokens/bob", None),
    ]
    said = []
    for method, path, body in writes:
        if path == f"{target}/sync":
            await api.roll_out()
        headers = named()
        first = await answer(api, method, path, body, **headers)
        assert first[0] < 300, first
        said.append((method, path, body, headers, first))
        assert (await answer(api, method, path, body, **headers))[:2] == first[:2]
    head = await api.log.head()
    for method, path, body, headers, first in said:
        if method != "DELETE" or "tokens" in path:
            # Whatever has happened since.
            again = await answer(api, method, path, body, **headers)
            assert again[0] == first[0]
            assert {**again[1], "suspended": 0} == {**first[1], "suspended": 0}
        assert (await answer(api, method, path, body, **headers))[0] == first[0]
    assert await api.log.head() == head


async def test_a_key_stands_for_one_request_of_one_caller(api: Bench) -> None:
    await api.declare_shop()
    await api.roll_out()
    path = "/v1/targets/default/shop@dev/suspend"
    key = "one"
    assert (await answer(api, "POST", path, {"reason": "a"}, Idempotency_Key=key))[0] == 200
    status, problem, _ = await answer(api, "POST", path, {"reason": "b"}, Idempotency_Key=key)
    assert (status, problem["code"]) == (422, "key-reused")
    other = "/v1/targets/default/shop@dev/resume"
    assert (await answer(api, "POST", other, {"reason": "a"}, Idempotency_Key=key))[0] == 200
    status, problem, _ = await answer(
        api, "POST", "/v1/resources", api.cluster("new"), Idempotency_Key="k" * 201
    )
    assert (status, problem["code"]) == (400, "bad-request")


async def test_resources_that_came_with_another_request_are_not_taken_for_the_first(
    api: Bench,
) -> None:
    await answer(api, "POST", "/v1/resources", [api.repository()], Idempotency_Key="x")
    both = [api.repository(), api.cluster()]
    status, problem, _ = await answer(api, "POST", "/v1/resources", both, Idempotency_Key="x")
    assert (status, problem["code"]) == (422, "key-reused")


async def test_a_token_is_shown_once_also_to_who_asks_again(api: Bench) -> None:
    first = await answer(api, "POST", "/v1/tokens", {"name": "ci"}, Idempotency_Key="x")
    assert first[0] == 201
    again = await answer(api, "POST", "/v1/tokens", {"name": "ci"}, Idempotency_Key="x")
    assert (again[0], again[1]["code"]) == (409, "token-shown")


async def test_a_resource_is_written_only_as_it_was_seen(api: Bench) -> None:
    await api.declare_shop()
    status, body, headers = await answer(api, "GET", SHOP)
    assert status == 200
    seen = headers["ETag"]
    body["spec"]["sync"] = {"prune": False}
    status, done, headers = await answer(api, "PUT", SHOP, body, If_Match=seen)
    assert (status, done["result"]) == (200, "configured")
    assert headers["ETag"] == f'"{done["position"]}"'
    body["spec"]["sync"] = {"prune": True}
    for tag in (seen, f"W/{headers['ETag']}", '"1", "2"'):
        status, problem, _ = await answer(api, "PUT", SHOP, body, If_Match=tag)
        assert (status, problem["code"]) == (412, "precondition-failed")
    status, problem, _ = await answer(api, "DELETE", SHOP, If_Match=seen)
    assert (status, problem["code"]) == (412, "precondition-failed")
    assert (await answer(api, "PUT", SHOP, body, If_Match="nonsense"))[0] == 412
    assert (await answer(api, "PUT", SHOP, body, If_None_Match="*"))[0] == 412
    assert (await answer(api, "PUT", SHOP, body, If_Match="*"))[0] == 200
    status, _, headers = await answer(api, "GET", SHOP)
    assert (await answer(api, "DELETE", SHOP, If_Match=headers["ETag"]))[0] == 200
    assert (await answer(api, "PUT", SHOP, body, If_Match="*"))[0] == 412
    assert (await answer(api, "PUT", SHOP, body, If_None_Match="*"))[0] == 201


async def test_a_path_takes_its_own_resource_only(api: Bench) -> None:
    await api.declare_shop()
    for body in (
        api.application("other"),
        api.cluster("shop"),
        [api.application()] * 1 + [api.cluster()],
    ):
        status, problem, _ = await answer(api, "PUT", SHOP, body)
        assert (status, problem["code"]) == (422, "wrong-resource")


@pytest.mark.parametrize(
    "path",
    ["/v1/applications", "/v1/targets/default/shop@dev", "/v1/events", "/v1/openapi.json", SHOP],
)
async def test_what_has_not_changed_is_not_sent_again(api: Bench, path: str) -> None:
    await api.declare_shop()
    await api.roll_out()
    status, _, headers = await answer(api, "GET", path)
    assert status == 200
    for tag in (headers["ETag"], f'"other", {headers["ETag"]}', "*"):
        status, body, _ = await answer(api, "GET", path, If_None_Match=tag)
        assert (status, body) == (304, None)
    assert (await answer(api, "GET", path, If_None_Match='"other"'))[0] == 200
    await api.call("POST", "/v1/resources", api.application(sync={"prune": False}), status=200)
    if path != "/v1/openapi.json":
        assert (await answer(api, "GET", path, If_None_Match=headers["ETag"]))[0] == 200


async def test_a_body_of_another_type_is_refused(api: Bench) -> None:
    for path, data in (("/v1/resources", b"kind: x"), ("/v1/tokens", b'{"name": "x"}')):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            async with api.session.post(
                api.url + path, data=data, headers={"Content-Type": kind}
            ) as got:
                assert got.status == 415
                assert (await got.json(content_type=None))["code"] == "unsupported-type"


async def test_a_large_request_sent_again_is_found_whole(api: Bench) -> None:
    many = [api.cluster(f"c{number}") for number in range(1203)]
    first = await answer(api, "POST", "/v1/resources", many, Idempotency_Key="many")
    assert (first[0], len(first[1]["results"])) == (200, 1203)
    await api.call("POST", "/v1/resources", api.repository(), status=200)
    head = await api.log.head()
    again = await answer(api, "POST", "/v1/resources", many, Idempotency_Key="many")
    assert again[:2] == first[:2]
    assert await api.log.head() == head
