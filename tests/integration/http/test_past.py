"""Reading the past over HTTP: by position, by time, and what is no moment."""

from __future__ import annotations

import pytest

from engine.http.wire import timestamp
from events.catalog import ClusterLost, ReconcileHeld
from events.event import Position
from tests.serving import SHA, Bench

pytestmark = pytest.mark.anyio
TARGET = "/v1/targets/default/shop@dev"


async def test_everything_is_shown_as_it_stood_at_a_position(api: Bench) -> None:
    await api.declare_shop()
    await api.roll_out()
    then = await api.log.head()
    await api.tell("target/default/shop@dev", ReconcileHeld("manual", "1 objects differ"))
    await api.tell("cluster/default/dev", ClusterLost("unreachable", "no route"))
    now = await api.call("GET", TARGET, status=200)
    was = await api.call("GET", f"{TARGET}?at={then}", status=200)
    assert (now["status"]["sync"], was["status"]["sync"]) == ("held", "synced")
    assert was["position"] == then
    (target,) = (await api.call("GET", f"/v1/targets/default?at={then}", status=200))["items"]
    assert (target["sync"], target["revision"]) == ("synced", SHA)
    for path in ("clusters/default/dev", "clusters/default"):
        shown = await api.call("GET", f"/v1/{path}?at={then}", status=200)
        cluster = shown["items"][0] if "items" in shown else shown
        assert cluster["state"]["lost"] is None
    lost = await api.call("GET", "/v1/clusters/default/dev", status=200)
    assert lost["state"]["lost"]["message"] == "no route"
    assert (await api.call("GET", f"{TARGET}/diff?at={then}", status=200))["same"]
    before = await api.call("GET", "/v1/targets?at=0", status=200)
    assert (before["items"], before["position"]) == ([], 0)
    await api.call("GET", f"{TARGET}?at=1", status=404)


async def test_a_timeline_as_of_a_moment_ends_there(api: Bench) -> None:
    await api.declare_shop()
    await api.roll_out()
    then = await api.log.head()
    await api.tell("target/default/shop@dev", ReconcileHeld("manual", "1 objects differ"))
    told = await api.call("GET", f"/v1/timeline?subject=shop@dev&at={then}", status=200)
    assert told["position"] == then
    assert told["items"]
    assert all(item["position"] <= then for item in told["items"])
    events = await api.call("GET", f"/v1/events?at={then}", status=200)
    assert (events["position"], events["items"][-1]["position"]) == (then, then)


async def test_a_time_means_the_last_position_recorded_not_after_it(api: Bench) -> None:
    await api.declare_shop()
    await api.roll_out()
    (event,) = await api.log.read_at([Position(3)])
    shown = await api.call("GET", f"/v1/targets?at={timestamp(event.recorded_at)}", status=200)
    assert shown["position"] == await api.log.position_at(event.recorded_at)
    for at in ("2020-03-03", "2020-03-03T14:00:00Z", "9000d ago", "999999999d1h2d ago"):
        assert (await api.call("GET", f"/v1/targets?at={at}", status=200))["position"] == 0
    for at in ("0s ago", "2999-01-01"):
        now = await api.call("GET", f"/v1/targets?at={at}", status=200)
        assert now["position"] == await api.log.head()


@pytest.mark.parametrize(
    "at", ["yesterday", "-1", "1.5", "2026-13-01", "999999", "2h", "99h99 ago"]
)
async def test_what_is_no_moment_is_refused_with_how_to_write_one(api: Bench, at: str) -> None:
    await api.declare_shop()
    status = 409 if at == "999999" else 400
    problem = await api.call("GET", f"/v1/targets?at={at}", status=status)
    assert "at: " in problem["detail"]
    await api.call("GET", f"/v1/events?at={at}", status=200 if at == "999999" else 400)


async def test_the_past_cannot_be_followed(api: Bench) -> None:
    await api.declare_shop()
    headers = {"Accept": "text/event-stream"}
    problem = await api.call("GET", "/v1/events?at=1", status=400, headers=headers)
    assert "still to come" in problem["detail"]
