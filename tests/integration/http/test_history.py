"""The log and the timelines: pages, filters, subjects, and following them live."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import anyio
import pytest

from engine.http.api import Limits
from events.catalog import CommitSeen, HoldLifted, KindReadable, ObjectsObserved, ReconcileHeld
from events.event import Position, StreamName
from events.vocabulary import ObjectRef, Observation, Presence
from tests.serving import OTHER_SHA, SHA, Bench, bench

pytestmark = pytest.mark.anyio


async def positions(api: Bench, path: str) -> list[int]:
    found: list[int] = []
    cursor = ""
    while True:
        page = await api.call("GET", path + cursor, status=200)
        found += [item["position"] for item in page["items"]]
        if page["next"] is None:
            return found
        way = "before" if "order=desc" in path else "after"
        cursor = f"&{way}={page['next']}"


async def test_events_are_paged_and_filtered(api: Bench) -> None:
    await api.declare_shop()
    await api.roll_out()
    head = await api.log.head()
    assert await positions(api, "/v1/events?limit=3") == list(range(1, head + 1))
    of_repo = await positions(api, "/v1/events?limit=2&stream=repo/default/shop")
    found = await api.log.read(Position(0), stream=StreamName("repo/default/shop"))
    assert of_repo == [event.position for event in found]
    page = await api.call("GET", "/v1/events?type=CommitSeen,RefMoved", status=200)
    assert [item["type"] for item in page["items"]] == ["CommitSeen", "RefMoved"]
    assert page["items"][0]["payload"]["commit"] == SHA
    assert page["items"][0]["recordedAt"].endswith("Z")
    wrong = await api.call("GET", "/v1/events?type=CommitSeem", status=400)
    assert "did you mean CommitSeen?" in wrong["detail"]


async def subject(api: Bench, words: str, status: int = 200) -> Any:
    answer = await api.call("GET", f"/v1/timeline?subject={words}", status=status)
    return answer["subject"] if status == 200 else answer


async def test_subjects_are_found_by_what_people_call_them(api: Bench) -> None:
    await api.declare_shop()
    await api.roll_out()
    assert await subject(api, "shop@dev") == "target/default/shop@dev"
    assert await subject(api, "application/shop") == "app/default/shop"
    assert await subject(api, "shop") == "app/default/shop"
    assert await subject(api, "cluster/dev") == "cluster/default/dev"
    assert await subject(api, "repository/shop") == "repo/default/shop"
    assert await subject(api, "token/default/admin") == "token/default/admin"
    assert await subject(api, SHA[:7]) == f"commit/{SHA}"
    assert await subject(api, f"commit/{SHA[:9].upper()}") == f"commit/{SHA}"
    assert "did you mean shop@dev?" in (await subject(api, "shop@dve", 404))["detail"]
    assert "did you mean dev?" in (await subject(api, "cluster/dve", 404))["detail"]
    await subject(api, "0000000", 404)
    await subject(api, "a/b/c/d/e", 404)
    await subject(api, "", 400)


async def test_a_commit_prefix_that_means_two_is_refused(api: Bench) -> None:
    await api.declare_shop()
    await api.tell("repo/default/shop", CommitSeen(SHA), CommitSeen(OTHER_SHA))
    problem = await subject(api, SHA[:7], 409)
    assert problem["code"] == "ambiguous"
    assert await subject(api, OTHER_SHA[:8]) == f"commit/{OTHER_SHA}"


def seen(kind: str, name: str, namespace: str, api_version: str) -> ObjectsObserved:
    ref = ObjectRef(api_version, kind, namespace, name)
    return ObjectsObserved(
        (Observation(ref, Presence.PRESENT, application="default/shop"),), "list"
    )


async def test_objects_are_found_by_cluster_namespace_kind_and_name(api: Bench) -> None:
    await api.declare_shop()
    await api.tell(
        "cluster/default/dev",
        seen("Deployment", "web", "shop", "apps/v1"),
        seen("Namespace", "shop", "", "v1"),
        seen("Ingress", "web", "shop", "networking.k8s.io/v1"),
        seen("Ingress", "web", "shop", "example.org/v1"),
        KindReadable("apps/v1", "Deployment", True),
        KindReadable("v1", "Namespace", False),
        KindReadable("networking.k8s.io/v1", "Ingress", True),
        KindReadable("example.org/v1", "Ingress", True),
    )
    deployment = "object/default/dev/apps/Deployment|shop|web"
    assert await subject(api, "dev/shop/Deployment/web") == deployment
    assert await subject(api, "dev/shop/deployment/web") == deployment
    assert await subject(api, deployment) == deployment
    namespace = "object/default/dev//Namespace||shop"
    assert await subject(api, "dev/Namespace/shop") == namespace
    assert await subject(api, "dev/-/Namespace/shop") == namespace
    assert (await subject(api, "dev/shop/Ingress/web", 409))["code"] == "ambiguous"
    found = await subject(api, "dev/shop/Ingress.example.org/web")
    assert found == "object/default/dev/example.org/Ingress|shop|web"
    near = await subject(api, "dev/shop/Deploymnt/web", 404)
    assert "did you mean Deployment?" in near["detail"]
    assert "nothing is recorded" in (await subject(api, "dev/x/Deployment/web", 404))["detail"]
    assert "did you mean dev?" in (await subject(api, "dve/x/Deployment/web", 404))["detail"]


async def test_a_timeline_has_all_that_is_about_its_subject_in_pages_both_ways(api: Bench) -> None:
    await api.declare_shop(["dev", "prod"])
    await api.roll_out(["dev", "prod"])
    there = await positions(api, "/v1/timeline?subject=shop@dev&limit=2")
    events = await api.log.read(Position(0), stream=StreamName("target/default/shop@dev"))
    assert there == [event.position for event in events]
    back = await positions(api, "/v1/timeline?subject=application/shop&order=desc&limit=2")
    assert back == sorted(back, reverse=True)
    assert set(there) < set(back)


class Stream:
    """Server-sent events as a client reads them."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def next(self) -> tuple[int, dict[str, Any]]:
        """Return the next event's id and data."""
        fields: dict[str, str] = {}
        while True:
            line = (await self.answer.content.readline()).decode().rstrip("\n")
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "data" in fields:
                return int(fields["id"]), json.loads(fields["data"])


