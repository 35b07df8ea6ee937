"""`get --watch`: the list, then what changes in it."""

from __future__ import annotations

import anyio
import pytest

from engine.cli.client import connect
from engine.cli.connection import Connection
from engine.cli.watch import Change, changed, watch
from events.catalog import ReconcileHeld
from tests.integration.cli.conftest import Trueup
from tests.serving import Bench

pytestmark = pytest.mark.anyio


async def test_a_watched_list_tells_only_what_has_changed(
    api: Bench, trueup: Trueup, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.declare_shop(["dev", "prod"])
    await api.roll_out(["dev", "prod"])
    monkeypatch.setattr("engine.cli.watch.PAUSE", 0)
    sent, told = anyio.create_memory_object_stream[Change](10)
    async with connect(Connection()) as client, anyio.create_task_group() as group:
        group.start_soon(watch, client, "/v1/targets/default", {}, "target", sent.send_nowait)
        with anyio.fail_after(10):
            first = await told.receive()
            assert [item["target"] for item in first.items] == ["shop@dev", "shop@prod"]
            await api.tell("target/default/shop@prod", ReconcileHeld("window", "not now"))
            second = await told.receive()
        assert [(item["target"], item["sync"]) for item in second.items] == [("shop@prod", "held")]
        assert not second.gone
        group.cancel_scope.cancel()
    sent.close()
    told.close()


def test_what_is_gone_is_named() -> None:
    one, two = {"name": "a", "x": 1}, {"name": "b", "x": 1}
    found = changed({"a": one, "b": two}, {"b": {**two, "x": 2}, "c": one})
    assert found == Change([{**two, "x": 2}, one], ["a"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("targets", "-w", "--at", "5"), "goes with no --at"),
        (("targets", "-w", "-o", "json"), "never ends"),
        (("target", "shop@dev", "--watch"), "timeline"),
    ],
)
async def test_what_cannot_be_watched_is_refused_with_a_remedy(
    api: Bench, trueup: Trueup, words: tuple[str, ...], said: str
) -> None:
    done = await trueup("get", *words)
    assert done.code == 2
    assert said in done.err
