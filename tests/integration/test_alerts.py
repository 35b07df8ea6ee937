"""Alerts from a real engine process to a real receiver: drift, loss, kills on both sides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

from engine.cli.demo_stage import Stage
from engine.cli.demo_story import _application, _cluster, _repository
from tests.notifying import SECRET, Receiver, receiving

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]
CLUSTER = "prod"
TARGET = f"shop-{CLUSTER}@{CLUSTER}"


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "ops").write_text(SECRET)
    monkeypatch.setenv("TRUEUP_SECRET_ROOTS", str(tmp_path / "secrets"))
    monkeypatch.setenv("TRUEUP_NOTIFICATION_HOSTS", "127.0.0.1")
    stage = Stage(tmp_path, [CLUSTER])
    try:
        await stage.open()
        yield stage
    finally:
        await stage.close()


async def declare(stage: Stage, receiver: Receiver) -> None:
    stage.repository.start([CLUSTER])
    hook = {"url": receiver.url, "secretFile": str(stage.folder / "secrets" / "ops")}
    body = [
        _repository(stage.repository.url),
        _cluster(CLUSTER, str(stage.kubeconfig)),
        _application(CLUSTER),
        {
            "apiVersion": "trueup.dev/v1",
            "kind": "Notification",
            "metadata": {"name": "ops"},
            "spec": {"webhook": hook},
        },
    ]
    await stage.call("POST", "/v1/resources", body)
    await stage.wait(TARGET, "synced")


async def drift(stage: Stage, replicas: int) -> None:
    command = ("-n", "shop", "scale", "deploy/shop", f"--replicas={replicas}")
    await stage.kubectl(CLUSTER, *command)


def told(receiver: Receiver) -> list[tuple[str, str]]:
    """What was told, each alert once, as a receiver that remembers ids has it."""
    by_id = {got.id: (got.kind, got.value["subject"]) for got in receiver.got}
    return list(by_id.values())


async def until_told(receiver: Receiver, *wanted: tuple[str, str]) -> None:
    while not set(wanted) <= set(told(receiver)):
        await receiver.until(len(receiver.got) + 1)


async def delivered(stage: Stage, number: int) -> list[int]:
    """Wait for so many deliveries on the record; return the positions that they are about."""
    last = 0
    for _ in range(number):
        event = await stage.next_event("NotificationDelivered", last)
        last = event["position"]
    found = await stage.events(type="NotificationDelivered")
    return [event["payload"]["position"] for event in found]


async def test_drift_and_its_end_are_told_though_both_sides_are_killed(stage: Stage) -> None:
    async def hold(request: web.Request) -> web.Response:
        held.set()
        await anyio.sleep_forever()
        raise AssertionError

    held = anyio.Event()
    async with receiving() as receiver:
        port = int(receiver.url.split(":")[2].partition("/")[0])
        await declare(stage, receiver)
        receiver.answers.append(hold)
        await drift(stage, 9)
        await held.wait()
        # Sent, and not yet on the record: it is sent again by the next engine.
        await stage.kill_engine()
        await stage.start_engine()
        subject = f"default/{TARGET}"
        await until_told(receiver, ("drift", subject), ("recovered", subject))
    # The receiver is away; what happens meanwhile waits in the log.
    before = await stage.position()
    await drift(stage, 7)
    await stage.next_event("NotificationFailed", before)
    await stage.kill_engine()
    await stage.start_engine()
    async with receiving(port, receiver):
        await delivered(stage, 4)
    for got in receiver.got:
        got.check_signature()
    ids = [got.id for got in receiver.got]
    assert ids[0] == ids[1], "what was cut off comes again under its id"
    alerts = [kind for kind, _ in told(receiver)]
    assert alerts == ["drift", "recovered", "drift", "recovered"]
    positions = await delivered(stage, 4)
    assert positions == sorted(set(positions)), "each once, in order"
    assert all(got.position in positions for got in receiver.got)


async def test_a_lost_cluster_and_its_return_are_told_across_a_restart(stage: Stage) -> None:
    subject = f"default/cluster/{CLUSTER}"
    async with receiving() as receiver:
        await declare(stage, receiver)
        await stage.kill_clusters()
        await until_told(receiver, ("cluster-lost", subject))
        await stage.next_event("NotificationDelivered", 0)
        await stage.kill_engine()
        await stage.start_engine()
        await stage.start_clusters()
        await until_told(receiver, ("cluster-lost", subject), ("recovered", subject))


async def test_the_receivers_secret_is_nowhere(stage: Stage) -> None:
    async with receiving() as receiver:
        await declare(stage, receiver)
        await drift(stage, 9)
        await until_told(receiver, ("drift", f"default/{TARGET}"))
    written: list[Any] = await stage.events()
    log = (stage.folder / "engine.log").read_text()
    for secret in (SECRET, SECRET.removeprefix("whsec_")):
        assert secret not in str(written)
        assert secret not in log