@asynccontextmanager
async def following(api: Bench, path: str, last: int | None = None) -> AsyncIterator[Stream]:
    headers = {"Accept": "text/event-stream"}
    if last is not None:
        headers["Last-Event-ID"] = str(last)
    async with api.session.get(api.url + path, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "text/event-stream"
        with anyio.fail_after(10):
            yield Stream(answer)


async def test_following_tells_the_past_and_then_what_comes(api: Bench) -> None:
    async with following(api, "/v1/events") as stream:
        position, event = await stream.next()
        assert (position, event["type"]) == (1, "TokenCreated")
        await api.declare_shop()
        types = [(await stream.next())[1]["type"] for _ in range(3)]
        assert types == ["Declared"] * 3


async def test_following_is_resumed_by_the_last_position(api: Bench) -> None:
    await api.declare_shop()
    async with following(api, "/v1/events?after=0", last=2) as stream:
        assert (await stream.next())[0] == 3
    async with api.session.get(
        api.url + "/v1/events",
        headers={"Accept": "text/event-stream", "Last-Event-ID": "x"},
    ) as answer:
        assert answer.status == 400


async def test_following_keeps_to_its_filter(api: Bench) -> None:
    await api.declare_shop()
    path = "/v1/events?stream=target/default/shop@dev&type=ReconcileHeld"
    async with following(api, path) as stream:
        for turn in range(2):
            await api.tell(
                "target/default/shop@dev", HoldLifted("x"), ReconcileHeld("a", str(turn))
            )
            _, event = await stream.next()
            assert (event["type"], event["payload"]["message"]) == ("ReconcileHeld", str(turn))


async def test_a_followed_timeline_keeps_to_its_subject(api: Bench) -> None:
    await api.declare_shop()
    await api.roll_out()
    past = await positions(api, "/v1/timeline?subject=cluster/dev")
    async with following(api, "/v1/timeline?subject=cluster/dev") as stream:
        assert [(await stream.next())[0] for _ in past] == past
        await api.tell("repo/default/shop", CommitSeen(OTHER_SHA))
        held = await api.tell("target/default/shop@dev", ReconcileHeld("a", "b"))
        assert (await stream.next())[0] == held


async def test_a_quiet_stream_is_kept_alive(tmp_path: Any) -> None:
    async with (
        bench(tmp_path, Limits(heartbeat=0.01)) as api,
        following(api, "/v1/events?after=1") as stream,
    ):
        lines = [await stream.answer.content.readline() for _ in range(6)]
        assert b": still here\n" in lines


async def test_open_streams_do_not_keep_the_server_from_stopping(tmp_path: Any) -> None:
    with anyio.fail_after(4):
        async with bench(tmp_path) as api:
            headers = {"Accept": "text/event-stream"}
            answer = await api.session.get(api.url + "/v1/events", headers=headers)
            await answer.content.readline()
            keep = answer
    assert keep.status == 200


async def test_a_rebuild_tells_its_progress_and_its_end(api: Bench) -> None:
    async with api.session.post(api.url + "/v1/views/targets/rebuild") as answer:
        assert answer.status == 200
        lines = [json.loads(line) async for line in answer.content]
    assert (lines[0]["view"], lines[0]["position"], lines[0]["head"]) == ("targets", 1, 2)
    assert lines[-1]["done"]["documents"] == 7
    assert lines[-1]["done"]["equal"] is True
    wrong = await api.call("POST", "/v1/views/tagrets/rebuild", status=404)
    assert "did you mean targets?" in wrong["detail"]


async def test_bodies_are_shown_by_digest(api: Bench) -> None:
    await api.declare_shop()
    await api.roll_out()
    desired = (await api.call("GET", "/v1/targets/default/shop@dev"))["desired"]
    assert await api.call("GET", f"/v1/blobs/{desired['objects']}", status=200) == []
    await api.call("GET", "/v1/blobs/sha256:" + "0" * 64, status=404)
    await api.call("GET", "/v1/blobs/x", status=404)
