"""Notifications on the command line: declared, looked at, tested, replayed."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from events.catalog import (
    ConfigurationRefused,
    NotificationDelivered,
    NotificationFailed,
    NotificationReplayRequested,
    NotificationStopped,
    NotificationTested,
)
from events.codec import fact_of
from events.event import START
from events.vocabulary import ConfigurationProblem
from tests.integration.cli.conftest import Trueup
from tests.serving import Bench

pytestmark = pytest.mark.anyio
KEY = "notification/default/ops"


async def declare(api: Bench, trueup: Trueup, folder: Path) -> int:
    file = folder / "ops.yaml"
    file.write_text(
        f"""
apiVersion: trueup.dev/v1
kind: Notification
metadata: {{name: ops}}
spec:
  webhook:
    url: https://alerts.example.org/trueup
    secretFile: {api.folder}/secrets/ops
"""
    )
    done = await trueup("apply", "-f", str(file))
    assert done.code == 0, done.err
    return int(await api.log.head())


async def test_a_notification_is_declared_shown_and_taken_back(
    api: Bench, trueup: Trueup, terminal: None, tmp_path: Path
) -> None:
    of_round = await declare(api, trueup, tmp_path)
    await api.tell(KEY, NotificationDelivered(3, of_round, "drift", "target/default/shop@prod"))
    found = (await trueup("get", "notifications")).out.splitlines()
    assert found[0].split() == ["NOTIFICATION", "STATE", "TO", "DELIVERED", "LAST", "WHY"]
    assert found[1].split()[:4] == ["ops", "ok", "webhook", "1"]
    await api.tell(KEY, NotificationFailed(4, of_round, "http-503", "the receiver answered 503"))
    assert "503" in (await trueup("get", "notifications")).out
    await api.tell(KEY, NotificationStopped(4, of_round, 1, "mend it"))
    assert "stopped" in (await trueup("get", "notifications")).out
    done = await trueup("describe", "notification/ops")
    assert done.err == ""
    described = done.out
    for said in ("secretFile", "http-503: the receiver answered 503", "stopped at #4: mend it"):
        assert said in described
    assert (await trueup("delete", "notification/ops")).code == 0
    assert "no notifications" in (await trueup("get", "notifications")).err


async def test_a_test_waits_for_what_comes_of_it(
    api: Bench, trueup: Trueup, tmp_path: Path
) -> None:
    await declare(api, trueup, tmp_path)

    async def answer(code: str, message: str) -> None:
        before = await api.log.read(START, types=["NotificationTested"])
        while True:
            asked = await api.log.read(START, types=["NotificationTestRequested"])
            if len(asked) > len(before):
                break
            await anyio.lowlevel.checkpoint()
        await api.tell(KEY, NotificationTested(asked[-1].position, code, message))

    for code, message, exit_code, said in (
        ("", "", 0, "test delivered"),
        ("timeout", "the receiver did not answer in time", 1, "did not answer in time (timeout)"),
    ):
        async with anyio.create_task_group() as group:
            group.start_soon(answer, code, message)
            done = await trueup("notify", "test", "ops")
        assert done.code == exit_code
        assert said in done.out


async def test_a_replay_begins_at_a_position_of_the_log(
    api: Bench, trueup: Trueup, tmp_path: Path
) -> None:
    await declare(api, trueup, tmp_path)
    done = await trueup("notify", "replay", "ops", "--from", "1", "--reason", "they lost a disk")
    assert done.code == 0
    (asked,) = await api.log.read(START, types=["NotificationReplayRequested"])
    assert fact_of(asked) == NotificationReplayRequested(1, "they lost a disk")
    assert asked.actor.startswith("user:")
    for start in ("0", "100000"):
        refused = await trueup("notify", "replay", "ops", "--from", start)
        assert refused.code == 2
        assert "position" in refused.err
    missing = await trueup("notify", "replay", "opps", "--from", "1")
    assert "did you mean ops?" in missing.err


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("slack: {urlFile: /etc/passwd}", "secret_roots"),
        ("webhook: {url: 'https://x.example/?t=1', secretFile: /s}", "urlFile"),
        ("webhook: {url: 'ftp://x.example/', secretFile: /s}", "https://"),
        ("webhook: {url: 'https://x.example/'}", "secretFile"),
        ("events: [drifft]\n  slack: {urlFile: /s}", "did you mean drift?"),
        ("giveUpAfter: 1s\n  slack: {urlFile: /s}", "1m and 744h"),
        ("projects: [b@d]\n  slack: {urlFile: /s}", "no name of a project"),
        ("events: [drift]", "webhook or slack"),
    ],
)
async def test_a_bad_notification_is_refused_with_its_place(
    api: Bench, trueup: Trueup, tmp_path: Path, spec: str, said: str
) -> None:
    file = tmp_path / "bad.yaml"
    head = "apiVersion: trueup.dev/v1\nkind: Notification\nmetadata: {name: ops}\nspec:\n  "
    file.write_text(head + spec + "\n")
    done = await trueup("apply", "-f", str(file))
    assert done.code == 2
    assert said in done.err
    assert "bad.yaml:" in done.err


async def test_a_refused_configuration_is_told_everywhere(
    api: Bench, trueup: Trueup, tmp_path: Path, terminal: None
) -> None:
    await api.call("POST", "/v1/resources", api.repository(control=True), status=200)
    problem = ConfigurationProblem(
        "apps/shop.yaml", 7, "spec.kontext", "unknown field", "did you mean context?"
    )
    await api.tell("repo/default/shop", ConfigurationRefused("5ca1ab1e" * 5, 1, (problem,)))
    assert "refused: apps/shop.yaml:7" in (await trueup("get", "repositories")).out
    for command in (("describe", "repository/shop"), ("timeline", "repository/shop")):
        out = (await trueup(*command)).out
        assert "apps/shop.yaml:7: spec.kontext unknown field (did you mean context?)" in out


async def test_the_past_of_a_notification_and_of_what_it_told_of(
    api: Bench, trueup: Trueup, tmp_path: Path, terminal: None
) -> None:
    await api.declare_shop()
    await api.roll_out()
    of_round = await declare(api, trueup, tmp_path)
    about = "target/default/shop@dev"
    await api.tell(KEY, NotificationDelivered(3, of_round, "drift", about))
    then = str(await api.log.head())
    await api.tell(KEY, NotificationDelivered(4, of_round, "recovered", about))
    await api.tell(KEY, NotificationFailed(5, of_round, "timeout", "no answer"))
    rows = (await trueup("get", "notifications", "--at", then)).out.splitlines()
    assert rows[1].split()[:4] == ["ops", "ok", "webhook", "1"]
    assert "synced" in (await trueup("get", "targets", "--at", then)).out
    told = (await trueup("timeline", "shop@dev")).out
    assert "notification/ops: told of #3 (drift)" in told
